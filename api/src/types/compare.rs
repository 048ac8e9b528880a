//! Two runs, side by side.

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::ErrorCode,
    ids::{PluginDigest, PluginName, PluginVersion, StepId},
};
use utoipa::ToSchema;

use super::{RunView, StepPhaseView};

/// Two runs, side by side: what they were given, step by step what came of it, and how they ended.
///
/// Times are shown and never count as a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunComparison {
    /// Whether the two are the same.
    pub verdict: CompareVerdict,
    /// Where they first go apart: what they were given comes first, then steps in the order in
    /// which they were queued, then how the runs ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_difference: Option<FirstDifference>,
    /// The first run.
    pub a: RunView,
    /// The second run.
    pub b: RunView,
    /// What is compared of the runs themselves.
    pub facts: Vec<FactComparison>,
    /// Steps that were ever queued in one of them: those of the first, then those of the second
    /// alone. Of more than 1,000 only those that differ, and of these the first 1,000.
    pub steps: Vec<StepComparison>,
    /// How many steps were compared.
    pub steps_compared: u64,
    /// Whether these were all of them: of each run 20,000 are looked at, and 64 MiB of outputs.
    pub whole: bool,
}

/// Whether two runs are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompareVerdict {
    /// In everything that is compared.
    Same,
    /// Nothing that is left differs, but outputs of one of them were erased.
    SameAsFarAsKept,
    /// Nothing that was compared differs, but one of them has more steps than are looked at.
    SameAsFarAsCompared,
    /// Not in everything.
    Different,
}

/// Where two runs first go apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirstDifference {
    /// In this step; in the runs themselves otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub step_id: Option<StepId>,
    /// In what: the name of a fact, or one of what `differs` has of the step.
    pub what: String,
}

/// One fact about both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactComparison {
    /// `dagId`, `dagVersion`, `dagDigest`, `inputsHash`, `status`, `errorCode` or `failedStep`.
    pub name: String,
    /// Of the first run; empty where it has none.
    pub a: String,
    /// Of the second run.
    pub b: String,
    /// Whether they are the same.
    pub same: bool,
}

/// One step in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepComparison {
    /// The step.
    #[schema(value_type = String)]
    pub step_id: StepId,
    /// In what it differs: `queued` (in one run only), `plugin`, `pluginVersion` and `pluginDigest`
    /// (where they are recorded in both), `phase`, `attempt`, `errorCode`, `outputs`.
    pub differs: Vec<String>,
    /// In the first run, if it was queued there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub a: Option<StepSide>,
    /// In the second run, if it was queued there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub b: Option<StepSide>,
    /// What it gave.
    pub outputs: OutputsComparison,
    /// Where the outputs first differ.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outputs_differ: Option<OutputsDifference>,
}

/// A step in one of two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSide {
    /// What carries it out.
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
    /// The newest attempt, from 1.
    pub attempt: u32,
    /// The code of the newest failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// How long the newest attempt waited for a worker, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waited_ms: Option<u64>,
    /// How long the newest attempt took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<u64>,
}

/// What a step gave in two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum OutputsComparison {
    /// Nothing in either.
    None,
    /// The same.
    Same,
    /// Not the same, or only in one of them.
    Different,
    /// Erased in one of them: nobody can say.
    Erased,
}

/// Where two outputs first differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputsDifference {
    /// A JSON Pointer (RFC 6901).
    pub path: String,
    /// The value there in the first run, as JSON text, cut where it is long; absent where there is
    /// none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub a: Option<String>,
    /// The value there in the second run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub b: Option<String>,
}
