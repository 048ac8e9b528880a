//! Schedules.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::Labels,
    ids::{DagId, RunId, ScheduleId},
    json::CanonicalJson,
    time::Timestamp,
};
use utoipa::ToSchema;

use super::MarkView;

/// What becomes of a fire while a run of an earlier one has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum OverlapName {
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum CatchUpName {
    /// They start no run.
    #[default]
    Skip,
    /// The last of them does.
    Last,
    /// The last `catchUpCap` of them do.
    All,
}

/// Create a schedule, or say what it is from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleBody {
    /// The schedule.
    #[schema(value_type = String)]
    pub schedule_id: ScheduleId,
    /// The DAG of which runs start.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that runs start with; the active one where none is named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub dag_version: Option<u32>,
    /// A cron expression of five fields. Exactly one of `cron`, `every` and `at` is given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "0 3 * * *")]
    pub cron: Option<String>,
    /// The time zone of `cron`: a name of the IANA database, or UTC where none is given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// An interval such as `30m`, counted from `startAt`, or else from 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "30m")]
    pub every: Option<String>,
    /// The one time at which it fires (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// No fire time is before this one (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = DateTime)]
    pub start_at: Option<String>,
    /// No fire time is at this one or later (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = DateTime)]
    pub end_at: Option<String>,
    /// Fires are due up to so long after their time, such as `5m`: an hour at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "5m")]
    pub jitter: Option<String>,
    /// What becomes of a fire while a run of an earlier one has not ended.
    #[serde(default)]
    pub overlap: OverlapName,
    /// What becomes of fires that nobody was there for.
    #[serde(default)]
    pub catch_up: CatchUpName,
    /// With `catchUp` `all`: how many, 1 to 100; 10 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 100)]
    pub catch_up_cap: Option<NonZeroU32>,
    /// What runs start with, an object.
    #[serde(default = "CanonicalJson::empty_object")]
    #[schema(value_type = Object)]
    pub inputs: CanonicalJson,
    /// The input that is given the fire time, as RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fire_time_input: Option<String>,
    /// Labels of the runs.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// Priority of the runs: higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// Why it is so, for those who read the ledger; not among what is shown of it.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Fire now. May be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerBody {
    /// The time that the fire is for (RFC 3339); now where none is given. Asked for the same time
    /// again, it fires once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(format = DateTime)]
    pub fire_time: Option<String>,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Fire for times that are past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackfillBody {
    /// The first fire time is at this time or later (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// And the last before this one.
    #[schema(format = DateTime)]
    pub to: String,
    /// Fires at most: with more it is refused.
    #[serde(default = "usual_cap")]
    #[schema(minimum = 1, maximum = 10_000, default = 100)]
    pub cap: u32,
    /// Runs that go on at once at most.
    #[serde(default = "one_at_once")]
    #[schema(value_type = u32, minimum = 1, default = 1)]
    pub concurrency: NonZeroU32,
    /// List the fires, and start nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

fn usual_cap() -> u32 {
    100
}

fn one_at_once() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// A fire whose run has not ended, or does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FireView {
    /// The time that it is for.
    #[schema(value_type = String, format = DateTime)]
    pub fire_time: Timestamp,
    /// Its run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Why it fired: `due`, `caughtUp`, `trigger`, `backfill`.
    pub cause: String,
    /// Whether the run exists.
    pub started: bool,
    /// It starts when this run has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub after: Option<RunId>,
    /// Why its run was refused; it is tried again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

/// Fire times that started no run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissView {
    /// The first.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// The last.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// `late`, `overlap` or `hasRun`.
    pub reason: String,
}

/// A backfill, under way or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillView {
    /// The first fire time is at this time or later.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// And the last before this one.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// How many fire times there are.
    pub fires: u32,
    /// How many were decided on.
    pub done: u32,
    /// Of these, how many had a run already.
    pub had_run: u32,
    /// How many of its runs go on, or are about to.
    pub open: usize,
    /// Whether there is more to come, or runs of it go on.
    pub under_way: bool,
    /// Who asked for it.
    pub requested: MarkView,
    /// Who ended it early.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancelled: Option<MarkView>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    /// What it is, as it would be asked for.
    pub spec: ScheduleBody,
    /// The next fire times, up to five. What its jitter adds is not in them.
    #[schema(value_type = Vec<String>)]
    pub next: Vec<Timestamp>,
    /// Whether each of its fire times was decided on, and none follows.
    pub over: bool,
    /// What keeps it from firing beside its own pause: that of all schedules, of its DAG, or a drain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<String>,
    /// Times that it fired.
    pub fired: u64,
    /// The newest fire's time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_fire_time: Option<Timestamp>,
    /// And its run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub last_run_id: Option<RunId>,
    /// The newest of what it did not fire for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_miss: Option<MissView>,
    /// Fires whose run has not ended, by time.
    pub open: Vec<FireView>,
    /// Who paused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<MarkView>,
    /// The newest backfill.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backfill: Option<BackfillView>,
    /// Who created it.
    pub created: MarkView,
    /// Who changed it last.
    pub updated: MarkView,
}

/// What a command to a schedule came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedSchedule {
    /// The schedule.
    #[schema(value_type = String)]
    pub schedule_id: ScheduleId,
    /// Whether it is paused.
    pub paused: bool,
    /// The run of a fire that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// What that run waits for before it is created, if something holds it back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits: Option<String>,
    /// Fires that were cleared, or of which a backfill consists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(value_type = Vec<String>)]
    pub fire_times: Vec<Timestamp>,
    /// Of a backfill: those of them that have had their run, and are passed over.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(value_type = Vec<String>)]
    pub had_run: Vec<Timestamp>,
    /// A read with this as `minSeq` sees the change; absent when there was nothing to change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
}
