//! Health and projections.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum HealthStatus {
    /// As it should be.
    Green,
    /// It works, and somebody should look.
    Yellow,
    /// It does not work.
    Red,
}

/// How well the node is: as its worst component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The worst of its components.
    pub status: HealthStatus,
    /// The parts.
    pub components: Vec<ComponentHealth>,
}

/// How well a part of the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentHealth {
    /// `ledger`, `checkpoints`, `clock`, `projections`, `workers` or `schedulers`.
    pub name: String,
    /// How well.
    pub status: HealthStatus,
    /// What was found, and what to do about it.
    pub message: String,
}

/// How far the projections are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionStatus {
    /// Version of what is folded into which rows; rises with releases.
    pub version: u32,
    /// Events applied; the next to come has this `seq`.
    pub position: u64,
    /// Hash of the last event applied.
    pub hash: String,
    /// Events in the ledger that are not applied yet.
    pub lag: u64,
}

/// What came of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildReport {
    /// Events that the new read models were folded from.
    pub position: u64,
    /// Where the replaced read models had gone another way; empty when they had not.
    pub diverged: Vec<DivergenceView>,
}

/// Where two folds of one ledger went apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivergenceView {
    /// The read model.
    pub model: String,
    /// After this many events the two were still equal.
    pub equal_at: u64,
    /// After this many they were not: the first differing event lies between.
    pub differs_at: u64,
}

/// What came of comparing the read models in use with a fresh fold of the same events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Whether everything is the same.
    pub identical: bool,
    /// Events that both were folded from.
    pub position: u64,
    /// The read models.
    pub models: Vec<ModelCheck>,
    /// Rows whose indexed columns or labels say something else than the row itself.
    pub strays: u64,
}

/// One read model, in use and rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCheck {
    /// The read model.
    pub model: String,
    /// Whether it is the same.
    pub identical: bool,
    /// Rows in use.
    pub rows: u64,
    /// Digest of the rows in use, computed from them.
    pub live: String,
    /// Digest of the rows in use, as it was kept up with them; differs from `live` when somebody
    /// else wrote to the file.
    pub kept: String,
    /// Digest of the rows that the ledger gives.
    pub rebuilt: String,
    /// Where the two went apart, as far as recorded digests say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diverged: Option<DivergenceView>,
    /// The first rows that differ.
    pub differences: Vec<RowDifferenceView>,
}

/// A row that is not what the ledger gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowDifferenceView {
    /// The row's key.
    pub key: String,
    /// The row in use, as JSON text, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub live: Option<String>,
    /// The row that the ledger gives, as JSON text, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rebuilt: Option<String>,
}
