//! When the time of runs is over: one timer a run that has a timeout, gone with the run's end.

use std::collections::HashMap;

use stella_domain::{
    ids::{RunId, Tenant},
    time::Timestamp,
};

use super::timers::{Timer, Timers};

/// Runs with a timeout that have not ended.
#[derive(Default)]
pub(super) struct Deadlines {
    by_run: HashMap<(Tenant, RunId), Timestamp>,
}

impl Deadlines {
    /// The run's time is over at `at`.
    pub(super) fn set(&mut self, timers: &mut Timers, tenant: &Tenant, id: &RunId, at: Timestamp) {
        self.clear(timers, tenant, id);
        timers.set(tenant, at, Timer::Deadline(id.clone()));
        self.by_run.insert((tenant.clone(), id.clone()), at);
    }

    /// The run has ended, or is being ended.
    pub(super) fn clear(&mut self, timers: &mut Timers, tenant: &Tenant, id: &RunId) {
        if let Some(at) = self.by_run.remove(&(tenant.clone(), id.clone())) {
            timers.unset(tenant, at, Timer::Deadline(id.clone()));
        }
    }

    /// Whether the timer that fired is still the run's.
    pub(super) fn fired(&mut self, tenant: &Tenant, id: &RunId) -> bool {
        self.by_run.remove(&(tenant.clone(), id.clone())).is_some()
    }
}
