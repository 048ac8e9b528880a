//! What the events of a run do to its rows and to its DAG's counters.

use stella_domain::{
    aggregate::RunStatus,
    artifact::Artifact,
    event::{ErrorCode, RunCreated, RunEvent, RunRequest, StepQueued, StepStarted},
    ids::{Actor, PluginName, RunId, StepId},
};

use super::{LiveDag, LiveRun, Place};
use crate::{
    rows::{QueueRow, RunRow, StepRow, StepState, TallyRow},
    tracked::Tracked,
};

type Folded = Result<(), &'static str>;

const NEVER_QUEUED: &str = "the step was never queued";

/// The row of a new run.
pub(super) fn created(
    id: &RunId,
    actor: &Actor,
    place: &Place,
    created: &RunCreated,
    request: Option<&RunRequest>,
) -> RunRow {
    RunRow {
        actor: actor.clone(),
        attempt: created.attempt,
        created_at: place.at,
        created_seq: place.seq,
        dag_digest: created.dag_digest.clone(),
        dag_id: created.dag_id.clone(),
        dag_version: created.dag_version,
        deadline: created.deadline,
        ended_at: None,
        erased_seq: None,
        error_code: None,
        failed_step: None,
        inputs_hash: created.inputs_hash.clone(),
        labels: request.map(|request| request.labels.clone()).unwrap_or_default(),
        last_seq: place.seq,
        lease_expiries: 0,
        outputs: None,
        priority: created.priority,
        retries: 0,
        run_id: id.clone(),
        run_token: request.and_then(|request| request.run_token.clone()),
        schedule: created.schedule.clone(),
        status: RunStatus::Running,
        steps_cancelled: 0,
        steps_failed: 0,
        steps_skipped: 0,
        steps_succeeded: 0,
    }
}

pub(super) fn fold(
    run: &mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    event: &RunEvent,
) -> Folded {
    run.row.change().last_seq = place.seq;
    match event {
        RunEvent::RunCreated(..) => tally(run, dag).runs_created += 1,
        RunEvent::StepQueued(data) => queue(run, dag, place, data)?,
        RunEvent::StepStarted(data) => start(run, dag, place, data)?,
        RunEvent::StepSucceeded(data, payload) => {
            let step = close(run, dag, place, &data.step_id, StepState::Succeeded)?;
            step.outputs = payload.as_ref().map(|payload| payload.outputs.clone());
            payload
                .iter()
                .filter_map(|payload| payload.log.clone())
                .for_each(|log| step.logged(log));
            (step.error_code, step.message) = (None, None);
            run.row.change().steps_succeeded += 1;
        }
        RunEvent::StepFailed(data, payload) => {
            let message = payload.as_ref().map(|payload| payload.message.clone());
            // Its condition or its list had no answer.
            if !run.steps.contains_key(&data.step_id) {
                insert(run, place, &data.step_id, None, StepState::Failed);
            }
            let log = payload.as_ref().and_then(|payload| payload.log.as_ref());
            fail(run, dag, place, &data.step_id, data.error_code.clone(), message)?;
            logged(run, &data.step_id, log);
        }
        RunEvent::StepTimedOut(data, payload) => {
            let code = ErrorCode::lenient(ErrorCode::TIMEOUT);
            fail(run, dag, place, &data.step_id, code, None)?;
            logged(run, &data.step_id, payload.as_ref().map(|payload| &payload.log));
        }
        RunEvent::StepLeaseExpired(data, payload) => {
            let code = ErrorCode::lenient(ErrorCode::LEASE_EXPIRED);
            let plugin = fail(run, dag, place, &data.step_id, code, None)?.ok_or(NEVER_QUEUED)?;
            logged(run, &data.step_id, payload.as_ref().map(|payload| &payload.log));
            let step = run.steps.get_mut(&data.step_id).ok_or(NEVER_QUEUED)?;
            step.change().lease_expiries += 1;
            run.row.change().lease_expiries += 1;
            *tally(run, dag).lease_expiries.entry(plugin).or_default() += 1;
        }
        RunEvent::StepRetryScheduled(data) => {
            forgive(run, &data.step_id);
            let step = shift(run, dag, place, &data.step_id, StepState::BackingOff)?;
            step.not_before = Some(data.not_before);
            step.retries += 1;
            let plugin = step.plugin.clone().ok_or(NEVER_QUEUED)?;
            run.row.change().retries += 1;
            *tally(run, dag).retries.entry(plugin).or_default() += 1;
        }
        RunEvent::StepCancelled(data, payload) => {
            close(run, dag, place, &data.step_id, StepState::Cancelled)?;
            logged(run, &data.step_id, payload.as_ref().map(|payload| &payload.log));
            run.row.change().steps_cancelled += 1;
        }
        RunEvent::StepSkipped(data) => {
            insert(run, place, &data.step_id, None, StepState::Skipped).ended_at = Some(place.at);
            run.row.change().steps_skipped += 1;
        }
        RunEvent::StepFailureTolerated(data) => tolerate(run, &data.step_id),
        RunEvent::StepExpanded(data) => {
            let plugin = Some(data.plugin.clone());
            insert(run, place, &data.step_id, plugin, StepState::Expanded);
        }
        RunEvent::ApprovalRequested(data, payload) => {
            let step = insert(run, place, &data.step_id, None, StepState::AwaitingApproval);
            step.message = payload.as_ref().map(|payload| payload.message.clone());
            step.deadline = data.deadline;
        }
        RunEvent::StepApproved(data, payload) => {
            let step = close(run, dag, place, &data.step_id, StepState::Succeeded)?;
            step.message = payload.as_ref().map(|payload| payload.reason.clone());
            run.row.change().steps_succeeded += 1;
        }
        RunEvent::StepRejected(data, payload) => {
            let reason = payload.as_ref().map(|payload| payload.reason.clone());
            let code = ErrorCode::lenient(ErrorCode::REJECTED);
            fail(run, dag, place, &data.step_id, code, reason)?;
        }
        RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_) => {
            run.row.change().status = RunStatus::Cancelling;
        }
        RunEvent::RunCancelled(_) => end(run, dag, place, RunStatus::Cancelled),
        RunEvent::RunTimedOut(_) => end(run, dag, place, RunStatus::TimedOut),
        RunEvent::RunSucceeded(_, payload) => {
            run.row.change().outputs = payload.as_ref().map(|payload| payload.outputs.clone());
            end(run, dag, place, RunStatus::Succeeded);
        }
        RunEvent::RunFailed(data) => {
            let row = run.row.change();
            row.error_code = Some(data.error_code.clone());
            row.failed_step = Some(data.step_id.clone());
            end(run, dag, place, RunStatus::Failed);
        }
    }
    Ok(())
}

/// The run's payloads are erased: nothing stays here of what came from them. Whether they are
/// blanked in the ledger already, or not all of them at once, makes no difference to the outcome.
/// Answers whether anything went.
pub(super) fn erase(run: &mut LiveRun, place: &Place) -> Result<bool, &'static str> {
    if !run.row.get().status.is_ended() {
        return Err("it erases payloads of a run that has not ended");
    }
    let row = run.row.change();
    row.erased_seq = Some(place.seq);
    let mut gone = !std::mem::take(&mut row.labels).is_empty();
    gone |= row.run_token.take().is_some();
    gone |= row.outputs.take().is_some();
    for step in run.steps.values_mut() {
        let StepRow { outputs, message, logs, .. } = step.get();
        if outputs.is_some() || message.is_some() || !logs.is_empty() {
            let step = step.change();
            (step.outputs, step.message, step.logs) = (None, None, vec![]);
            gone = true;
        }
    }
    Ok(gone)
}

/// A run that is failing, being cancelled or has ended starts nothing: what waits leaves the queue.
/// To be called at the end of a commit, because a failure may be followed by a retry within it.
pub(super) fn drop_what_cannot_start(run: &mut LiveRun, dag: &mut LiveDag) -> Folded {
    match run.row.get().status {
        RunStatus::Running | RunStatus::Succeeded => return Ok(()),
        RunStatus::Failing
        | RunStatus::Cancelling
        | RunStatus::Failed
        | RunStatus::Cancelled
        | RunStatus::TimedOut => {}
    }
    for step in run.steps.values_mut() {
        let from = step.get().phase;
        if matches!(
            from,
            StepState::Queued
                | StepState::BackingOff
                | StepState::AwaitingApproval
                | StepState::Expanded
        ) {
            count(dag, step.get(), Some(from), StepState::Dropped)?;
            step.change().phase = StepState::Dropped;
        }
    }
    Ok(())
}

fn queue(run: &mut LiveRun, dag: &mut LiveDag, place: &Place, data: &StepQueued) -> Folded {
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
    let step = insert(run, place, &data.step_id, Some(data.plugin.clone()), StepState::Queued);
    (step.attempt, step.priority) = (data.attempt, data.priority);
    step.concurrency = data.concurrency.clone();
    let step = step.clone();
    count(dag, &step, None, StepState::Queued)
}

/// The row of a step of which there was none.
fn insert<'a>(
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
    run.steps.entry(id.clone()).insert_entry(Tracked::new(step)).into_mut().change()
}

fn start(run: &mut LiveRun, dag: &mut LiveDag, place: &Place, data: &StepStarted) -> Folded {
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
fn close<'a>(
    run: &'a mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    id: &StepId,
    to: StepState,
) -> Result<&'a mut StepRow, &'static str> {
    if matches!(to, StepState::Succeeded | StepState::Failed) {
        count_attempt(run, dag, place, id);
    }
    let step = shift(run, dag, place, id, to)?;
    step.ended_at = Some(place.at);
    Ok(step)
}

/// Failed for good, unless a retry follows in the same commit, or the failure is tolerated. Gives the
/// step's plugin.
fn fail(
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
fn logged(run: &mut LiveRun, id: &StepId, log: Option<&Artifact>) {
    if let (Some(step), Some(log)) = (run.steps.get_mut(id), log) {
        step.change().logged(log.clone());
    }
}

/// The step stays failed, and the run goes on.
fn tolerate(run: &mut LiveRun, id: &StepId) {
    let row = run.row.change();
    if row.failed_step.as_ref() == Some(id) {
        (row.error_code, row.failed_step) = (None, None);
        if row.status == RunStatus::Failing {
            row.status = RunStatus::Running;
        }
    }
}

/// Another attempt follows after all.
fn forgive(run: &mut LiveRun, id: &StepId) {
    let failed = run.steps.get(id).is_some_and(|step| step.get().phase == StepState::Failed);
    if !failed {
        return;
    }
    let row = run.row.change();
    row.steps_failed = row.steps_failed.saturating_sub(1);
    tolerate(run, id);
}

fn end(run: &mut LiveRun, dag: &mut LiveDag, place: &Place, status: RunStatus) {
    let row = run.row.change();
    row.status = status;
    row.ended_at = Some(place.at);
    let took_ms = place.at.ms_since(row.created_at);
    let tally = tally(run, dag);
    tally.took(took_ms);
    match status {
        RunStatus::Succeeded => tally.runs_succeeded += 1,
        RunStatus::Failed => tally.runs_failed += 1,
        RunStatus::Cancelled => tally.runs_cancelled += 1,
        RunStatus::TimedOut => tally.runs_timed_out += 1,
        RunStatus::Running | RunStatus::Failing | RunStatus::Cancelling => {}
    }
}

/// Move a step to another phase, and its DAG's queue counters with it.
fn shift<'a>(
    run: &'a mut LiveRun,
    dag: &mut LiveDag,
    place: &Place,
    id: &StepId,
    to: StepState,
) -> Result<&'a mut StepRow, &'static str> {
    let step = run.steps.get_mut(id).ok_or(NEVER_QUEUED)?;
    count(dag, step.get(), Some(step.get().phase), to)?;
    let step = step.change();
    step.phase = to;
    step.last_seq = place.seq;
    Ok(step)
}

fn count(dag: &mut LiveDag, step: &StepRow, from: Option<StepState>, to: StepState) -> Folded {
    // What no plugin carries out stands in no queue.
    let Some(plugin) = &step.plugin else { return Ok(()) };
    let queue = match dag.queues.get_mut(plugin) {
        Some(queue) => queue,
        None => dag
            .queues
            .entry(plugin.clone())
            .or_insert_with(|| Tracked::new(QueueRow::new(step.dag_id.clone(), plugin.clone()))),
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

/// How long attempts take tells which of those that run take too long.
fn count_attempt(run: &LiveRun, dag: &mut LiveDag, place: &Place, id: &StepId) {
    let Some(step) = run.steps.get(id).map(Tracked::get) else { return };
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

fn tally<'a>(run: &LiveRun, dag: &'a mut LiveDag) -> &'a mut TallyRow {
    let new = || Tracked::new(TallyRow::new(run.row.get().dag_id.clone()));
    dag.tally.get_or_insert_with(new).change()
}
