//! What the events of a run do to its rows and to its DAG's counters.

use stella_domain::{
    aggregate::RunStatus,
    event::{ErrorCode, RunCreated, RunEvent, RunRequest},
    ids::{Actor, RunId},
};

use super::{
    LiveDag, LiveRun, Place,
    step::{
        Folded, NEVER_QUEUED, close, count, count_attempt, fail, forgive, insert, logged, queue,
        shift, start, tolerate,
    },
};
use crate::{
    rows::{RunRow, StepRow, StepState, TallyRow},
    tracked::Tracked,
};

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
        cancel: None,
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
        rerun_of: created.rerun_of.clone(),
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
    actor: &Actor,
    event: &RunEvent,
) -> Folded {
    run.row.change().last_seq = place.seq;
    match event {
        RunEvent::RunCreated(..) => tally(run, dag).runs_created += 1,
        RunEvent::StepQueued(data) => queue(run, dag, place, data)?,
        RunEvent::StepStarted(data) => start(run, dag, place, data)?,
        RunEvent::StepSucceeded(data, payload) => {
            count_attempt(run, dag, place, &data.step_id);
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
            count_attempt(run, dag, place, &data.step_id);
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
        RunEvent::StepLeaseReturned(data, payload) => {
            let code = ErrorCode::lenient(ErrorCode::LEASE_RETURNED);
            fail(run, dag, place, &data.step_id, code, None)?;
            logged(run, &data.step_id, payload.as_ref().map(|payload| &payload.log));
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
            step.decided_by = Some(actor.clone());
            run.row.change().steps_succeeded += 1;
        }
        RunEvent::StepRejected(data, payload) => {
            let reason = payload.as_ref().map(|payload| payload.reason.clone());
            let code = ErrorCode::lenient(ErrorCode::REJECTED);
            fail(run, dag, place, &data.step_id, code, reason)?;
            let step = run.steps.get_mut(&data.step_id).ok_or("nobody was asked")?;
            step.change().decided_by = Some(actor.clone());
        }
        RunEvent::RunCancelRequested(_, payload) => {
            let reason = payload.as_ref().map(|payload| payload.reason.clone());
            let row = run.row.change();
            row.cancel = Some(super::mark(actor, place, reason));
            row.status = RunStatus::Cancelling;
        }
        RunEvent::RunDeadlinePassed(_) => run.row.change().status = RunStatus::Cancelling,
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
    gone |= row.cancel.as_mut().and_then(|mark| mark.reason.take()).is_some();
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
            let row = step.change();
            count(dag, &row.dag_id, row.plugin.as_ref(), Some(from), StepState::Dropped)?;
            row.phase = StepState::Dropped;
        }
    }
    Ok(())
}

fn end(run: &mut LiveRun, dag: &mut LiveDag, place: &Place, status: RunStatus) {
    let row = run.row.change();
    row.status = status;
    row.ended_at = Some(place.at);
    let took_ms = place.at.ms_since(row.created_at);
    let tally = tally(run, dag);
    if status != RunStatus::Cancelled {
        tally.took(took_ms);
    }
    match status {
        RunStatus::Succeeded => tally.runs_succeeded += 1,
        RunStatus::Failed => tally.runs_failed += 1,
        RunStatus::Cancelled => tally.runs_cancelled += 1,
        RunStatus::TimedOut => tally.runs_timed_out += 1,
        RunStatus::Running | RunStatus::Failing | RunStatus::Cancelling => {}
    }
}

fn tally<'a>(run: &LiveRun, dag: &'a mut LiveDag) -> &'a mut TallyRow {
    let new = || Tracked::new(TallyRow::new(run.row.get().dag_id.clone()));
    dag.tally.get_or_insert_with(new).change()
}
