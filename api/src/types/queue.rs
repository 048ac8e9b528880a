//! What waits for workers.

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{DagId, PluginName},
    time::Timestamp,
};
use utoipa::ToSchema;

use super::{ControlView, PausedDagView, StuckPluginView};

/// What waits for workers: in all, by DAG, by plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// All of it.
    pub total: QueueDepthView,
    /// By DAG, by name.
    pub by_dag: Vec<DagQueueView>,
    /// By plugin, by name.
    pub by_plugin: Vec<PluginQueueView>,
    /// What is held back.
    #[serde(default)]
    pub control: ControlView,
    /// DAGs that are paused, by name; the first thousand.
    #[serde(default)]
    pub paused_dags: Vec<PausedDagView>,
    /// Plugins of which a step runs more than ten times as long as their steps usually do, and more
    /// than a minute.
    #[serde(default)]
    pub stuck: Vec<StuckPluginView>,
}

/// How much waits, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueDepthView {
    /// Steps that wait for a worker.
    pub queued: u64,
    /// Steps that a worker holds.
    pub running: u64,
    /// Steps that wait before their next attempt.
    pub backing_off: u64,
    /// When the step that has waited longest was queued.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_queued_at: Option<Timestamp>,
    /// How long that is, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_age_ms: Option<u64>,
}

/// What waits of one DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DagQueueView {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// How much.
    pub depth: QueueDepthView,
}

/// What waits for one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginQueueView {
    /// The plugin.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// How much.
    pub depth: QueueDepthView,
}
