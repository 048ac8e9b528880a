//! Approvals.

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{DagId, RunId, StepId},
    time::Timestamp,
};
use utoipa::ToSchema;

/// A step that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalView {
    /// Its run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Its run's DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The step.
    #[schema(value_type = String)]
    pub step_id: StepId,
    /// What is asked, in the words of the DAG's author.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Since when it waits.
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Timestamp,
    /// When it is decided without an operator; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
}
