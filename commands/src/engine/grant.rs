//! Leases within decisions: the commit that readies a step carries its lease, if a worker waits.

use std::sync::Arc;

use stella_domain::{
    aggregate::{Aggregate, Control, Run, RunCommand},
    event::{Event, RunEvent, StepQueued},
    ids::{FencingToken, RunId, ScheduleId, StepId, Tenant},
    limits::COMMIT_EVENTS,
    time::Timestamp,
};
use stella_ledger::writer::Decided;

use super::{Shared, fold};
use crate::dispatch::{Due, Grant, Slot, StepKind, Waiting};

/// Events that a decision itself and the grants within it make at most; the rest is granted in
/// commits of its own.
const EVENTS_WITH_GRANTS: usize = COMMIT_EVENTS / 2;

/// What is to be done once a decision is durable.
#[derive(Debug)]
pub enum Effect {
    /// Send a lease to the worker it was granted to.
    Deliver {
        /// The lease.
        grant: Grant,
        /// The worker's place.
        slot: Slot,
        /// Whether the place was claimed by this decision, and goes back if it is abandoned.
        claimed: bool,
    },
    /// No lease came of a claimed place.
    Release(Slot),
    /// No lease came of it because the step is held back, which dispatch has not heard of yet.
    Hold(Slot),
    /// A schedule was attended to.
    Attended {
        /// The schedule.
        schedule_id: ScheduleId,
        /// When to look at it again.
        again: Option<Timestamp>,
    },
    /// The run of a fire was refused.
    FireRefused {
        /// The schedule.
        schedule_id: ScheduleId,
        /// The time that the fire is for.
        fire_time: Timestamp,
        /// Why.
        why: String,
    },
    /// There is nothing to be done for a fire.
    FireOver {
        /// The schedule.
        schedule_id: ScheduleId,
        /// The time that the fire is for.
        fire_time: Timestamp,
    },
}

impl Effect {
    pub(super) fn perform(self, shared: &Shared, tenant: &Tenant) {
        match self {
            Self::Deliver { grant, slot, .. } => {
                let token = grant.token.clone();
                if slot.sink.send(grant).is_err() {
                    // The worker has gone away: somebody else shall have the step.
                    shared.dispatch().orphan(tenant, &token, shared.clock.now());
                }
            }
            Self::Release(slot) => shared.dispatch().release(&slot),
            Self::Attended { schedule_id, again } => {
                shared.dispatch().attended(tenant, &schedule_id, again);
            }
            Self::FireRefused { schedule_id, fire_time, why } => {
                let now = shared.clock.now();
                shared.dispatch().fire_refused(tenant, &schedule_id, fire_time, why, now);
            }
            Self::FireOver { schedule_id, fire_time } => {
                let now = shared.clock.now();
                shared.dispatch().end_fire(tenant, &schedule_id, fire_time, now);
            }
            Self::Hold(slot) => {
                shared.dispatch().put_back(tenant, Due::Grant { slot }, shared.clock.now());
            }
        }
    }

    pub(super) fn abandon(self, shared: &Shared) {
        match self {
            Self::Deliver { slot, claimed: true, .. } => shared.dispatch().release(&slot),
            Self::Deliver { claimed: false, .. }
            | Self::Release(_)
            | Self::Hold(_)
            | Self::Attended { .. }
            | Self::FireRefused { .. }
            | Self::FireOver { .. } => {}
        }
    }
}

/// What of a run is held back, with all that is staged.
pub(super) struct Held {
    pub(super) control: Arc<Control>,
    pub(super) dag_is_paused: bool,
}

/// Lease the steps that `events` queue to workers that wait, unless something older waits, or they
/// are held back.
pub(super) fn lease_ready(
    shared: &Arc<Shared>,
    tenant: &Tenant,
    run_id: &RunId,
    run: &mut Run,
    held: &Held,
    events: &mut Vec<RunEvent>,
    at: Timestamp,
) -> Vec<Effect> {
    let mut effects = vec![];
    let mut i = 0;
    while i < events.len() && events.len() < EVENTS_WITH_GRANTS {
        if let RunEvent::StepQueued(queued) = &events[i]
            && !held.dag_is_paused
            && !held.control.holds(&queued.plugin)
        {
            let waiting = waiting(run_id, run, queued);
            let slot = shared.dispatch().claim(tenant, &waiting);
            if let Some(slot) = slot {
                effects.extend(lease(shared, run_id, run, events, waiting.step_id, slot, at));
            }
        }
        i += 1;
    }
    effects
}

fn waiting(run_id: &RunId, run: &Run, queued: &StepQueued) -> Waiting {
    let kind = StepKind {
        plugin: queued.plugin.clone(),
        dag_id: run.created.as_ref().map(|created| created.dag_id.clone()),
        concurrency: queued.concurrency.clone(),
    };
    let (run_id, step_id) = (run_id.clone(), queued.step_id.clone());
    Waiting { run_id, step_id, kind, priority: queued.priority }
}

fn lease(
    shared: &Shared,
    run_id: &RunId,
    run: &mut Run,
    events: &mut Vec<RunEvent>,
    step_id: StepId,
    slot: Slot,
    now: Timestamp,
) -> Option<Effect> {
    let lease_ms = shared.lease_ms;
    let command = RunCommand::GrantLease {
        step_id: step_id.clone(),
        worker_id: slot.worker_id.clone(),
        plugin: slot.plugin.clone(),
        lease_ms,
        now,
    };
    // What does not fit into this commit is granted in one of its own.
    if let Ok(granted) = run.decide(command)
        && events.len() + granted.len() <= COMMIT_EVENTS
    {
        fold(run, &granted);
        events.extend(granted);
    }
    match grant_of(run_id, run, &step_id, lease_ms) {
        Some(grant) => Some(Effect::Deliver { grant, slot, claimed: true }),
        // Its `with` could not be resolved: the step has failed, the place is still free.
        None => {
            shared.dispatch().release(&slot);
            None
        }
    }
}

/// The lease of `step_id`, if a decision of its own has granted it. Other leases in the same commit
/// are of steps that it readied, and go to others.
pub(super) fn granted(
    run_id: &RunId,
    run: &Run,
    decided: Option<&Decided>,
    step_id: &StepId,
    lease_ms: u64,
) -> Option<Grant> {
    let granted = |event: &Event| matches!(event, Event::Run(RunEvent::StepStarted(started)) if started.step_id == *step_id);
    decided?.events.iter().any(granted).then(|| grant_of(run_id, run, step_id, lease_ms))?
}

/// The open lease of a step, as its worker is told of it.
fn grant_of(run_id: &RunId, run: &Run, step_id: &StepId, lease_ms: u64) -> Option<Grant> {
    let created = run.created.as_ref()?;
    let step = run.step_spec(step_id)?;
    let action = step.action()?;
    let record = run.step(step_id)?;
    let lease = record.lease.as_ref().filter(|lease| lease.closing.is_none())?;
    Some(Grant {
        token: FencingToken { run_id: run_id.clone(), stream_version: lease.stream_version },
        step_id: step_id.clone(),
        attempt: record.attempt,
        dag_id: created.dag_id.clone(),
        plugin: action.plugin.clone(),
        action: action.name.clone(),
        // Rendered without error when the lease was decided.
        with: run.render_with(step_id).ok()?,
        lease_ms,
        timeout_ms: lease.timeout_ms.unwrap_or(step.timeout_ms),
    })
}
