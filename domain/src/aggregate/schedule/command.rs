//! What can be asked of a schedule.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use super::{MAX_BACKFILL, MAX_OPEN_FIRES};
use crate::{
    event::ScheduleRequest,
    ids::{RunId, Tenant},
    schedule::{CompiledSchedule, ScheduleError},
    time::Timestamp,
};

/// A fire whose run has not ended, or does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFire {
    /// The time that it is for.
    pub fire_time: Timestamp,
    /// Its run.
    pub run_id: RunId,
    /// Whether it belongs to a backfill.
    pub backfill: bool,
    /// Whether the run exists.
    pub started: bool,
}

/// What is known outside of the schedule when it looks what is due.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Whose schedule it is.
    pub tenant: Tenant,
    /// Now.
    pub now: Timestamp,
    /// When it, its DAG or all schedulers were last let go on, as far as that is known.
    pub free_since: Option<Timestamp>,
    /// Its fires that are open, earliest first.
    pub open: Vec<OpenFire>,
    /// Runs that exist, of those that it may want to start.
    pub existing: BTreeSet<RunId>,
}

/// What can be asked of a schedule.
#[derive(Debug, Clone)]
pub enum ScheduleCommand {
    /// Begin it, or change it.
    Set {
        /// What it does, checked.
        spec: Arc<CompiledSchedule>,
        /// What its runs start with.
        request: ScheduleRequest,
        /// Whether there must be one, or must be none, already.
        exists: bool,
        /// Fire times after this one count.
        now: Timestamp,
    },
    /// Fire what is due.
    Attend(Surroundings),
    /// Fire now, whatever is due.
    Trigger {
        /// The time that the fire is for.
        fire_time: Timestamp,
        /// What is known outside.
        around: Surroundings,
        /// In the operator's words.
        reason: String,
    },
    /// Do not fire any more, or do again.
    Pause {
        /// Which.
        paused: bool,
        /// In the operator's words.
        reason: String,
    },
    /// Let fires that have no run yet have none.
    Clear {
        /// What is known outside.
        around: Surroundings,
        /// In the operator's words.
        reason: String,
    },
    /// Fire for times that are past.
    Backfill {
        /// The first fire time is at this time or later.
        from: Timestamp,
        /// And the last before this one.
        to: Timestamp,
        /// Past is what comes before this time.
        now: Timestamp,
        /// Fires at most.
        cap: u32,
        /// Runs that go on at once at most.
        concurrency: NonZeroU32,
        /// In the operator's words.
        reason: String,
    },
    /// Start no more of the backfill.
    CancelBackfill {
        /// In the operator's words.
        reason: String,
    },
    /// End it.
    Delete {
        /// What is known outside.
        around: Surroundings,
        /// In the operator's words.
        reason: String,
    },
}

/// Why a schedule refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleRefusal {
    /// There is none.
    #[error("there is no such schedule: see `stella orch schedule list`")]
    Unknown,
    /// It would not do what its author wants.
    #[error("the schedule does not hold from now on")]
    Invalid(Vec<ScheduleError>),
    /// There is one, and it differs.
    #[error(
        "there is a schedule of this id, and it differs from what is asked for: change it with \
         `stella orch schedule update`"
    )]
    Exists,
    /// Fires for that many times are not wanted.
    #[error(
        "the backfill has more than {cap} fires: shorten it, or raise its cap (at most {MAX_BACKFILL})"
    )]
    BackfillTooLarge {
        /// As asked for.
        cap: u32,
    },
    /// What is not past yet fires by itself.
    #[error("the range ends at {to}, and it is {now}: a backfill is for times that are past")]
    BackfillAhead {
        /// As asked for.
        to: Timestamp,
        /// When.
        now: Timestamp,
    },
    /// No fire time lies there.
    #[error("the schedule has no fire time in this range")]
    BackfillEmpty,
    /// One at a time.
    #[error("a backfill of this schedule is under way: wait for its end, or cancel it")]
    BackfillUnderWay,
    /// Too many runs of it have not ended.
    #[error("{MAX_OPEN_FIRES} runs of this schedule have not ended: wait for some, or cancel them")]
    TooManyOpen,
}
