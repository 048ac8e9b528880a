//! Lines of the program's log about runs: an event, a line, with `tenant`, `dagId`, `runId`, `status`.

use std::sync::Arc;

use stella_domain::{
    event::{Event, RunEvent},
    ids::{StepId, StreamId},
};
use stella_ledger::recorded::Recorded;
use stella_replay::telemetry::Runs;
use tracing::Level;

use super::Committed;

/// The target of these lines: `RUST_LOG=stella::run=debug` has them all.
const TARGET: &str = "stella::run";

/// Whether anybody wants them.
pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::WARN)
}

/// Write them as events come.
pub(super) async fn lines(mut committed: Committed) {
    let mut runs = Runs::default();
    while let Some(recorded) = committed.next(&mut runs).await {
        of_commit(&mut runs, &recorded);
        // Whoever has much to write leaves the thread to others now and then.
        tokio::task::yield_now().await;
    }
}

/// A line says how the run stands after the commit of its event.
fn of_commit(runs: &mut Runs, recorded: &Arc<Recorded>) {
    let commit = &recorded.commit;
    let (StreamId::Run(run_id), Some(run)) = (&commit.stream, runs.follow(recorded)) else {
        return;
    };
    let tenant = commit.ledger.tenant.as_str();
    let dag_id = run.dag_id.as_ref().map(|dag_id| dag_id.as_str());
    let status = run.status().map(|status| status.as_str());
    for (seq, event) in recorded.with_seq() {
        let Event::Run(event) = event else { continue };
        let step_id = step_of(event).map(StepId::as_str);
        let error_code = match event {
            RunEvent::StepFailed(data, _) => Some(data.error_code.as_str()),
            RunEvent::RunFailed(data) => Some(data.error_code.as_str()),
            _ => None,
        };
        let took_ms = run
            .created_at()
            .filter(|_| is_end(event))
            .map(|created_at| commit.recorded_at.ms_since(created_at));
        macro_rules! write {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    tenant,
                    dagId = dag_id,
                    runId = run_id.as_str(),
                    status,
                    stepId = step_id,
                    errorCode = error_code,
                    tookMs = took_ms,
                    seq,
                    "{}",
                    event.event_type()
                )
            };
        }
        match level(event) {
            Level::WARN => write!(Level::WARN),
            Level::INFO => write!(Level::INFO),
            _ => write!(Level::DEBUG),
        }
    }
}

/// Runs that begin and end are told, and what goes wrong; the steps' daily life only to those who ask.
fn level(event: &RunEvent) -> Level {
    match event {
        RunEvent::StepFailed(..)
        | RunEvent::StepTimedOut(..)
        | RunEvent::StepLeaseExpired(..)
        | RunEvent::StepRejected(..)
        | RunEvent::RunDeadlinePassed(_)
        | RunEvent::RunFailed(_)
        | RunEvent::RunTimedOut(_) => Level::WARN,
        RunEvent::RunCreated(..)
        | RunEvent::ApprovalRequested(..)
        | RunEvent::StepApproved(..)
        | RunEvent::StepFailureTolerated(_)
        | RunEvent::RunCancelRequested(..)
        | RunEvent::RunCancelled(_)
        | RunEvent::RunSucceeded(..) => Level::INFO,
        RunEvent::StepQueued(_)
        | RunEvent::StepStarted(_)
        | RunEvent::StepSucceeded(..)
        | RunEvent::StepRetryScheduled(_)
        | RunEvent::StepLeaseReturned(..)
        | RunEvent::StepCancelled(..)
        | RunEvent::StepSkipped(_)
        | RunEvent::StepExpanded(_) => Level::DEBUG,
    }
}

fn is_end(event: &RunEvent) -> bool {
    matches!(
        event,
        RunEvent::RunCancelled(_)
            | RunEvent::RunSucceeded(..)
            | RunEvent::RunFailed(_)
            | RunEvent::RunTimedOut(_)
    )
}

fn step_of(event: &RunEvent) -> Option<&StepId> {
    match event {
        RunEvent::StepQueued(data) => Some(&data.step_id),
        RunEvent::StepStarted(data) => Some(&data.step_id),
        RunEvent::StepSucceeded(data, _) => Some(&data.step_id),
        RunEvent::StepTimedOut(data, _)
        | RunEvent::StepLeaseExpired(data, _)
        | RunEvent::StepLeaseReturned(data, _)
        | RunEvent::StepCancelled(data, _)
        | RunEvent::StepFailureTolerated(data) => Some(&data.step_id),
        RunEvent::StepFailed(data, _) => Some(&data.step_id),
        RunEvent::StepRetryScheduled(data) => Some(&data.step_id),
        RunEvent::StepSkipped(data) => Some(&data.step_id),
        RunEvent::StepExpanded(data) => Some(&data.step_id),
        RunEvent::ApprovalRequested(data, _) => Some(&data.step_id),
        RunEvent::StepApproved(data, _) | RunEvent::StepRejected(data, _) => Some(&data.step_id),
        RunEvent::RunFailed(data) => Some(&data.step_id),
        RunEvent::RunCreated(..)
        | RunEvent::RunCancelRequested(..)
        | RunEvent::RunDeadlinePassed(_)
        | RunEvent::RunCancelled(_)
        | RunEvent::RunSucceeded(..)
        | RunEvent::RunTimedOut(_) => None,
    }
}
