//! The proof of a time window.

use serde::{Deserialize, Serialize};
use stella_domain::{hash::Hash32, ids::LedgerId, merkle::RangeProof, time::Timestamp};
use stella_replay::{
    bundle::{Extends, Proof},
    export::Window,
};
use utoipa::ToSchema;

/// Everything of a window's bundle but its events (`docs/ledger-format.md`, section 10): those are
/// at `/ledger/export`, for the same `from` and `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowProof {
    /// `<origin>/<tenant>`.
    #[schema(value_type = String)]
    #[serde(with = "as_text")]
    pub ledger: LedgerId,
    /// Begin of the window.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the window, not part of it.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// `seq` of its first event.
    pub first_seq: u64,
    /// One past the `seq` of its last event: the right neighbour's. `firstSeq` if it is empty.
    pub end_seq: u64,
    /// Hash of the event before the first, 64 hex digits; zeros if there is none.
    #[schema(value_type = String)]
    pub prev: Hash32,
    /// Hash of its last event, 64 hex digits; `prev` if it is empty.
    #[schema(value_type = String)]
    pub last_hash: Hash32,
    /// Size of the checkpoint's tree.
    pub tree_size: u64,
    /// Range proof, left part, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub left: Vec<Hash32>,
    /// Range proof, right part, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub right: Vec<Hash32>,
    /// That the checkpoint extends the older one, if that was asked for.
    pub extends: Option<ExtendsProof>,
    /// The checkpoint, a signed note: the text of the bundle's `checkpoint`.
    pub checkpoint: String,
    /// The text of the bundle's `boundary.ndjson`.
    pub boundary: String,
    /// The text of the bundle's `erasures.ndjson`. It is empty in a bundle without erased payloads:
    /// what is named here may be there still, for the erasing is recorded first.
    pub erasures: String,
}

/// Proof that a checkpoint extends an older one (RFC 6962, section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtendsProof {
    /// Size of the older one's tree.
    pub size: u64,
    /// Root that the ledger's first `size` events lead to now, 64 hex digits: compare it with the
    /// one in the checkpoint that you hold.
    #[schema(value_type = String)]
    pub root: Hash32,
    /// Hashes, 64 hex digits each.
    #[schema(value_type = Vec<String>)]
    pub proof: Vec<Hash32>,
}

impl From<Proof> for WindowProof {
    fn from(proof: Proof) -> Self {
        let Window { from, to, first_seq, end_seq } = proof.window;
        let extends = |Extends { size, root, proof }| ExtendsProof { size, root, proof };
        Self {
            ledger: proof.ledger,
            from,
            to,
            first_seq,
            end_seq,
            prev: proof.prev,
            last_hash: proof.last_hash,
            tree_size: proof.tree_size,
            left: proof.range.left,
            right: proof.range.right,
            extends: proof.extends.map(extends),
            checkpoint: proof.checkpoint,
            boundary: proof.boundary,
            erasures: proof.erasures,
        }
    }
}

impl From<WindowProof> for Proof {
    fn from(wire: WindowProof) -> Self {
        let WindowProof { from, to, first_seq, end_seq, left, right, .. } = wire;
        let extends = |ExtendsProof { size, root, proof }| Extends { size, root, proof };
        Self {
            ledger: wire.ledger,
            window: Window { from, to, first_seq, end_seq },
            prev: wire.prev,
            last_hash: wire.last_hash,
            tree_size: wire.tree_size,
            range: RangeProof { left, right },
            extends: wire.extends.map(extends),
            checkpoint: wire.checkpoint,
            boundary: wire.boundary,
            erasures: wire.erasures,
        }
    }
}

/// A ledger's name as its text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use stella_domain::ids::LedgerId;

    pub(super) fn serialize<S: Serializer>(
        id: &LedgerId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<LedgerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
