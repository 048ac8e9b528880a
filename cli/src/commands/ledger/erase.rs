//! `ledger erase`.

use clap::Args;
use stella_api::types::{EraseBody, ErasedRunView};
use stella_domain::ids::RunId;

use crate::{
    commands::ApiArgs,
    failure::Failure,
    output::{details, time},
};

/// Erase what people and plugins wrote into a run that has ended. This cannot be undone.
///
/// What goes: inputs, outputs, labels, the run token, error messages and reasons, each with the salt
/// of its hash; from the ledger and from the projections.
///
/// What stays: the event `DataErased` with your reason, for ever; which DAG ran when, steps, attempts,
/// workers, times, error codes; and the hash of the inputs, by which inputs that can be guessed can
/// be recognised. Chain, proofs and receipts stay valid. What was exported or backed up before is
/// where it is; docs/operations.md says what else may hold it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger erase 0RQ9CWTXP9BPJR3KTYEG0MB9FF --reason 'request 2026-117' --yes
  stella orch ledger erase 0RQ9CWTXP9BPJR3KTYEG0MB9FF --reason 'kept for 90 days' --yes -o json")]
pub(crate) struct Erase {
    /// The run.
    run_id: RunId,
    /// Why; it stays in the ledger: name the request or the rule, and no person.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do it. Without this, nothing is erased.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Erase {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { run_id, reason, yes, api } = self;
        if !yes {
            let what = format!(
                "nothing was erased: this takes inputs, outputs, labels, run token and messages of \
                 run {run_id} away for good"
            );
            return Err(Failure::usage(what).try_this("say --yes to do it"));
        }
        let body = EraseBody { run_id, reason };
        let answer = api.client()?.post("/ledger:erase", &[], &body).await?;
        api.output.print(&answer.body, |erased: &ErasedRunView| {
            let before = if erased.replayed { " (it was erased before)" } else { "" };
            details(&[
                ("run", format!("{}{before}", erased.run_id)),
                ("erased", format!("{} payloads", erased.payloads)),
                ("seq", erased.seq.to_string()),
                ("recorded", time(erased.recorded_at)),
            ])
        })
    }
}
