//! Events as the ledger holds them.

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{Actor, RunId},
    json::CanonicalJson,
    time::Timestamp,
};
use utoipa::ToSchema;

/// An event with all members of its header. Field by field as in the ledger's format; to verify,
/// take an export, whose bytes are those that were hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Position in the ledger.
    pub seq: u64,
    /// Hash of the header, 64 hex digits.
    pub hash: String,
    /// Hash of the event before it.
    pub prev: String,
    /// The ledger, `<origin>/<tenant>`.
    pub ledger: String,
    /// What happened, past tense.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Version of this type's data and payload.
    pub schema: u32,
    /// The aggregate, such as `run/<runId>`.
    pub stream: String,
    /// Position in the stream, from 1.
    pub stream_version: u64,
    /// `seq` of the first event of its commit.
    pub commit_seq: u64,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
    /// Who caused it.
    #[schema(value_type = String)]
    pub actor: Actor,
    /// Commitment to the data.
    pub data_hash: String,
    /// Commitment to the payload; zeros if the event never had one.
    pub payload_hash: String,
    /// What the folding of state needs.
    #[schema(value_type = Object)]
    pub data: CanonicalJson,
    /// What people and plugins wrote; absent if there was none, or it was erased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<CanonicalJson>,
    /// Salt of `payloadHash`, 32 hex digits; there when the payload is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub salt: Option<String>,
}

/// One event of a run on `GET /runs/stream`: a text message of the WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamMessage {
    /// Position in the ledger; to go on after this message, reconnect with `fromSeq` one higher.
    pub seq: u64,
    /// Hash of the header, 64 hex digits.
    pub hash: String,
    /// What happened, past tense.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The run that it happened to.
    #[schema(value_type = String)]
    pub run_id: RunId,
    /// Position among the run's events, from 1.
    pub stream_version: u64,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
    /// Who caused it.
    #[schema(value_type = String)]
    pub actor: Actor,
    /// What the folding of state needs.
    #[schema(value_type = Object)]
    pub data: CanonicalJson,
    /// What people and plugins wrote; absent if there was none, or it was erased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<CanonicalJson>,
}
