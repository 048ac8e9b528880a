//! DAGs and their versions.

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{Actor, DagId, ScheduleId},
    json::CanonicalJson,
    time::Timestamp,
};
use utoipa::ToSchema;

use super::MarkView;

/// A DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DagView {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that runs start with unless they name one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_version: Option<u32>,
    /// Versions that no run starts with, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub disabled_versions: Vec<u32>,
    /// The newest version.
    pub latest_version: u32,
    /// Who paused it: none of its runs start, and no step of them is leased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<MarkView>,
    /// Who started how many runs, where its budget of starts was spent and it is paused for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub brake: Option<BrakeView>,
    /// When its first version was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A budget of starts that was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrakeView {
    /// Runs that were started in the window.
    pub starts: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// Who started how many of them, those who started most first.
    pub causes: Vec<StartCauseView>,
}

/// Who started how many runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartCauseView {
    /// Who.
    #[schema(value_type = String)]
    pub actor: Actor,
    /// For this schedule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub schedule_id: Option<ScheduleId>,
    /// How many.
    pub starts: u32,
}

/// A version of a DAG; it never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DagVersionView {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// Its number, from 1.
    pub version: u32,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// The spec as its author wrote it, as canonical JSON.
    #[schema(value_type = Object)]
    pub spec: CanonicalJson,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    /// `seq` of its `DagVersionRegistered`.
    pub seq: u64,
}

/// A version of a DAG in a list, as it stands among the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DagVersionItem {
    /// Its number, from 1.
    pub version: u32,
    /// Whether runs start with it unless they name one.
    pub active: bool,
    /// Whether no run starts with it.
    pub disabled: bool,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    /// `seq` of its `DagVersionRegistered`.
    pub seq: u64,
}

/// To which version to roll back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollBackBody {
    /// A version older than the active one.
    #[schema(minimum = 1)]
    pub to_version: u32,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// How a DAG stands after a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedDag {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that runs start with unless they name one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_version: Option<u32>,
    /// Versions that no run starts with, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub disabled_versions: Vec<u32>,
    /// Whether none of its runs start, and no step of them is leased.
    pub paused: bool,
    /// A read with this as `minSeq` sees the change; absent when there was nothing to change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
}

/// What clearing a version came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClearedVersion {
    /// Runs that were asked to end by this request.
    pub cancelled: u64,
    /// Whether there may be more: ask again.
    pub more: bool,
}

/// The answer to registering a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredDag {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The version that holds this spec.
    pub version: u32,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// Whether this request registered it; `false` when the digest was known.
    pub created: bool,
    /// A read with this as `minSeq` sees the version; absent when nothing was recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
}

/// The answer to validating a spec that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidDag {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// How many steps it has.
    pub steps: usize,
}
