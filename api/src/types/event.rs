//! Events as the ledger holds them.

use serde::{Deserialize, Serialize, de::IgnoredAny};
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

/// One event of a run on `GET /runs/stream`.
///
/// `data`, `hash`, `header`, `payload` and `salt` are those of the event's line in an export: whoever
/// reads can hash them. The other members repeat what the header says.
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
    /// Salt of `payloadHash`, 32 hex digits; there when the payload is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub salt: Option<String>,
    /// What was hashed, in canonical form; its `prev` is the hash of the event before.
    #[schema(value_type = Object)]
    pub header: CanonicalJson,
}

/// An event that the filter leaves out, on `GET /runs/stream?chain=true`: what links the event
/// before it to the one after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamLink {
    /// Position in the ledger.
    pub seq: u64,
    /// Hash of the header, 64 hex digits.
    pub hash: String,
    /// What was hashed, in canonical form.
    #[schema(value_type = Object)]
    pub header: CanonicalJson,
}

/// What comes on `GET /runs/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StreamItem {
    /// An event that was asked for.
    Event(Box<StreamMessage>),
    /// One that was not, where the chain was asked for.
    Link(StreamLink),
}

impl StreamItem {
    /// Read a message of the stream.
    ///
    /// # Errors
    /// What is missing, or has another shape.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        /// An event names its run, a link does not.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            run_id: Option<IgnoredAny>,
        }
        let Probe { run_id } = serde_json::from_str(text)?;
        Ok(match run_id {
            Some(_) => Self::Event(serde_json::from_str(text)?),
            None => Self::Link(serde_json::from_str(text)?),
        })
    }

    /// Its position in the ledger.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Event(message) => message.seq,
            Self::Link(link) => link.seq,
        }
    }
}
