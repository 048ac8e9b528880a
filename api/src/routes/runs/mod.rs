//! Runs: start, look at, cancel, follow, compare.

pub(crate) mod approval;
pub(crate) mod artifacts;
pub(crate) mod cancel;
pub(crate) mod compare;
pub(crate) mod events;
mod fold;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod receipt;
pub(crate) mod rerun;
pub(crate) mod start;
pub(crate) mod steps;
pub(crate) mod stream;

use std::time::Duration;

use stella_commands::{RunEnd, RunEndWait, engine::RunStarted};
use stella_domain::{
    chain::Commit,
    ids::{RunId, StreamId, Tenant},
};
use stella_ledger::{
    port::{Ledger, LedgerError},
    writer::Written,
};
use stella_projections::RunRow;

use crate::{
    problem::ApiError,
    state::AppState,
    types::{MarkView, RunView, ScheduleFireView, StartedRun},
};

/// How long a read waits for the projections to reach its `minSeq`.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long a read waits for them that would else say that something is not there.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Wait until the projections have applied `min_seq`, if one is given.
pub(crate) async fn reach(
    app: &AppState,
    tenant: &Tenant,
    min_seq: Option<u64>,
) -> Result<(), ApiError> {
    match min_seq {
        Some(seq) => Ok(app.projections.wait_for(tenant, seq, CATCH_UP).await?),
        None => Ok(()),
    }
}

/// Let the projections see all that this node knows to be durable: before it says that something
/// is not there which was just recorded. If that takes too long, what they have is the answer.
pub(crate) async fn catch_up(app: &AppState, tenant: &Tenant) -> Result<(), ApiError> {
    let position = app.projections.position(tenant).await?;
    if position.lag() > 0 {
        let last = position.ledger_next_seq - 1;
        let _ = app.projections.wait_for(tenant, last, A_MOMENT).await;
    }
    Ok(())
}

/// The run as the projections have it.
pub(crate) async fn row(
    app: &AppState,
    tenant: &Tenant,
    run_id: &RunId,
) -> Result<RunRow, ApiError> {
    if let Some(row) = app.projections.run(tenant, run_id).await? {
        return Ok(row);
    }
    catch_up(app, tenant).await?;
    let row = app.projections.run(tenant, run_id).await?;
    row.ok_or_else(|| ApiError::run_not_found(run_id))
}

/// Whether a stream goes on after these commits of it, of which so many were asked for: a page may be
/// short for its size.
async fn goes_on(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    stream: &StreamId,
    commits: &[Commit],
    asked: usize,
) -> Result<bool, LedgerError> {
    match commits.last() {
        Some(last) if commits.len() < asked => {
            let next = last.stream_version + last.events.len() as u64;
            Ok(!ledger.read_stream(tenant, stream, next, 1).await?.is_empty())
        }
        last => Ok(last.is_some()),
    }
}

/// The run's end, if it comes in time, and before this node ends.
async fn ended(app: &AppState, end: RunEndWait, wait: Duration) -> Option<RunEnd> {
    tokio::select! {
        end = tokio::time::timeout(wait, end.ended()) => end.ok().flatten(),
        () = app.closing().cancelled_owned() => None,
    }
}

impl StartedRun {
    /// The write side's answer, and the end if it was waited for.
    fn of(written: Written<RunStarted>, end: Option<RunEnd>) -> Result<Self, ApiError> {
        let Written { answer: run, as_of, .. } = written;
        let created = run.created.ok_or_else(|| ApiError::run_not_found(&run.run_id))?;
        let (status, seq) = end.as_ref().map_or((run.status, as_of), |end| (end.status, end.seq));
        let ended_at = end.as_ref().map(|end| end.ended_at);
        let failure = end.and_then(|end| end.failure);
        let (error_code, failed_step) = match failure {
            Some(failure) => (Some(failure.error_code), Some(failure.step_id)),
            None => (None, None),
        };
        Ok(Self {
            run_id: run.run_id,
            dag_id: created.dag_id,
            dag_version: created.dag_version,
            dag_digest: created.dag_digest,
            inputs_hash: created.inputs_hash,
            attempt: created.attempt,
            priority: created.priority,
            status,
            replayed: run.replayed,
            seq,
            ended_at,
            error_code,
            failed_step,
        })
    }
}

impl From<RunRow> for RunView {
    fn from(row: RunRow) -> Self {
        Self {
            run_id: row.run_id,
            dag_id: row.dag_id,
            dag_version: row.dag_version,
            dag_digest: row.dag_digest,
            status: row.status,
            attempt: row.attempt,
            rerun_of: row.rerun_of,
            started_by: row.actor,
            schedule: row.schedule.map(ScheduleFireView::from),
            cancel: row.cancel.map(MarkView::from),
            priority: row.priority,
            inputs_hash: row.inputs_hash,
            labels: row.labels,
            run_token: row.run_token,
            created_at: row.created_at,
            created_seq: row.created_seq,
            deadline: row.deadline,
            ended_at: row.ended_at,
            last_seq: row.last_seq,
            erased_seq: row.erased_seq,
            error_code: row.error_code,
            failed_step: row.failed_step,
            steps_succeeded: row.steps_succeeded,
            steps_failed: row.steps_failed,
            steps_cancelled: row.steps_cancelled,
            steps_skipped: row.steps_skipped,
            retries: row.retries,
            lease_expiries: row.lease_expiries,
            outputs: row.outputs,
        }
    }
}
