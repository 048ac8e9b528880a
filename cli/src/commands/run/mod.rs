//! `run`: starting, watching, approving, cancelling and comparing runs.

mod approval;
mod approvals;
mod artifacts;
mod cancel;
mod compare;
mod events;
mod get;
mod list;
mod logs;
mod receipt;
mod rerun;
mod start;
mod steps;
mod stream;

use clap::Subcommand;
use stella_api::types::RunView;
use stella_domain::{aggregate::RunStatus, event::ErrorCode, ids::StepId};

pub(crate) use self::{start::fresh_run_token, stream::ends_run};
use crate::{
    exit::Exit,
    failure::Failure,
    output::{by, details, duration, time},
};

/// Start, watch, approve, cancel and compare runs.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch run start nightly --input day=tue --wait
  stella orch run list --status failed
  stella orch run get 0RQ9CWTXP9BPJR3KTYEG0MB9FF")]
pub(crate) enum Run {
    /// Start a run.
    Start(start::Start),
    /// How a run stands.
    Get(get::Get),
    /// Runs, the newest first.
    List(list::List),
    /// Ask a run to end.
    Cancel(cancel::Cancel),
    /// Approve a step that waits for an operator.
    Approve(approval::Approve),
    /// Reject a step that waits for an operator.
    Reject(approval::Reject),
    /// What waits for an operator.
    Approvals(approvals::Approvals),
    /// Run again what has ended.
    Rerun(Box<rerun::Rerun>),
    /// A run's steps, and what they gave.
    Steps(steps::Steps),
    /// What the plugins of its steps wrote about their work.
    Logs(logs::Logs),
    /// What is too large for its events: large inputs and outputs, files, logs.
    Artifacts(artifacts::Artifacts),
    /// Two runs, side by side.
    Compare(compare::Compare),
    /// Events as they come.
    Stream(stream::Stream),
    /// A run's events, as the ledger holds them.
    Ledger(events::Events),
    /// A run's events with proofs, to be verified without the server.
    Receipt(receipt::Receipt),
}

impl Run {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Start(command) => command.run().await,
            Self::Get(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Cancel(command) => command.run().await,
            Self::Rerun(command) => command.run().await,
            Self::Approve(command) => command.run().await,
            Self::Approvals(command) => command.run().await,
            Self::Reject(command) => command.run().await,
            Self::Steps(command) => command.run().await,
            Self::Logs(command) => command.run().await,
            Self::Artifacts(command) => command.run().await,
            Self::Compare(command) => command.run().await,
            Self::Stream(command) => command.run().await,
            Self::Ledger(command) => command.run().await,
            Self::Receipt(command) => command.run().await,
        }
    }
}

/// A run for people.
pub(crate) fn run_details(run: &RunView) -> String {
    let labels: Vec<_> = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let took = run.ended_at.map(|ended| duration(ended.ms_since(run.created_at)));
    details(&[
        ("run", run.run_id.to_string()),
        ("status", run.status.as_str().to_owned()),
        ("dag", format!("{} version {}", run.dag_id, run.dag_version)),
        ("started by", started_by(run)),
        ("error", failure_text(run.error_code.as_ref(), run.failed_step.as_ref())),
        ("cancelled", run.cancel.as_ref().map(by).unwrap_or_default()),
        ("outputs", run.outputs.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("created", time(run.created_at)),
        ("deadline", run.deadline.map(time).unwrap_or_default()),
        ("ended", run.ended_at.map(time).unwrap_or_default()),
        ("took", took.unwrap_or_default()),
        ("steps", steps_text(run)),
        ("labels", labels.join(", ")),
        ("token", run.run_token.clone().unwrap_or_default()),
        ("inputs", run.inputs_hash.clone()),
        ("seq", format!("{} to {}", run.created_seq, run.last_seq)),
        ("erased", run.erased_seq.map(|seq| format!("by event {seq}")).unwrap_or_default()),
    ])
}

fn started_by(run: &RunView) -> String {
    let fire = run.schedule.as_ref().map_or(String::new(), |fire| {
        format!(" for schedule {} at {}", fire.schedule_id, time(fire.fire_time))
    });
    let rerun = run
        .rerun_of
        .as_ref()
        .map_or(String::new(), |first| format!(", rerun {} of run {first}", run.attempt));
    format!("{}{fire}{rerun}", run.started_by)
}

fn steps_text(run: &RunView) -> String {
    let skipped = match run.steps_skipped {
        0 => String::new(),
        skipped => format!(", {skipped} skipped"),
    };
    format!(
        "{} succeeded, {} failed, {} cancelled{skipped}; {} retries",
        run.steps_succeeded, run.steps_failed, run.steps_cancelled, run.retries
    )
}

fn failure_text(code: Option<&ErrorCode>, step: Option<&StepId>) -> String {
    match (code, step) {
        (Some(code), Some(step)) => format!("{code} in step {step}"),
        (Some(code), None) => code.to_string(),
        (None, _) => String::new(),
    }
}

/// The exit code of a command that waited for a run's end.
fn waited_for(status: RunStatus, run_id: &impl std::fmt::Display) -> Result<(), Failure> {
    match status {
        RunStatus::Succeeded => Ok(()),
        RunStatus::Failed | RunStatus::Cancelled | RunStatus::TimedOut => {
            let how = if status == RunStatus::TimedOut { "timed out" } else { status.as_str() };
            let what = format!("run {run_id} {how}");
            Err(Failure::new(Exit::RunFailed, what)
                .try_this(format!("see why: `stella orch run steps {run_id}`")))
        }
        RunStatus::Running | RunStatus::Failing | RunStatus::Cancelling => {
            let what = format!("run {run_id} has not ended yet, it is {}", status.as_str());
            Err(Failure::new(Exit::StillRunning, what)
                .try_this(format!("wait on: `stella orch run get {run_id} --wait`")))
        }
    }
}
