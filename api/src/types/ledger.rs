//! The ledger as a whole.

use serde::{Deserialize, Serialize};
use stella_domain::{ids::RunId, time::Timestamp};
use utoipa::ToSchema;

/// Where a ledger ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerHead {
    /// `<origin>/<tenant>`.
    pub ledger: String,
    /// Number of events; the newest has the `seq` before it.
    pub size: u64,
    /// Hash of the newest event, 64 hex digits.
    pub hash: String,
    /// When the newest event was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
}

/// Where an event that was just recorded stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptView {
    /// Its `seq`.
    pub seq: u64,
    /// Its hash, 64 hex digits.
    pub hash: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
}

/// Erase the payloads of a run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EraseBody {
    /// The run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Why. It stays in the ledger for ever: name the request or the rule, and no person.
    #[schema(min_length = 1, max_length = 1024)]
    pub reason: String,
}

/// An erasure that is recorded and carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasedRunView {
    /// The run.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Payloads that are gone.
    pub payloads: u64,
    /// `seq` of the `DataErased` that names them, of the last one where one cannot name all.
    pub seq: u64,
    /// When that was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
    /// Whether it was recorded before.
    pub replayed: bool,
}
