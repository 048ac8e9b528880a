//! A run as it stood at a seq: folded from its events in the ledger.

use std::sync::Arc;

use stella_domain::{
    aggregate::{Aggregate as _, Run, StepPhase},
    chain::Commit,
    dag::DagSpec,
    event::{Event, RunCreated, RunEvent},
    ids::{Actor, RunId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;

use crate::{
    problem::ApiError,
    state::AppState,
    types::{MarkView, RunView, ScheduleFireView},
};

/// Commits read at a time.
const PAGE_COMMITS: usize = 256;

/// The run after event `seq` of the ledger.
pub(super) async fn run_at(
    app: &AppState,
    tenant: &Tenant,
    run_id: &RunId,
    seq: u64,
) -> Result<RunView, ApiError> {
    let ledger = app.record()?.ledger;
    let events = ledger.head(tenant).await?.next_seq;
    if seq >= events {
        let detail = format!("asOf={seq} has not come yet: the ledger has {events} events");
        return Err(ApiError::bad_request("SEQ_BEYOND_HEAD", detail));
    }
    let stream = StreamId::Run(run_id.clone());
    let mut fold = Fold::default();
    let mut begins = None;
    // What came later is not read, but for what stands on the same page.
    loop {
        let from_version = fold.run.version + 1;
        let commits = ledger.read_stream(tenant, &stream, from_version, PAGE_COMMITS).await?;
        begins = begins.or_else(|| commits.first().map(|first| first.seq));
        let is_last = commits.last().is_none_or(|last| last.last_seq() >= seq);
        for commit in commits.into_iter().take_while(|commit| commit.seq <= seq) {
            fold_commit(app, tenant, &mut fold, Recorded::decode(commit)?, seq).await?;
        }
        if is_last {
            return fold.view(run_id).ok_or_else(|| match begins {
                Some(begins) => ApiError::run_not_yet(run_id, seq, begins),
                None => ApiError::run_not_found(run_id),
            });
        }
    }
}

/// Fold a commit's events up to `seq`.
async fn fold_commit(
    app: &AppState,
    tenant: &Tenant,
    fold: &mut Fold,
    recorded: Recorded,
    seq: u64,
) -> Result<(), ApiError> {
    for (at, event) in recorded.with_seq().take_while(|(at, _)| *at <= seq) {
        let Event::Run(event) = event else { continue };
        let mut event = event.clone();
        if let RunEvent::RunCreated(created, _) = &mut event {
            created.spec = Some(spec(app, tenant, created).await?);
        }
        fold.apply(at, &recorded.commit, &event);
    }
    Ok(())
}

/// The spec that the run follows; versions never change, so any reading of it will do.
async fn spec(
    app: &AppState,
    tenant: &Tenant,
    created: &RunCreated,
) -> Result<Arc<DagSpec>, ApiError> {
    let (dag_id, number) = (&created.dag_id, created.dag_version);
    let row = app.projections.dag_version(tenant, dag_id, number).await?;
    let row = row.ok_or_else(|| ApiError::dag_version_not_found(dag_id, number, number))?;
    Ok(Arc::new(DagSpec::from_stored(&row.spec)?))
}

/// The aggregate, and what it does not keep.
#[derive(Default)]
struct Fold {
    run: Run,
    created: (u64, Timestamp),
    started_by: Option<Actor>,
    cancel: Option<MarkView>,
    last: (u64, Timestamp),
    retries: u64,
    lease_expiries: u64,
}

impl Fold {
    fn apply(&mut self, seq: u64, commit: &Commit, event: &RunEvent) {
        let (at, actor) = (commit.recorded_at, &commit.actor);
        self.last = (seq, at);
        match event {
            RunEvent::RunCreated(..) => {
                (self.created, self.started_by) = (self.last, Some(actor.clone()));
            }
            RunEvent::RunCancelRequested(_, payload) => {
                let reason = payload.as_ref().map(|payload| payload.reason.clone());
                let reason = reason.filter(|reason| !reason.is_empty());
                self.cancel = Some(MarkView { actor: actor.clone(), at, reason, seq });
            }
            RunEvent::StepRetryScheduled(_) => self.retries += 1,
            RunEvent::StepLeaseExpired(..) => self.lease_expiries += 1,
            _ => {}
        }
        self.run.evolve(event);
    }

    /// `None` before the run exists.
    fn view(self, run_id: &RunId) -> Option<RunView> {
        let Self { run, created, started_by, cancel, last, retries, lease_expiries } = self;
        let (created_seq, created_at) = created;
        let status = run.status()?;
        let steps = |phase| run.steps.iter().filter(|step| step.phase == phase).count() as u64;
        let (steps_succeeded, steps_failed) =
            (steps(StepPhase::Succeeded), steps(StepPhase::Failed));
        let (steps_cancelled, steps_skipped) =
            (steps(StepPhase::Cancelled), steps(StepPhase::Skipped));
        let (error_code, failed_step) = match run.failure {
            Some(failure) => (Some(failure.error_code), Some(failure.step_id)),
            None => (None, None),
        };
        let (labels, run_token) =
            run.request.map(|request| (request.labels, request.run_token)).unwrap_or_default();
        let created = run.created?;
        Some(RunView {
            run_id: run_id.clone(),
            dag_id: created.dag_id,
            dag_version: created.dag_version,
            dag_digest: created.dag_digest,
            status,
            attempt: created.attempt,
            rerun_of: created.rerun_of,
            started_by: started_by?,
            schedule: created.schedule.map(ScheduleFireView::from),
            cancel,
            priority: created.priority,
            inputs_hash: created.inputs_hash,
            labels,
            run_token,
            created_at,
            created_seq,
            deadline: created.deadline,
            ended_at: status.is_ended().then_some(last.1),
            last_seq: last.0,
            erased_seq: None,
            error_code,
            failed_step,
            steps_succeeded,
            steps_failed,
            steps_cancelled,
            steps_skipped,
            retries,
            lease_expiries,
            outputs: run.outputs,
        })
    }
}
