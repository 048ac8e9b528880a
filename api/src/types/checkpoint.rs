//! Checkpoints, proofs, keys.

use serde::{Deserialize, Serialize};
use stella_domain::{checkpoint::VerifierKey, hash::Hash32, json::CanonicalJson};
use utoipa::ToSchema;

/// Proof that an event is in the tree of a signed checkpoint (RFC 6962, section 2.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InclusionProof {
    /// The event.
    pub seq: u64,
    /// Its hash, 64 hex digits.
    #[schema(value_type = String)]
    pub hash: Hash32,
    /// Hashes from the leaf up, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub proof: Vec<Hash32>,
    /// Size of the checkpoint's tree.
    pub tree_size: u64,
    /// The checkpoint, a signed note.
    pub checkpoint: String,
}

/// Proof that a signed tree extends a smaller one (RFC 6962, section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyProof {
    /// Size of the smaller tree.
    pub from: u64,
    /// Root that the ledger's first `from` events lead to now, 64 hex digits: compare it with the
    /// one in the checkpoint that you hold.
    #[schema(value_type = String)]
    pub from_root: Hash32,
    /// Size of the checkpoint's tree.
    pub to: u64,
    /// Hashes, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub proof: Vec<Hash32>,
    /// The checkpoint of size `to`, a signed note.
    pub checkpoint: String,
}

/// The receipt of a run, as `docs/ledger-format.md`, section 11, has it. The server writes it as
/// text, and so does whoever keeps it: its bytes are canonical.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The checkpoint, a signed note.
    pub checkpoint: String,
    /// `DataErased` events that explain erased payloads, each with its proof.
    pub erasures: Vec<ProvenEvent>,
    /// The run's events, by seq.
    pub events: Vec<ProvenEvent>,
    /// 1.
    pub format: u32,
    /// `<origin>/<tenant>`.
    pub ledger: String,
    /// The run.
    pub run_id: String,
    /// Size of the checkpoint's tree.
    pub tree_size: u64,
}

/// An event, and the proof that it is in the tree.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ProvenEvent {
    /// The event's line of the export, an object.
    #[schema(value_type = Object)]
    pub event: CanonicalJson,
    /// Its inclusion proof, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub proof: Vec<Hash32>,
}

/// The keys that sign a ledger's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeys {
    /// What auditors pin: `<verifier key>`, with `@FROM-TO` for the sizes of tree that it may sign
    /// once keys were rotated. The last one signs now.
    pub pins: Vec<String>,
}

/// A request for another signing key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateKeyBody {
    /// The verifier key of the key in the server's file for the next one.
    #[schema(value_type = String)]
    pub new_key: VerifierKey,
}
