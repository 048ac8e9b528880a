//! Steps of a run.

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::ErrorCode,
    ids::{Actor, PluginDigest, PluginName, PluginVersion, StepId, WorkerId},
    json::CanonicalJson,
    time::Timestamp,
};
use utoipa::ToSchema;

use super::AttemptLogView;

/// Where a step stands. A step of which nothing was decided yet is not listed: it waits for its needs
/// or, once its run has ended, never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepPhaseView {
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
    /// Carried out for each item of a list, as steps of their own: `<stepId>.0` and so on.
    Expanded,
}

impl StepPhaseView {
    /// The phase as written in answers and tables.
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

/// A step of a run, once it was queued, skipped, expanded or put to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The step.
    #[schema(value_type = String)]
    pub step_id: StepId,
    /// What carries it out, if it was given to a plugin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// The digest of the plugin's files in the newest attempt, if its worker said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin_digest: Option<PluginDigest>,
    /// The version of the plugin in the newest attempt, if its worker said it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin_version: Option<PluginVersion>,
    /// Where it stands.
    pub phase: StepPhaseView,
    /// The newest attempt, from 1; 0 for a step that was never queued.
    pub attempt: u32,
    /// Retries that were scheduled.
    pub retries: u64,
    /// Its leases that expired.
    pub lease_expiries: u64,
    /// When the newest attempt was queued, or what becomes of the step was decided.
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    /// When the newest attempt was leased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When the newest attempt ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// When it is queued again at the earliest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// Who holds or held the newest lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub worker_id: Option<WorkerId>,
    /// The code of the newest failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// What its plugin wrote about its work, of the newest 16 attempts that left something.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub logs: Vec<AttemptLogView>,
    /// What the plugin said about the newest failure; of an approval, what is asked and then the
    /// operator's reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Who approved or rejected it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub decided_by: Option<Actor>,
    /// What it gave, an object.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub outputs: Option<CanonicalJson>,
    /// `seq` of its newest event.
    pub last_seq: u64,
}
