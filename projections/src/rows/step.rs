//! What is known of a step of a run, once it was queued.

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::{ErrorCode, StepConcurrency},
    ids::{DagId, FencingToken, PluginName, RunId, StepId, WorkerId},
    json::CanonicalJson,
    time::Timestamp,
};

use super::Row;
use crate::model::{Model, Value};

/// Where a step stands. A step that was never queued has no row: it is waiting, or, once its run
/// has ended, never started.
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
    /// Was queued or backing off when its run stopped starting steps.
    Dropped,
}

impl StepState {
    /// Whether somebody still has to do something about it.
    pub fn is_open(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::BackingOff => true,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Dropped => false,
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
        }
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRow {
    /// The newest attempt, from 1.
    pub attempt: u32,
    /// The limit that it shares with others of its DAG.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub concurrency: Option<StepConcurrency>,
    /// The run's DAG.
    pub dag_id: DagId,
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
    /// What the plugin said about the newest failure.
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
    /// What carries it out.
    pub plugin: PluginName,
    /// Its run's priority.
    pub priority: i32,
    /// When the newest attempt was queued.
    pub queued_at: Timestamp,
    /// `seq` of the newest `StepQueued`.
    pub queued_seq: u64,
    /// Retries that were scheduled.
    pub retries: u64,
    /// Its run.
    pub run_id: RunId,
    /// `seq` of its run's `RunCreated`.
    pub run_seq: u64,
    /// `seq` of its first `StepQueued`.
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
            self.run_seq.into(),
            self.seq.into(),
            Value::Text(text),
            open.map(|step| step.phase.as_str()).into(),
            open.map(|step| step.dag_id.as_str()).into(),
            open.map(|step| step.plugin.as_str()).into(),
            open.map(|step| step.queued_seq).into(),
        ]);
    }
}
