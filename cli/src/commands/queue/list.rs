//! `queue list`, `queue why`: steps that wait, and why.

use std::num::NonZeroUsize;

use clap::Args;
use stella_api::types::{WaitingStepView, WaitingStepsView};
use stella_domain::ids::{DagId, PluginName, RunId};

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Table, time_or_dash},
};

/// Steps that wait for a worker or for their next attempt, oldest first, each with the reason why.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue list
  stella orch queue list --dag nightly --limit 10
  stella orch queue list --plugin core -o json")]
pub(super) struct List {
    /// Of this DAG.
    #[arg(long, value_name = "DAG")]
    dag: Option<DagId>,
    /// For this plugin.
    #[arg(long)]
    plugin: Option<PluginName>,
    /// Steps shown at most.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
    #[command(flatten)]
    api: ApiArgs,
}

/// Why the steps of a run wait that neither run nor have ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch queue why 01KA6Q8ZJ3M5W7Y9B2C4D6E8F0")]
pub(super) struct Why {
    /// The run.
    run: RunId,
    #[command(flatten)]
    api: ApiArgs,
}

impl List {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut query = vec![];
        query.extend(self.dag.map(|dag| ("dagId", dag.to_string())));
        query.extend(self.plugin.map(|plugin| ("plugin", plugin.to_string())));
        let client = self.api.client()?;
        let steps: Vec<WaitingStepView> =
            client.list("/queue/steps", &query, self.limit.get()).await?;
        self.api.output.print(&steps, |steps| table(steps))
    }
}

impl Why {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let waiting: WaitingStepsView =
            client.get(&path("runs", &self.run, "/waiting"), &[]).await?;
        self.api.output.print(&waiting.items, |steps| table(steps))
    }
}

fn table(steps: &[WaitingStepView]) -> String {
    if steps.is_empty() {
        return "nothing waits".to_owned();
    }
    let mut table = Table::new(&["RUN", "STEP", "PLUGIN", "PRIORITY#", "QUEUED", "WHY"]);
    for step in steps {
        table.row([
            step.run_id.to_string(),
            step.step_id.to_string(),
            step.plugin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            step.priority.to_string(),
            time_or_dash(step.queued_at),
            format!("{}: {}", step.why.code, step.why.detail),
        ]);
    }
    table.text("")
}
