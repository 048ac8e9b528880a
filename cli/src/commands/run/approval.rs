//! `run approve` and `run reject`.

use clap::Args;
use stella_api::types::{ReasonBody, StartedRun};
use stella_domain::ids::{RunId, StepId};

use crate::{client::path, commands::ApiArgs, failure::Failure, output::details};

/// Approve a step that waits for an operator: the run goes on. Who approved, and why, is recorded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run approve 0RQ9CWTXP9BPJR3KTYEG0MB9FF release --reason 'tests are green'")]
pub(crate) struct Approve {
    #[command(flatten)]
    decision: Decision,
}

/// Reject a step that waits for an operator: it fails with code REJECTED. Who rejected, and why, is
/// recorded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run reject 0RQ9CWTXP9BPJR3KTYEG0MB9FF release --reason 'not before Monday'")]
pub(crate) struct Reject {
    #[command(flatten)]
    decision: Decision,
}

#[derive(Debug, Args)]
struct Decision {
    /// The run.
    run_id: RunId,
    /// The step.
    step_id: StepId,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Approve {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.decision.send("approve").await
    }
}

impl Reject {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.decision.send("reject").await
    }
}

impl Decision {
    async fn send(self, verb: &str) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let client = self.api.client()?;
        let path = path("runs", &self.run_id, &format!("/steps/{}:{verb}", self.step_id));
        let answer = client.post(&path, &[], &body).await?;
        self.api.output.print(&answer.body, |run: &StartedRun| {
            details(&[
                ("run", run.run_id.to_string()),
                ("status", run.status.as_str().to_owned()),
                ("seq", run.seq.to_string()),
            ])
        })
    }
}
