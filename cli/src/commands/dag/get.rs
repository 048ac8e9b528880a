//! `dag get`.

use clap::Args;
use stella_api::types::{BrakeView, DagVersionView, DagView};
use stella_domain::ids::DagId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{by, details, duration, time},
};

/// A version of a DAG, with its spec.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag get nightly
  stella orch dag get nightly --dag-version 3
  stella orch dag get nightly -o json | jq .spec")]
pub(crate) struct Get {
    /// The DAG.
    dag: DagId,
    /// Its version; the active one, or else the latest, otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dag_version: Option<u32>,
    #[command(flatten)]
    api: ApiArgs,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let dag: DagView = client.get(&path("dags", &self.dag, ""), &[]).await?;
        let version = self.dag_version.unwrap_or(dag.active_version.unwrap_or(dag.latest_version));
        let version: DagVersionView =
            client.get(&path("dags", &self.dag, &format!("/versions/{version}")), &[]).await?;
        self.api.output.print(&version, |version| {
            let spec = serde_json::to_string_pretty(&version.spec.to_value()).unwrap_or_default();
            let details = details(&[
                ("dag", version.dag_id.to_string()),
                ("version", version.version.to_string()),
                ("digest", version.digest.clone()),
                ("registered", time(version.registered_at)),
                ("seq", version.seq.to_string()),
                ("paused", dag.paused.as_ref().map(by).unwrap_or_default()),
                ("budget spent", dag.brake.as_ref().map(causes).unwrap_or_default()),
            ]);
            format!("{details}\n{spec}")
        })
    }
}

/// Who started so many runs that it was paused.
fn causes(brake: &BrakeView) -> String {
    let causes: Vec<String> = brake
        .causes
        .iter()
        .map(|cause| match &cause.schedule_id {
            Some(id) => format!("{} by schedule {id}", cause.starts),
            None => format!("{} by {}", cause.starts, cause.actor),
        })
        .collect();
    let (starts, window) = (brake.starts, duration(brake.window_ms));
    format!("{starts} runs were started within {window}: {}", causes.join(", "))
}
