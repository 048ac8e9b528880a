//! When the time of runs is over: one timer a run that has a timeout, gone with the run's end.

use stella_domain::{ids::RunId, time::Timestamp};

use super::{timers::Timer, work::WorkOf};

impl WorkOf<'_> {
    /// The run's time is over at `at`.
    pub(super) fn set_deadline(&mut self, id: &RunId, at: Timestamp) {
        self.clear_deadline(id);
        self.timers.set(self.tenant, at, Timer::Deadline(id.clone()));
        self.work.runs.entry(id.clone()).or_default().deadline = Some(at);
    }

    /// The run has ended, or is being ended.
    pub(super) fn clear_deadline(&mut self, id: &RunId) {
        let run = self.work.runs.get_mut(id);
        if let Some(at) = run.and_then(|run| run.deadline.take()) {
            self.timers.unset(self.tenant, at, Timer::Deadline(id.clone()));
        }
    }

    /// Whether the timer that fired is still the run's.
    pub(super) fn deadline_fired(&mut self, id: &RunId) -> bool {
        let run = self.work.runs.get_mut(id);
        run.is_some_and(|run| run.deadline.take().is_some())
    }
}
