//! The ledger as a whole.

use serde::{Deserialize, Serialize};
use stella_domain::time::Timestamp;
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
