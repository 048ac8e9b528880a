//! Workers: asking for steps, and reporting what came of them.

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::ErrorCode,
    ids::{DagId, FencingToken, PluginDigest, PluginName, PluginVersion, RunId, StepId, WorkerId},
    json::CanonicalJson,
    plugin::{PluginBuild, WorkerPlugin},
    time::Timestamp,
};
use utoipa::ToSchema;

/// Plugins that a worker names at most.
pub const POLLED_PLUGINS: usize = 256;
/// Leases that one poll asks for at most.
pub const POLLED_LEASES: u32 = 256;
/// Milliseconds that a poll waits at most.
pub const POLL_WAIT_MS: u64 = 60_000;

/// Ask for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PollBody {
    /// Who asks. Two workers never share a name.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// The plugins that it has, 1 to 256.
    #[schema(value_type = Vec<PolledPlugin>, min_items = 1, max_items = 256)]
    pub plugins: Vec<WorkerPlugin>,
    /// Leases wanted, 1 to 256.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 256, default = 1)]
    pub max: u32,
    /// How long to wait for the first, in milliseconds, up to 60,000.
    #[serde(default = "usual_wait_ms")]
    #[schema(maximum = 60_000, default = 10_000)]
    pub wait_ms: u64,
}

/// A plugin that a worker has: its name alone, or what else the worker knows of it. That is recorded
/// with each step that it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PolledPlugin {
    /// Its name.
    Name(String),
    /// What the worker knows of it.
    Described(DescribedPlugin),
}

/// What a worker knows of a plugin that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DescribedPlugin {
    /// Its name.
    #[schema(value_type = String)]
    pub name: PluginName,
    /// Its version: 1 to 64 printable ASCII characters, no spaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub version: Option<PluginVersion>,
    /// The digest of its files: an algorithm (a-z 0-9), a colon, 32 to 128 of 0-9 a-f.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub digest: Option<PluginDigest>,
}

impl From<WorkerPlugin> for DescribedPlugin {
    fn from(plugin: WorkerPlugin) -> Self {
        let WorkerPlugin { name, build: PluginBuild { digest, version } } = plugin;
        Self { name, version, digest }
    }
}

fn one() -> u32 {
    1
}

fn usual_wait_ms() -> u64 {
    10_000
}

/// The work that came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeasesView {
    /// As many as were asked for, or fewer; none when none came in time.
    pub leases: Vec<LeaseView>,
    /// When workers were last asked to load their plugins again, if they were. With a time that is new
    /// to it, a worker that can does so before it asks for more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub warm: Option<Timestamp>,
}

/// A step that a worker holds for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Proves that the lease is the current one: the fencing token.
    #[schema(value_type = String)]
    pub token: FencingToken,
    /// The run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// The step.
    #[schema(value_type = String)]
    pub step_id: StepId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The run's DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The plugin to use.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// The action to carry out.
    pub action: String,
    /// The inputs of the action.
    #[schema(value_type = Object)]
    pub with: CanonicalJson,
    /// How long the lease holds without a heartbeat, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How long the attempt may take, in milliseconds.
    pub timeout_ms: u64,
}

/// Renew a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeartbeatBody {
    /// Who holds it.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
}

/// What to do with the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum VerdictView {
    /// Carry on: the lease holds for another term.
    Continue,
    /// The run is being cancelled: end the step and report it as cancelled.
    Cancel,
    /// The lease is no longer this worker's: end the step and say nothing.
    Lost,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatView {
    /// What to do with the step.
    pub verdict: VerdictView,
    /// When workers were last asked to load their plugins again, if they were; no matter for the step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub warm: Option<Timestamp>,
}

/// Wait for steps to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancellationsBody {
    /// Who asks.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// How long to wait for the first, in milliseconds, up to 60,000.
    #[serde(default = "usual_wait_ms")]
    #[schema(maximum = 60_000, default = 10_000)]
    pub wait_ms: u64,
}

/// Steps of a worker that are to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancellationsView {
    /// Their fencing tokens: end them and report them as cancelled. Each is named until then.
    #[schema(value_type = Vec<String>)]
    pub tokens: Vec<FencingToken>,
}

/// Ask for the next work in the same breath; what is ready is granted, nothing is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PollMore {
    /// The plugins that the worker has, 1 to 256.
    #[schema(value_type = Vec<PolledPlugin>, min_items = 1, max_items = 256)]
    pub plugins: Vec<WorkerPlugin>,
    /// Leases wanted, 1 to 256.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 256, default = 1)]
    pub max: u32,
}

/// Report that a step is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompleteBody {
    /// Who holds the lease.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// The step's outputs, an object; `{}` otherwise.
    #[serde(default = "CanonicalJson::empty_object")]
    #[schema(value_type = Object)]
    pub outputs: CanonicalJson,
    /// Ask for the next work as well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub and_poll: Option<PollMore>,
}

/// Which worker ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveBody {
    /// The worker.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// It ended in an error.
    #[default]
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// It was ended because a heartbeat said so. Unasked, the worker gives the step back, as one that
    /// stops does: it is queued again at once, and that counts as neither a failure nor an expiry.
    Cancelled,
}

/// Report that an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailBody {
    /// Who holds the lease.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// How it failed; `code`, `message` and `retryable` are of `failed` only.
    #[serde(default)]
    pub kind: FailureKind,
    /// Stable code: up to 64 of A-Z 0-9 _, beginning with a letter.
    #[serde(default = "worker_error")]
    #[schema(value_type = String, default = "WORKER_ERROR")]
    pub code: ErrorCode,
    /// For people; cut at 4 KiB.
    #[serde(default)]
    pub message: String,
    /// Whether another attempt may help.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub retryable: bool,
    /// Ask for the next work as well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub and_poll: Option<PollMore>,
}

fn worker_error() -> ErrorCode {
    ErrorCode::lenient("WORKER_ERROR")
}

fn yes() -> bool {
    true
}
