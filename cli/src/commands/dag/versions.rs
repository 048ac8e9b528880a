//! `dag versions`.

use clap::Args;
use stella_api::types::DagVersionItem;
use stella_domain::ids::DagId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Format, Table, json, time},
};

/// The versions of a DAG, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag versions nightly
  stella orch dag versions nightly -o json | jq 'select(.active)'")]
pub(crate) struct Versions {
    /// The DAG.
    dag: DagId,
    #[command(flatten)]
    api: ApiArgs,
}

impl Versions {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let versions: Vec<DagVersionItem> =
            client.list(&path("dags", &self.dag, "/versions"), &[], usize::MAX).await?;
        match self.api.output.format {
            Format::Json => versions.iter().try_for_each(json),
            Format::Table => self.api.output.print(&versions, |versions| table(versions)),
        }
    }
}

fn table(versions: &[DagVersionItem]) -> String {
    let mut table = Table::new(&["VERSION#", "STATE", "REGISTERED", "SEQ#", "DIGEST"]);
    for version in versions {
        table.row([
            version.version.to_string(),
            state(version).to_owned(),
            time(version.registered_at),
            version.seq.to_string(),
            version.digest.clone(),
        ]);
    }
    table.text("no versions")
}

fn state(version: &DagVersionItem) -> &'static str {
    match (version.active, version.disabled) {
        (true, false) => "active",
        (true, true) => "active, disabled",
        (false, true) => "disabled",
        (false, false) => "-",
    }
}
