//! What dispatch wants decided.

use stella_domain::ids::{FencingToken, RunId, StepId};

use super::Slot;

/// Work that is due.
#[derive(Debug)]
pub enum Due {
    /// A queued step and a worker that waits for one.
    Grant {
        /// The run.
        run_id: RunId,
        /// The step.
        step_id: StepId,
        /// The worker's place.
        slot: Slot,
    },
    /// A lease was not renewed in time.
    Expire(FencingToken),
    /// A step's time ran out, and its worker did not say so.
    TimeOut(FencingToken),
    /// A retry's time has come.
    Retry(RunId, StepId),
    /// A run's time is over.
    Deadline(RunId),
    /// What the ledger holds beyond the open work that this began with is to be read.
    CatchUp,
}
