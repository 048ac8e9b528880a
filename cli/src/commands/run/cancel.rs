//! `run cancel`.

use clap::Args;
use stella_api::types::{ReasonBody, StartedRun};
use stella_domain::ids::RunId;

use crate::{client::path, commands::ApiArgs, failure::Failure, output::details};

/// Ask a run to end: nothing new starts, and what runs is ended. A run that has ended is left as
/// it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run cancel 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run cancel 0RQ9CWTXP9BPJR3KTYEG0MB9FF --reason 'wrong inputs'")]
pub(crate) struct Cancel {
    /// The run.
    run_id: RunId,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Cancel {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let body = ReasonBody { reason: self.reason };
        let client = self.api.client()?;
        let answer = client.post(&path("runs", &self.run_id, ":cancel"), &[], &body).await?;
        self.api.output.print(&answer.body, |run: &StartedRun| {
            details(&[
                ("run", run.run_id.to_string()),
                ("status", run.status.as_str().to_owned()),
                ("seq", run.seq.to_string()),
            ])
        })
    }
}
