//! When a schedule fires, and with what: the spec, and the times that follow from it.
//!
//! A *fire time* is the time that the spec names. It is due that long after it as its jitter says.

mod timing;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

pub use self::timing::{CompiledSchedule, DueFires};
use crate::{
    dag::MAX_DURATION_MS,
    ids::{DagId, ScheduleId},
    time::Timestamp,
};

/// Longest jitter, in milliseconds: an hour.
pub const MAX_JITTER_MS: u64 = 3_600_000;
/// Shortest interval, in milliseconds.
pub const MIN_INTERVAL_MS: u64 = 1_000;
/// Longest interval, in milliseconds: what a duration can say.
pub const MAX_INTERVAL_MS: u64 = MAX_DURATION_MS;
/// Missed fires that are caught up with at most, whatever the spec says.
pub const MAX_CATCH_UP: u32 = 100;
/// A fire that is due no longer than this is on time; later it was missed. Milliseconds.
pub const ON_TIME_MS: u64 = 60_000;

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Timing {
    /// As a cron expression of five fields says, on the clocks of a time zone.
    Cron {
        /// Minute, hour, day of month, month, day of week.
        expression: String,
        /// A name of the IANA time zone database.
        time_zone: String,
    },
    /// Again and again, counted from the start of the schedule, or else from 1970.
    Every {
        /// Milliseconds from one fire to the next.
        ms: u64,
    },
    /// Once.
    Once {
        /// Then.
        at: Timestamp,
    },
}

/// What becomes of a fire while a run of an earlier one has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Overlap {
    /// It starts a run beside it.
    Allow,
    /// It starts none.
    #[default]
    Skip,
    /// One waits for it to end; those that follow meanwhile start none.
    QueueOne,
    /// The run is cancelled, and the fire starts its own when that has ended.
    CancelRunning,
}

/// What becomes of fires that nobody was there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatchUp {
    /// They start no run.
    #[default]
    Skip,
    /// The last of them does.
    Last,
    /// So many of them do, those that were last.
    All(NonZeroU32),
}

/// A schedule as its author wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// What becomes of fires that nobody was there for.
    pub catch_up: CatchUp,
    /// The DAG of which runs start.
    pub dag_id: DagId,
    /// The version that runs start with; the active one where none is named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dag_version: Option<u32>,
    /// No fire time is at this time or later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_at: Option<Timestamp>,
    /// The input that is given the fire time, as RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fire_time_input: Option<String>,
    /// Fires are due up to so many milliseconds after their time; how many follows from schedule
    /// and fire time.
    pub jitter_ms: u64,
    /// What becomes of a fire while a run of an earlier one has not ended.
    pub overlap: Overlap,
    /// Of the runs: higher goes first.
    pub priority: i32,
    /// No fire time is before this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_at: Option<Timestamp>,
    /// When it fires.
    pub timing: Timing,
}

/// One thing that is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ScheduleError {
    /// The member that is wrong.
    pub path: &'static str,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// The run token of a fire: the same fire is the same run, whoever starts it and however often.
pub fn fire_token(schedule_id: &ScheduleId, fire_time: Timestamp) -> String {
    format!("schedule/{schedule_id}/{fire_time}")
}
