//! What happens to a step's row, and with it to the queue that its DAG and plugin have.

use stella_domain::{
    aggregate::RunStatus,
    artifact::Artifact,
    event::{ErrorCode, StepQueued, StepStarted},
    ids::{DagId, PluginName, StepId},
};

use super::{LiveDag, LiveRun, Place};
use crate::{
    rows::{QueueRow, StepRow, StepState},
    tracked::Tracked,
};

/// What an event did, or why it cannot follow those before.
pub(super) type Folded = Result<(), &'static str>;

pub(super) const NEVER_QUEUED: &str = "the step was never queued";

pub(super) fn queue(
    run: &mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    data: &StepQueued,
) -> Folded {
    forgive(run, &data.step_id);
    if run.steps.contains_key(&data.step_id) {
        let step = shift(run, dag, place, &data.step_id, StepState::Queued)?;
        (step.attempt, step.concurrency) = (data.attempt, data.concurrency.clone());
        (step.queued_at, step.queued_seq) = (place.at, place.seq);
        (step.started_at, step.ended_at, step.not_before) = (None, None, None);
        (step.worker_id, step.lease_ms, step.lease_version) = (None, None, None);
        (step.plugin_digest, step.plugin_version) = (None, None);
        return Ok(());
    }
    count(dag, &run.row.get().dag_id, Some(&data.plugin), None, StepState::Queued)?;
    let step = insert(run, place, &data.step_id, Some(data.plugin.clone()), StepState::Queued);
    (step.attempt, step.priority) = (data.attempt, data.priority);
    step.concurrency = data.concurrency.clone();
    Ok(())
}

/// The row of a step of which there was none.
pub(super) fn insert<'a>(
    run: &'a mut LiveRun,
    place: &Place,
    id: &StepId,
    plugin: Option<PluginName>,
    phase: StepState,
) -> &'a mut StepRow {
    let row = run.row.get();
    let step = StepRow {
        attempt: 0,
        concurrency: None,
        dag_id: row.dag_id.clone(),
        deadline: None,
        decided_by: None,
        ended_at: None,
        error_code: None,
        last_seq: place.seq,
        lease_expiries: 0,
        lease_ms: None,
        lease_version: None,
        logs: vec![],
        message: None,
        not_before: None,
        outputs: None,
        phase,
        plugin,
        plugin_digest: None,
        plugin_version: None,
        priority: row.priority,
        queued_at: place.at,
        queued_seq: place.seq,
        retries: 0,
        run_id: row.run_id.clone(),
        run_seq: row.created_seq,
        seq: place.seq,
        started_at: None,
        step_id: id.clone(),
        worker_id: None,
    };
    run.steps.entry(id.clone()).insert_entry(Box::new(Tracked::new(step))).into_mut().change()
}

pub(super) fn start(
    run: &mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    data: &StepStarted,
) -> Folded {
    let step = shift(run, dag, place, &data.step_id, StepState::Running)?;
    step.attempt = data.attempt;
    step.started_at = Some(place.at);
    step.worker_id = Some(data.worker_id.clone());
    step.plugin_digest.clone_from(&data.plugin_digest);
    step.plugin_version.clone_from(&data.plugin_version);
    step.lease_ms = Some(data.lease_ms);
    step.lease_version = Some(place.stream_version);
    Ok(())
}

/// The attempt ended.
pub(super) fn close<'a>(
    run: &'a mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    id: &StepId,
    to: StepState,
) -> Result<&'a mut StepRow, &'static str> {
    let step = shift(run, dag, place, id, to)?;
    step.ended_at = Some(place.at);
    Ok(step)
}

/// Failed for good, unless a retry follows in the same commit, or the failure is tolerated. Gives the
/// step's plugin.
pub(super) fn fail(
    run: &mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    id: &StepId,
    code: ErrorCode,
    message: Option<String>,
) -> Result<Option<PluginName>, &'static str> {
    let step = close(run, dag, place, id, StepState::Failed)?;
    (step.error_code, step.message) = (Some(code.clone()), message);
    let plugin = step.plugin.clone();
    let row = run.row.change();
    row.steps_failed += 1;
    if row.failed_step.is_none() {
        (row.error_code, row.failed_step) = (Some(code), Some(id.clone()));
        if row.status == RunStatus::Running {
            row.status = RunStatus::Failing;
        }
    }
    Ok(plugin)
}

/// The attempt that has just ended left a log.
pub(super) fn logged(run: &mut LiveRun, id: &StepId, log: Option<&Artifact>) {
    if let (Some(step), Some(log)) = (run.steps.get_mut(id), log) {
        step.change().logged(log.clone());
    }
}

/// The step stays failed, and the run goes on.
pub(super) fn tolerate(run: &mut LiveRun, id: &StepId) {
    let row = run.row.change();
    if row.failed_step.as_ref() == Some(id) {
        (row.error_code, row.failed_step) = (None, None);
        if row.status == RunStatus::Failing {
            row.status = RunStatus::Running;
        }
    }
}

/// Another attempt follows after all.
pub(super) fn forgive(run: &mut LiveRun, id: &StepId) {
    let failed = run.steps.get(id).is_some_and(|step| step.get().phase == StepState::Failed);
    if !failed {
        return;
    }
    let row = run.row.change();
    row.steps_failed = row.steps_failed.saturating_sub(1);
    tolerate(run, id);
}

/// Move a step to another phase, and its DAG's queue counters with it.
pub(super) fn shift<'a>(
    run: &'a mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    id: &StepId,
    to: StepState,
) -> Result<&'a mut StepRow, &'static str> {
    let step = run.steps.get_mut(id).ok_or(NEVER_QUEUED)?.change();
    count(dag, &step.dag_id, step.plugin.as_ref(), Some(step.phase), to)?;
    step.phase = to;
    step.last_seq = place.seq;
    Ok(step)
}

pub(super) fn count(
    dag: &mut LiveDag,
    dag_id: &DagId,
    plugin: Option<&PluginName>,
    from: Option<StepState>,
    to: StepState,
) -> Folded {
    // What no plugin carries out stands in no queue.
    let Some(plugin) = plugin else { return Ok(()) };
    let queue = match dag.queues.get_mut(plugin) {
        Some(queue) => queue,
        None => dag
            .queues
            .entry(plugin.clone())
            .or_insert_with(|| Tracked::new(QueueRow::new(dag_id.clone(), plugin.clone()))),
    };
    let row = queue.change();
    if let Some(counter) = from.and_then(|from| counter(row, from)) {
        *counter = counter.checked_sub(1).ok_or("more steps left the queue than entered it")?;
    }
    if let Some(counter) = counter(row, to) {
        *counter += 1;
    }
    Ok(())
}

/// How long attempts take that come to an end by themselves tells which of those that run take too
/// long.
pub(super) fn count_attempt(run: &LiveRun, dag: &mut LiveDag, place: &Place, id: &StepId) {
    let Some(step) = run.steps.get(id).map(|step| step.get()) else { return };
    let started_at = step.started_at.filter(|_| step.phase == StepState::Running);
    let queue = step.plugin.as_ref().and_then(|plugin| dag.queues.get_mut(plugin));
    if let (Some(started_at), Some(queue)) = (started_at, queue) {
        let queue = queue.change();
        queue.attempts += 1;
        queue.attempts_ms += place.at.ms_since(started_at);
    }
}

fn counter(row: &mut QueueRow, phase: StepState) -> Option<&mut u64> {
    match phase {
        StepState::Queued => Some(&mut row.queued),
        StepState::Running => Some(&mut row.running),
        StepState::BackingOff => Some(&mut row.backing_off),
        StepState::Succeeded
        | StepState::Failed
        | StepState::Cancelled
        | StepState::Dropped
        | StepState::Skipped
        | StepState::AwaitingApproval
        | StepState::Expanded => None,
    }
}
