//! What is known of a run.

use serde::{Deserialize, Serialize};
use stella_domain::{
    aggregate::RunStatus,
    event::{ErrorCode, Labels, ScheduleFire},
    ids::{Actor, DagId, RunId, StepId},
    json::CanonicalJson,
    time::Timestamp,
};

use super::{Mark, Row};
use crate::model::{Model, Value};

/// A run as lists and status queries show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRow {
    /// Who started it.
    pub actor: Actor,
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: u32,
    /// Who wanted it to end before it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancel: Option<Mark>,
    /// When `RunCreated` was recorded.
    pub created_at: Timestamp,
    /// `seq` of `RunCreated`; lists are ordered by it.
    pub created_seq: u64,
    /// Digest of the spec.
    pub dag_digest: String,
    /// The DAG.
    pub dag_id: DagId,
    /// The version that the run is pinned to.
    pub dag_version: u32,
    /// When its time is over, if it has a timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// `seq` of the newest `DataErased` of it: labels, run token, outputs and messages are gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erased_seq: Option<u64>,
    /// The code that it fails or failed with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_code: Option<ErrorCode>,
    /// The first step that failed for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_step: Option<StepId>,
    /// Unsalted hash of the inputs.
    pub inputs_hash: String,
    /// Labels given at the start.
    pub labels: Labels,
    /// `seq` of the run's newest event.
    pub last_seq: u64,
    /// Leases that expired, over all steps.
    pub lease_expiries: u64,
    /// What it gave, if its DAG says what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outputs: Option<CanonicalJson>,
    /// Higher is dispatched first.
    pub priority: i32,
    /// Of a rerun: the first run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun_of: Option<RunId>,
    /// Retries that were scheduled, over all steps.
    pub retries: u64,
    /// The run.
    pub run_id: RunId,
    /// The caller's idempotency key, if one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_token: Option<String>,
    /// The fire of a schedule that it was started for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleFire>,
    /// Where it stands.
    pub status: RunStatus,
    /// Steps that were running when the run was cancelled, and have stopped.
    pub steps_cancelled: u64,
    /// Steps that failed for good.
    pub steps_failed: u64,
    /// Steps that were not carried out.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub steps_skipped: u64,
    /// Steps that are done.
    pub steps_succeeded: u64,
}

/// Rows of runs that were folded before there was such a number stay as they are.
#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Row for RunRow {
    const MODEL: Model = Model::Runs;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([
            self.created_seq.into(),
            Value::Text(text),
            self.status.as_str().into(),
            self.error_code.as_ref().map(ErrorCode::as_str).into(),
            self.run_id.as_str().into(),
            self.dag_id.as_str().into(),
            Value::Text(self.created_at.to_string()),
            inputs_key(&self.inputs_hash).into(),
        ]);
    }
}

/// Enough digits of an inputs hash to find it by.
pub(crate) fn inputs_key(inputs_hash: &str) -> &str {
    inputs_hash.get(3..15).unwrap_or_default()
}
