//! `dag list`.

use clap::Args;
use stella_api::types::DagView;

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Format, Table, json, time},
};

/// All DAGs, by name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag list
  stella orch dag list -o json | jq .dagId")]
pub(crate) struct List {
    #[command(flatten)]
    api: ApiArgs,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let dags: Vec<DagView> = self.api.client()?.list("/dags", &[], usize::MAX).await?;
        match self.api.output.format {
            Format::Json => dags.iter().try_for_each(json),
            Format::Table => self.api.output.print(&dags, |dags| table(dags)),
        }
    }
}

fn table(dags: &[DagView]) -> String {
    let mut table = Table::new(&["DAG", "ACTIVE#", "LATEST#", "PAUSED", "CREATED", "UPDATED"]);
    for dag in dags {
        table.row([
            dag.dag_id.to_string(),
            dag.active_version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            dag.latest_version.to_string(),
            dag.paused.as_ref().map_or_else(|| "-".to_owned(), |mark| time(mark.at)),
            time(dag.created_at),
            time(dag.updated_at),
        ]);
    }
    table.text("no DAGs; register one: `stella orch dag apply FILE`")
}
