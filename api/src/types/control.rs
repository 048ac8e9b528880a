//! What operators hold back, and why steps wait.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{Actor, DagId, PluginName, RunId, StepId, WorkerId},
    time::Timestamp,
};
use utoipa::ToSchema;

use super::DescribedPlugin;

/// Who did something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarkView {
    /// Who.
    #[schema(value_type = String)]
    pub actor: Actor,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// In their words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// `seq` of the event.
    pub seq: u64,
}

/// What is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlView {
    /// Who paused dispatch: no step is leased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dispatch_paused: Option<MarkView>,
    /// Plugins of which no step is leased, by name.
    pub plugins_paused: Vec<PausedPluginView>,
    /// Who paused the schedulers: no schedule fires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedulers_paused: Option<MarkView>,
    /// The newest drain, under way or over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drain: Option<DrainView>,
    /// How much runs at once at most.
    pub limits: Vec<LimitView>,
}

/// A plugin of which no step is leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PausedPluginView {
    /// The plugin.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// Who paused it.
    pub paused: MarkView,
}

/// A DAG of which nothing starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PausedDagView {
    /// The DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// Who paused it.
    pub paused: MarkView,
}

/// A drain: no run is admitted until what there was has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    /// Who started it.
    pub started: MarkView,
    /// Whether dispatch is paused once nothing is left.
    pub then_pause: bool,
    /// Its end; absent while it is under way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<MarkView>,
    /// Whether it ended because nothing was left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub emptied: Option<bool>,
}

/// Steps that run at once at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitView {
    /// Of this DAG's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub dag_id: Option<DagId>,
    /// Of this plugin's. Where neither is named, of all of the tenant's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// How many.
    #[schema(value_type = u32, minimum = 1)]
    pub limit: NonZeroU32,
    /// Who set it.
    pub set: MarkView,
}

/// Pause or resume dispatch. May be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueBody {
    /// Of this plugin only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Drain the queue. May be left out altogether.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainBody {
    /// Pause dispatch once nothing is left, instead of going on as before; where it is not said, as a
    /// drain that is under way already has it, or else go on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub then_pause: Option<bool>,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// Limit how much runs at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitBody {
    /// Of this DAG.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub dag_id: Option<DagId>,
    /// Of this plugin. Not together with a DAG; with neither, of all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// Steps that run at once at most; leave it out to lift the limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub limit: Option<NonZeroU32>,
    /// Why, for those who read the ledger.
    #[serde(default, deserialize_with = "super::reason")]
    #[schema(max_length = 1024)]
    pub reason: String,
}

/// What a change of what is held back came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedControl {
    /// Whether dispatch is paused.
    pub dispatch_paused: bool,
    /// Plugins that are paused.
    #[schema(value_type = Vec<String>)]
    pub plugins_paused: Vec<PluginName>,
    /// Whether the schedulers are paused.
    pub schedulers_paused: bool,
    /// Whether the queue is being drained.
    pub draining: bool,
    /// A read with this as `minSeq` sees the change; absent when there was nothing to change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
}

/// Why a step is not running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitView {
    /// Stable: `NEEDS`, `APPROVAL`, `BACKING_OFF`, `DISPATCH_PAUSED`, `PLUGIN_PAUSED`, `DAG_PAUSED`,
    /// `CONCURRENCY_LIMIT`, `NO_WORKER`, `WORKERS_BUSY`, `LEDGER_UNAVAILABLE`.
    pub code: String,
    /// For people: who, since when, how many, what to do.
    pub detail: String,
    /// When it is queued again at the earliest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// A step that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingStepView {
    /// Its run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// The step.
    #[schema(value_type = String)]
    pub step_id: StepId,
    /// Its run's DAG.
    #[schema(value_type = String)]
    pub dag_id: DagId,
    /// The plugin that it needs; absent where it waits for an operator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub plugin: Option<PluginName>,
    /// Its run's priority: higher goes first.
    pub priority: i32,
    /// The attempt that waits, from 1, or that was the last; 0 before it was queued.
    pub attempt: u32,
    /// When the attempt was queued; absent while its needs are not met.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub queued_at: Option<Timestamp>,
    /// Why it waits.
    pub why: WaitView,
}

/// What waits of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingStepsView {
    /// The steps, at most 1000.
    pub items: Vec<WaitingStepView>,
}

/// A plugin whose steps take far longer than usual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StuckPluginView {
    /// The plugin.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// When the step was leased that has run longest.
    #[schema(value_type = String, format = DateTime)]
    pub oldest_started_at: Timestamp,
    /// Its run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub run_id: Option<RunId>,
    /// The step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub step_id: Option<StepId>,
    /// How long that is, in milliseconds.
    pub oldest_age_ms: u64,
    /// What its attempts took on average that ended by themselves, in milliseconds.
    pub usual_ms: u64,
}

/// A worker that was heard of in the last two minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// The worker.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// The plugins that it asked for last.
    pub plugins: Vec<DescribedPlugin>,
    /// When it was heard of last.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Timestamp,
}

/// The workers that were heard of in the last two minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkersView {
    /// By id.
    pub items: Vec<WorkerView>,
}
