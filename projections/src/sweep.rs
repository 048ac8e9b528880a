//! What was erased leaves the rows at once, and the file with the next sweep: SQLite does not clear
//! the space that rows leave behind, so that the file is copied without it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Of the time, one part in this many at most goes into sweeps, which copy the whole file.
const SHARE: u32 = 20;
/// Before a sweep that was not possible is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// When the next sweep is due.
#[derive(Debug)]
pub(crate) struct Sweeping(Mutex<State>);

#[derive(Debug)]
struct State {
    due: bool,
    not_before: Instant,
}

impl Sweeping {
    pub(crate) fn new(due: bool) -> Self {
        Self(Mutex::new(State { due, not_before: Instant::now() }))
    }

    /// Something was erased.
    pub(crate) fn is_due(&self) {
        self.state().due = true;
    }

    /// When to sweep; `None` while there is nothing to be swept away.
    pub(crate) fn at(&self) -> Option<Instant> {
        let state = self.state();
        state.due.then_some(state.not_before)
    }

    /// A sweep that began then has ended; `done` unless it was not possible.
    pub(crate) fn ended(&self, begun: Instant, done: bool) {
        let now = Instant::now();
        let pause = if done { (now - begun) * SHARE } else { TRY_AGAIN };
        *self.state() = State { due: !done, not_before: now + pause };
    }

    /// A poisoned lock guards plain data that every holder leaves whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
