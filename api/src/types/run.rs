//! Runs.

use serde::{Deserialize, Serialize};
use stella_domain::{
    aggregate::RunStatus,
    event::{ErrorCode, Labels, ScheduleFire},
    ids::{Actor, DagId, PluginName, PluginVersion, RunId, RunToken, ScheduleId, StepId},
    json::CanonicalJson,
    time::Timestamp,
};
use utoipa::ToSchema;

use super::MarkView;

/// Start a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartRunBody {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version; the active one otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub dag_version: Option<u32>,
    /// The inputs, an object; `{}` otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub inputs: Option<CanonicalJson>,
    /// Makes the request repeatable: the same run comes back. 1 to 256 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    pub run_token: Option<RunToken>,
    /// Free text by which to find the run, at most 32.
    #[serde(skip_serializing_if = "Labels::is_empty", default)]
    pub labels: Labels,
    /// Higher is dispatched first; 0 otherwise.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub priority: i32,
    /// Why, for those who read the ledger.
    #[serde(skip_serializing_if = "String::is_empty", default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

/// Cancel a run, approve or reject a step, seal a ledger, accept a clock fault: why. May be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Free text, recorded as an erasable payload.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Run a run again. May be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RerunBody {
    /// The version that the rerun follows; the active one otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub dag_version: Option<u32>,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Run again what has ended in a window. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkRerunBody {
    /// Created at or after this time (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// Created before this time (RFC 3339), which is past. What this request starts is later: sent
    /// again, it starts nothing twice.
    #[schema(format = DateTime)]
    pub to: String,
    /// How they ended: `failed` unless said otherwise, or `timedOut` or `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub status: Option<RunStatus>,
    /// Of this DAG.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub dag_id: Option<DagId>,
    /// Of this version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub of_dag_version: Option<u32>,
    /// Failed with this code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_code: Option<String>,
    /// Failed in a step of this plugin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// And of this version of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin_version: Option<PluginVersion>,
    /// The version that the reruns follow; the active one otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub dag_version: Option<u32>,
    /// Runs at most: with more it is refused.
    #[serde(default = "usual_rerun_cap")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub cap: u32,
    /// List the runs, and start nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// How runs ended that one request runs again.
pub const RERUN_STATUSES: [RunStatus; 3] =
    [RunStatus::Failed, RunStatus::TimedOut, RunStatus::Cancelled];

/// Runs that one request runs again at most.
pub const RERUN_CAP: u32 = 1_000;

fn usual_rerun_cap() -> u32 {
    100
}

/// What became of one run of a bulk rerun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RerunItem {
    /// The run that had ended.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Its DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// What it failed with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// Its rerun; absent where it was refused, and in a dry run where there is none yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rerun_id: Option<RunId>,
    /// Whether the rerun was there already.
    #[serde(default)]
    pub replayed: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

/// What a bulk rerun came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkRerun {
    /// The runs, newest first.
    pub items: Vec<RerunItem>,
}

/// A run as a command left it: the answer to starting, cancelling, approving and rejecting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedRun {
    /// The run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that the run is pinned to.
    pub dag_version: u32,
    /// Digest of that version's spec.
    pub dag_digest: String,
    /// Unsalted hash of the inputs, comparable between runs.
    pub inputs_hash: String,
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: u32,
    /// Higher is dispatched first.
    pub priority: i32,
    /// Where it stands.
    #[schema(value_type = RunStatusName)]
    pub status: RunStatus,
    /// Whether the run was there already.
    pub replayed: bool,
    /// A read with this as `minSeq` sees what this answer has seen.
    pub seq: u64,
    /// When it ended, if this answer waited for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The code that it failed with, if this answer waited for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// The first step that failed for good, if this answer waited for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub failed_step: Option<StepId>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// The run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that the run is pinned to.
    pub dag_version: u32,
    /// Digest of that version's spec.
    pub dag_digest: String,
    /// Where it stands.
    #[schema(value_type = RunStatusName)]
    pub status: RunStatus,
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: u32,
    /// Of a rerun: the first run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rerun_of: Option<RunId>,
    /// Who started it.
    #[schema(value_type = String)]
    pub started_by: Actor,
    /// The fire of a schedule that it was started for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleFireView>,
    /// Who asked for it to be cancelled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancel: Option<MarkView>,
    /// Higher is dispatched first.
    pub priority: i32,
    /// Unsalted hash of the inputs, comparable between runs.
    pub inputs_hash: String,
    /// Labels given at the start.
    pub labels: Labels,
    /// The caller's idempotency key, if one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_token: Option<String>,
    /// When `RunCreated` was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// `seq` of `RunCreated`.
    pub created_seq: u64,
    /// When its time is over, if its DAG has a timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// `seq` of the newest `DataErased` of it: inputs, outputs, labels, run token and messages are
    /// gone for good. Left out with `asOf`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erased_seq: Option<u64>,
    /// `seq` of its newest event.
    pub last_seq: u64,
    /// The code that it fails or failed with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// The first step that failed for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub failed_step: Option<StepId>,
    /// Steps that are done.
    pub steps_succeeded: u64,
    /// Steps that failed for good.
    pub steps_failed: u64,
    /// Steps that were running when the run was cancelled, and have stopped.
    pub steps_cancelled: u64,
    /// Steps that were not carried out.
    #[serde(default)]
    pub steps_skipped: u64,
    /// Retries that were scheduled, over all steps.
    pub retries: u64,
    /// Leases that expired, over all steps.
    pub lease_expiries: u64,
    /// What it gave, an object, if its DAG says what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub outputs: Option<CanonicalJson>,
}

/// The fire of a schedule that a run was started for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleFireView {
    /// The schedule.
    #[schema(value_type = String)]
    pub schedule_id: ScheduleId,
    /// The time that it is for.
    #[schema(value_type = String, format = DateTime)]
    pub fire_time: Timestamp,
}

impl From<ScheduleFire> for ScheduleFireView {
    fn from(ScheduleFire { schedule_id, fire_time }: ScheduleFire) -> Self {
        Self { schedule_id, fire_time }
    }
}

/// Where a run stands. `running`, `failing` and `cancelling` go on; the others are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RunStatus)]
pub enum RunStatusName {
    /// Steps wait, run or are about to be queued.
    Running,
    /// A step failed for good; what runs may finish, nothing new starts.
    Failing,
    /// Cancellation was asked for, or the run's time is over; what runs is being ended, nothing new
    /// starts.
    Cancelling,
    /// Ended: every step is done.
    Succeeded,
    /// Ended: a step failed for good.
    Failed,
    /// Ended because somebody wanted it to.
    Cancelled,
    /// Ended because its time was over.
    TimedOut,
}
