//! What went wrong, as RFC 9457 has it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong (RFC 9457, problem details).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, where, and what to do about it.
    pub detail: String,
    /// Stable and machine-readable, such as `RUN_TOKEN_CONFLICT`.
    pub code: String,
    /// Everything that is wrong with the body, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub errors: Vec<SpecErrorView>,
}

/// One thing that is wrong with a DAG spec or a run's inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpecErrorView {
    /// Where, such as `steps[2].needs[0]`; empty for the whole.
    pub path: String,
    /// What was wrong and what to do about it.
    pub message: String,
}
