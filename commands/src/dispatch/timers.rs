//! What is to happen at a time: leases that may expire, retries that come due, steps that go back
//! into the queue, approvals and runs whose time is over, ledgers to catch up with.

use std::collections::{BTreeMap, BTreeSet};

use stella_domain::{
    ids::{FencingToken, RunId, ScheduleId, StepId, Tenant},
    time::Timestamp,
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Lease(FencingToken),
    Retry(RunId, StepId),
    /// An approval's time is over.
    Approval(RunId, StepId),
    /// A queued step that could not be leased may be tried again.
    Queue(RunId, StepId),
    /// The queue was drained, and something may be left or not.
    Drained,
    /// A schedule may have something to fire.
    Schedule(ScheduleId),
    /// A fire may start its run.
    Fire(ScheduleId, Timestamp),
    /// A run is to end because a fire takes its place.
    CancelFor(RunId),
    /// A run's time is over.
    Deadline(RunId),
    CatchUp,
}

#[derive(Default)]
pub(super) struct Timers {
    by_time: BTreeMap<Timestamp, BTreeSet<(Tenant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, tenant: &Tenant, at: Timestamp, timer: Timer) {
        self.by_time.entry(at).or_default().insert((tenant.clone(), timer));
    }

    pub(super) fn unset(&mut self, tenant: &Tenant, at: Timestamp, timer: Timer) {
        if let Some(timers) = self.by_time.get_mut(&at) {
            timers.remove(&(tenant.clone(), timer));
            if timers.is_empty() {
                self.by_time.remove(&at);
            }
        }
    }

    pub(super) fn reset(&mut self, tenant: &Tenant, old: Timestamp, new: Timestamp, timer: Timer) {
        self.unset(tenant, old, timer.clone());
        self.set(tenant, new, timer);
    }

    /// A timer that is due.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(Tenant, Timer)> {
        let mut first = self.by_time.first_entry().filter(|entry| *entry.key() <= now)?;
        let timer = first.get_mut().pop_first();
        if first.get().is_empty() {
            first.remove();
        }
        timer
    }

    pub(super) fn first(&self) -> Option<Timestamp> {
        self.by_time.keys().next().copied()
    }
}
