//! What is known of a step of a run, once it was queued or decided on.

use serde::{Deserialize, Serialize};
use stella_domain::{
    artifact::Artifact,
    event::{ErrorCode, StepConcurrency},
    ids::{
        Actor, DagId, FencingToken, PluginDigest, PluginName, PluginVersion, RunId, StepId,
        WorkerId,
    },
    json::CanonicalJson,
    time::Timestamp,
};

use super::Row;
use crate::model::{Model, Value};

/// Where a step stands. A step that was never queued, skipped, expanded or put to an operator has no
/// row: it is waiting, or, once its run has ended, never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Waits for a worker.
    Queued,
    /// Leased.
    Running,
    /// Waits before its next attempt.
    BackingOff,
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Was running when the run was cancelled, and has stopped.
    Cancelled,
    /// Was queued, backing off or waiting for an operator when its run stopped starting steps.
    Dropped,
    /// Not carried out: its condition did not hold, or it needs a step that was skipped.
    Skipped,
    /// Waits for an operator.
    AwaitingApproval,
    /// Carried out for each item of a list, as steps of their own.
    Expanded,
}

impl StepState {
    /// Whether somebody still has to do something about it.
    pub fn is_open(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::BackingOff | Self::AwaitingApproval => true,
            Self::Succeeded
            | Self::Failed
            | Self::Cancelled
            | Self::Dropped
            | Self::Skipped
            | Self::Expanded => false,
        }
    }

    /// The state as written in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::BackingOff => "backingOff",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dropped => "dropped",
            Self::Skipped => "skipped",
            Self::AwaitingApproval => "awaitingApproval",
            Self::Expanded => "expanded",
        }
    }
}

/// Logs of a step that are in its row; of earlier attempts the run's events know.
const LOGS_IN_ROW: usize = 16;

/// The log of an attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLog {
    /// Which.
    pub attempt: u32,
    /// Where it is.
    pub log: Artifact,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRow {
    /// The newest attempt, from 1; 0 for a step that was never queued.
    pub attempt: u32,
    /// The limit that it shares with others of its DAG.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<StepConcurrency>,
    /// The run's DAG.
    pub dag_id: DagId,
    /// Of an approval with a timeout: when it is decided without an operator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// Of an approval that was decided: who did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<Actor>,
    /// When the newest attempt ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// The code of the newest failure; none once the step has succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_code: Option<ErrorCode>,
    /// `seq` of the step's newest event.
    pub last_seq: u64,
    /// Its leases that expired.
    pub lease_expiries: u64,
    /// Milliseconds that its lease holds without a heartbeat.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_ms: Option<u64>,
    /// Stream version of its newest `StepStarted`: the changing half of the fencing token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_version: Option<u64>,
    /// What its plugin wrote, of the newest attempts that left something.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub logs: Vec<AttemptLog>,
    /// What the plugin said about the newest failure; of an approval, what is asked and then the
    /// operator's reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// When it is queued again at the earliest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_before: Option<Timestamp>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outputs: Option<CanonicalJson>,
    /// Where it stands.
    pub phase: StepState,
    /// What carries it out, if it was given to a plugin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<PluginName>,
    /// The digest of the plugin's files in the newest attempt, if its worker said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin_digest: Option<PluginDigest>,
    /// The version of the plugin in the newest attempt, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin_version: Option<PluginVersion>,
    /// Its run's priority.
    pub priority: i32,
    /// When the newest attempt was queued, or what becomes of it was decided.
    pub queued_at: Timestamp,
    /// `seq` of the newest `StepQueued`, or of what was decided.
    pub queued_seq: u64,
    /// Retries that were scheduled.
    pub retries: u64,
    /// Its run.
    pub run_id: RunId,
    /// `seq` of its run's `RunCreated`.
    pub run_seq: u64,
    /// `seq` of its first event.
    pub seq: u64,
    /// When the newest attempt was leased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// The step.
    pub step_id: StepId,
    /// Who holds or held the newest lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker_id: Option<WorkerId>,
}

impl StepRow {
    /// The newest attempt left a log.
    pub(crate) fn logged(&mut self, log: Artifact) {
        if self.logs.len() == LOGS_IN_ROW {
            self.logs.remove(0);
        }
        self.logs.push(AttemptLog { attempt: self.attempt, log });
    }

    /// The newest lease's fencing token.
    pub fn token(&self) -> Option<FencingToken> {
        Some(FencingToken { run_id: self.run_id.clone(), stream_version: self.lease_version? })
    }
}

impl Row for StepRow {
    const MODEL: Model = Model::Steps;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        let open = self.phase.is_open().then_some(self);
        values.extend([
            self.seq.into(),
            Value::Text(text),
            open.map(|step| step.phase.as_str()).into(),
            open.map(|step| step.dag_id.as_str()).into(),
            open.and_then(|step| step.plugin.as_ref()).map(PluginName::as_str).into(),
            open.map(|step| step.queued_seq).into(),
            self.run_seq.into(),
        ]);
    }
}
