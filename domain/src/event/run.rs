//! Events of a run, stream `run/<runId>`.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Message, NoData, Reason, events};
use crate::{
    artifact::Artifact,
    dag::DagSpec,
    ids::{DagId, PluginDigest, PluginName, PluginVersion, RunId, ScheduleId, StepId, WorkerId},
    json::CanonicalJson,
    time::Timestamp,
};

/// Labels: free text by which people find their runs.
pub type Labels = BTreeMap<String, String>;

/// Data of `RunCreated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunCreated {
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: u32,
    /// How many steps of its kind run at once, if its DAG limits that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<StepConcurrency>,
    /// Digest of the spec that this run follows.
    pub dag_digest: String,
    /// The DAG.
    pub dag_id: DagId,
    /// The version that this run is pinned to.
    pub dag_version: u32,
    /// When the run's time is over, if it has a timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// Unsalted hash of the inputs, comparable between runs.
    pub inputs_hash: String,
    /// Higher is dispatched first; 0 unless asked otherwise.
    pub priority: i32,
    /// The first run, of which this is a rerun.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun_of: Option<RunId>,
    /// The fire of a schedule that it was started for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleFire>,
    /// The spec itself: named by version and digest in the ledger, resolved when read.
    #[serde(skip)]
    pub spec: Option<Arc<DagSpec>>,
}

/// A fire of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleFire {
    /// The time that it was for.
    pub fire_time: Timestamp,
    /// The schedule.
    pub schedule_id: ScheduleId,
}

/// How many steps run at once, of a DAG or of those of its runs that share a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepConcurrency {
    /// What the runs share, as a hash; none means all runs of the DAG.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Steps that run at once at most.
    pub limit: NonZeroU32,
}

/// Payload of `RunCreated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// The inputs, an object.
    #[serde(deserialize_with = "crate::json::stored")]
    pub inputs: CanonicalJson,
    /// Labels given at the start.
    pub labels: Labels,
    /// Why, in the words of whoever started it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The caller's idempotency key, if one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_token: Option<String>,
}

/// Data of `StepQueued`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepQueued {
    /// The attempt that waits, from 1.
    pub attempt: u32,
    /// What it shares its limit with, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<StepConcurrency>,
    /// With the first attempt of a step that has a total timeout: when that is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// The plugin that is needed, so that dispatch and queue need nothing else.
    pub plugin: PluginName,
    /// The run's priority, likewise.
    pub priority: i32,
    /// The step.
    pub step_id: StepId,
}

/// Data of `StepStarted`, which is the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStarted {
    /// The attempt, from 1.
    pub attempt: u32,
    /// How long the lease holds without a heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// The digest of the plugin's files, as the worker said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin_digest: Option<PluginDigest>,
    /// The version of the plugin that carries it out, as the worker said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin_version: Option<PluginVersion>,
    /// The step.
    pub step_id: StepId,
    /// Milliseconds that the attempt may take, where that is less than the step's timeout: what
    /// remained of its total timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_ms: Option<u64>,
    /// The worker that holds it.
    pub worker_id: WorkerId,
}

/// Data of the events that close an attempt without an error of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepAttempt {
    /// The attempt, from 1.
    pub attempt: u32,
    /// The step.
    pub step_id: StepId,
}

/// Payload of `StepSucceeded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutputs {
    /// What the plugin wrote about its work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<Artifact>,
    /// The outputs, an object.
    #[serde(deserialize_with = "crate::json::stored")]
    pub outputs: CanonicalJson,
}

/// Payload of `StepFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// What the plugin wrote about its work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<Artifact>,
    /// What went wrong, for people; cut at [`crate::limits::MESSAGE_BYTES`].
    pub message: String,
}

/// Payload of the events that close an attempt without words of their own, if it left a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLogged {
    /// What the plugin wrote about its work.
    pub log: Artifact,
}

/// Data of `StepFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepFailed {
    /// The attempt, from 1.
    pub attempt: u32,
    /// Stable code of the error.
    pub error_code: ErrorCode,
    /// The step.
    pub step_id: StepId,
}

/// Data of `StepRetryScheduled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRetryScheduled {
    /// The attempt to come.
    pub attempt: u32,
    /// When it is queued at the earliest.
    pub not_before: Timestamp,
    /// The step.
    pub step_id: StepId,
}

/// Data of the events that happen to a step outside its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepNamed {
    /// The step.
    pub step_id: StepId,
}

/// Data of `ApprovalRequested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequested {
    /// When it is decided without an operator, if the approval has a timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// The step.
    pub step_id: StepId,
}

/// Data of `StepSkipped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepSkipped {
    /// The skipped step that it needs; none when its own condition did not hold.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub need: Option<StepId>,
    /// The step.
    pub step_id: StepId,
}

/// Data of `StepExpanded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepExpanded {
    /// Items of the list: the steps `<stepId>.0` to `<stepId>.<count − 1>`.
    pub count: u32,
    /// The plugin that carries them out.
    pub plugin: PluginName,
    /// The step.
    pub step_id: StepId,
}

/// Payload of `RunSucceeded`, if the DAG says what a run gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutputs {
    /// The outputs, an object.
    #[serde(deserialize_with = "crate::json::stored")]
    pub outputs: CanonicalJson,
}

/// Data of `RunFailed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFailed {
    /// The code of the first step that failed for good.
    pub error_code: ErrorCode,
    /// That step.
    pub step_id: StepId,
}

/// A stable, machine-readable error code: `[A-Z][A-Z0-9_]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ErrorCode(Arc<str>);

impl ErrorCode {
    /// The step's time ran out.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// The worker stopped answering.
    pub const LEASE_EXPIRED: &str = "LEASE_EXPIRED";
    /// Workers gave the step back, again and again.
    pub const LEASE_RETURNED: &str = "LEASE_RETURNED";
    /// An expression in `with` found nothing to refer to.
    pub const EXPRESSION: &str = "EXPRESSION";
    /// An operator rejected the step.
    pub const REJECTED: &str = "REJECTED";
    /// The run's outputs are too large to be recorded.
    pub const OUTPUTS_TOO_LARGE: &str = "OUTPUTS_TOO_LARGE";

    /// A code as an author writes it; `None` when it is outside the grammar.
    pub fn parse(text: &str) -> Option<Self> {
        Self::fits(text).then(|| Self(text.into()))
    }

    /// A code given by a plugin; what is outside the grammar becomes `PLUGIN_ERROR`, so that a
    /// plugin cannot make its own failure unrecordable.
    pub fn lenient(text: &str) -> Self {
        Self(if Self::fits(text) { text } else { "PLUGIN_ERROR" }.into())
    }

    fn fits(text: &str) -> bool {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::lenient(&text))
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

events! {
    /// What happens to a run.
    RunEvent {
        /// The run exists, pinned to a DAG version.
        RunCreated = 1 (Box<RunCreated>, payload: Box<RunRequest>),
        /// A step's needs are met; it waits for a worker.
        StepQueued = 1 (StepQueued),
        /// A worker leased the step.
        StepStarted = 1 (StepStarted),
        /// The step is done.
        StepSucceeded = 1 (StepAttempt, payload: StepOutputs),
        /// The attempt ended in an error.
        StepFailed = 1 (StepFailed, payload: StepFailure),
        /// The attempt took longer than the step may.
        StepTimedOut = 1 (StepAttempt, payload: StepLogged),
        /// The worker that held the step stopped answering.
        StepLeaseExpired = 1 (StepAttempt, payload: StepLogged),
        /// The worker that held the step gave it back, or never got it.
        StepLeaseReturned = 1 (StepAttempt, payload: StepLogged),
        /// Another attempt follows.
        StepRetryScheduled = 1 (StepRetryScheduled),
        /// The step was running when the run was cancelled, and has stopped.
        StepCancelled = 1 (StepAttempt, payload: StepLogged),
        /// The step's condition did not hold, or it needs a step that was skipped.
        StepSkipped = 1 (StepSkipped),
        /// The step failed for good, and the run goes on.
        StepFailureTolerated = 1 (StepAttempt),
        /// The step is carried out for each item of a list.
        StepExpanded = 1 (StepExpanded),
        /// The step waits for an operator.
        ApprovalRequested = 1 (ApprovalRequested, payload: Message),
        /// An operator approved, or the approval's timeout did; the step is done.
        StepApproved = 1 (StepNamed, payload: Reason),
        /// An operator rejected, or the approval's timeout did; the step has failed.
        StepRejected = 1 (StepNamed, payload: Reason),
        /// Somebody wants the run to end; nothing new starts.
        RunCancelRequested = 1 (NoData, payload: Reason),
        /// The run's time is over: nothing new starts, what runs is being ended.
        RunDeadlinePassed = 1 (NoData),
        /// The run ended because it was cancelled.
        RunCancelled = 1 (NoData),
        /// The run ended; every step is done.
        RunSucceeded = 1 (NoData, payload: RunOutputs),
        /// The run ended; a step failed for good.
        RunFailed = 1 (RunFailed),
        /// The run ended because its time was over.
        RunTimedOut = 1 (NoData),
    }
}
