//! Events of a schedule, stream `schedule/<scheduleId>`.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Labels, NoData, Reason, events};
use crate::{
    ids::{RunId, ScheduleId},
    json::CanonicalJson,
    schedule::ScheduleSpec,
    time::Timestamp,
};

/// Data of `ScheduleCreated` and `ScheduleUpdated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSet {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// Fire times after this one count.
    pub since: Timestamp,
    /// What its author wants.
    pub spec: ScheduleSpec,
}

/// Payload of `ScheduleCreated` and `ScheduleUpdated`: what its runs start with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRequest {
    /// The inputs, an object.
    #[serde(deserialize_with = "crate::json::stored")]
    pub inputs: CanonicalJson,
    /// Labels.
    pub labels: Labels,
    /// Why the schedule is so, in the words of whoever said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

impl ScheduleRequest {
    /// Whether runs start with the same, whatever the reasons.
    pub fn starts_the_same(&self, other: &Self) -> bool {
        (&self.inputs, &self.labels) == (&other.inputs, &other.labels)
    }
}

/// Why a schedule fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FireCause {
    /// Its time had come.
    Due,
    /// Its time had come while nobody was there.
    CaughtUp,
    /// Somebody wanted it to.
    Trigger,
    /// It belongs to a backfill.
    Backfill,
}

/// Data of `ScheduleFired`: a run of this id is to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleFired {
    /// It starts when this run has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<RunId>,
    /// Whether that run is cancelled for it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancels: bool,
    /// Why.
    pub cause: FireCause,
    /// The time that it is for.
    pub fire_time: Timestamp,
    /// The run, derived from schedule and fire time.
    pub run_id: RunId,
}

/// Why fires start no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MissReason {
    /// Nobody was there in time, or the schedule was held back.
    Late,
    /// A run of an earlier fire had not ended.
    Overlap,
    /// There is a run of this fire already.
    HasRun,
}

/// Data of `ScheduleMissed`: fire times that start no run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleMissed {
    /// Whether they belong to a backfill.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub backfill: bool,
    /// The first of them.
    pub from: Timestamp,
    /// Why.
    pub reason: MissReason,
    /// The last of them.
    pub to: Timestamp,
}

/// Data of `TriggersCleared`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggersCleared {
    /// Fires that had no run yet, and get none.
    pub fire_times: Vec<Timestamp>,
}

/// Data of `BackfillRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillRequested {
    /// Runs of it that go on at once at most.
    pub concurrency: NonZeroU32,
    /// How many fire times there are.
    pub fires: u32,
    /// The first fire time is at this time or later.
    pub from: Timestamp,
    /// And the last before this one.
    pub to: Timestamp,
}

events! {
    /// What happens to a schedule.
    ScheduleEvent {
        /// There is a schedule.
        ScheduleCreated = 1 (Box<ScheduleSet>, payload: Box<ScheduleRequest>),
        /// It is another one now.
        ScheduleUpdated = 1 (Box<ScheduleSet>, payload: Box<ScheduleRequest>),
        /// A run is to start.
        ScheduleFired = 1 (ScheduleFired, payload: Reason),
        /// No run is to start.
        ScheduleMissed = 1 (ScheduleMissed),
        /// It does not fire any more.
        SchedulePaused = 1 (NoData, payload: Reason),
        /// It fires again.
        ScheduleResumed = 1 (NoData, payload: Reason),
        /// Fires without a run get none.
        TriggersCleared = 1 (TriggersCleared, payload: Reason),
        /// It is to fire for times that are past.
        BackfillRequested = 1 (BackfillRequested, payload: Reason),
        /// The rest of the backfill is not wanted.
        BackfillCancelled = 1 (NoData, payload: Reason),
        /// There is none any more.
        ScheduleDeleted = 1 (NoData, payload: Reason),
    }
}
