//! What dispatch wants decided.

use stella_domain::{
    ids::{FencingToken, RunId, ScheduleId, StepId},
    time::Timestamp,
};

use super::Slot;

/// Work that is due.
#[derive(Debug)]
pub enum Due {
    /// A queued step and a worker that waits for one.
    Grant {
        /// The worker's place, claimed for the step.
        slot: Slot,
    },
    /// A lease was not renewed in time.
    Expire(FencingToken),
    /// A lease reached nobody.
    Return(FencingToken),
    /// A step's time ran out, and its worker did not say so.
    TimeOut(FencingToken),
    /// A retry's time has come.
    Retry(RunId, StepId),
    /// An approval's time is over.
    Approval(RunId, StepId),
    /// A run's time is over.
    Deadline(RunId),
    /// The queue was drained, and nothing is left.
    Drained,
    /// A schedule may have something to fire.
    Attend(ScheduleId),
    /// A fire has no run yet.
    StartFire(ScheduleId, Timestamp),
    /// A fire takes the place of this run.
    CancelFor(RunId),
    /// What the ledger holds beyond the open work that this began with is to be read.
    CatchUp,
}
