//! `run approvals`.

use std::num::NonZeroUsize;

use clap::Args;
use stella_api::types::ApprovalView;
use stella_domain::ids::DagId;

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{Table, time, time_or_dash},
};

/// Steps of all runs that wait for an operator, those that have waited longest first. DEADLINE is when
/// one is decided without an operator, as its DAG says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run approvals
  stella orch run approvals --dag release --limit 500 -o json | jq '.[].runId'")]
pub(crate) struct Approvals {
    /// Of this DAG.
    #[arg(long, value_name = "DAG")]
    dag: Option<DagId>,
    /// Approvals shown at most.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
    #[command(flatten)]
    api: ApiArgs,
}

impl Approvals {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let query: Vec<_> = self.dag.iter().map(|dag| ("dagId", dag.to_string())).collect();
        let client = self.api.client()?;
        let asked: Vec<ApprovalView> = client.list("/approvals", &query, self.limit.get()).await?;
        self.api.output.print(&asked, |asked| table(asked))
    }
}

fn table(asked: &[ApprovalView]) -> String {
    if asked.is_empty() {
        return "nothing waits for an operator".to_owned();
    }
    let mut table = Table::new(&["RUN", "DAG", "STEP", "SINCE", "DEADLINE", "MESSAGE"]);
    for approval in asked {
        table.row([
            approval.run_id.to_string(),
            approval.dag_id.to_string(),
            approval.step_id.to_string(),
            time(approval.asked_at),
            time_or_dash(approval.deadline),
            approval.message.clone().unwrap_or_default(),
        ]);
    }
    table.text("")
}
