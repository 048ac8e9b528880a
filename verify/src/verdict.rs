//! What a verifier concludes: `docs/ledger-format.md`, section 10.5.

use std::time::Duration;

use serde::{Serialize, Serializer};
use stella_domain::{
    checkpoint::CheckpointError, hash::Hash32, merkle::MerkleError, time::Timestamp,
};

use crate::{
    manifest::{Manifest, ManifestError, WindowTimes},
    reason::Reason,
};

/// What a bundle is worth. The order is from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// The window is complete and unchanged.
    Verified,
    /// The same, and payloads were erased, each explained by a logged `DataErased`.
    VerifiedWithErasures,
    /// Nothing contradicts, but something is missing that would show that the window is whole.
    Incomplete,
    /// Something contradicts what was signed, hashed or written in the manifest.
    Tampered,
    /// No signature by a key that the auditor pinned speaks for it.
    Untrusted,
}

impl Verdict {
    /// The name, as documents and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "VERIFIED",
            Self::VerifiedWithErasures => "VERIFIED_WITH_ERASURES",
            Self::Incomplete => "INCOMPLETE",
            Self::Tampered => "TAMPERED",
            Self::Untrusted => "UNTRUSTED",
        }
    }

    /// Whether the window is whole and unchanged.
    pub fn is_good(self) -> bool {
        self <= Self::VerifiedWithErasures
    }
}

/// What was wrong, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields hold")]
pub enum Fault {
    #[error("the bundle has no file `{name}`")]
    NoFile { name: &'static str },
    #[error("the archive holds `{name}` twice")]
    FileTwice { name: &'static str },
    #[error("the archive ends too early: it was not copied whole")]
    ArchiveEnds,
    #[error("the archive cannot be read: {0}")]
    Archive(String),
    #[error("manifest.json: {0}")]
    Manifest(#[from] ManifestError),
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("checkpoint: not UTF-8 of at most 65536 bytes")]
    CheckpointText,
    #[error("the checkpoint has cosignatures of {found} of the witnesses, {needed} are needed")]
    Witnesses { found: usize, needed: usize },
    #[error("the manifest and the checkpoint differ in `{member}`")]
    OtherCheckpoint { member: &'static str },
    #[error("the older checkpoint: {0}")]
    Since(CheckpointError),
    #[error("the older checkpoint is of ledger {found}")]
    SinceLedger { found: String },
    #[error(
        "the older checkpoint has {since} events, the bundle's {size}: the bundle is older, or the \
         ledger was cut"
    )]
    OlderThanSince { since: u64, size: u64 },
    #[error(
        "two roots for one size: two histories were signed. Keep both checkpoints, they are the \
         evidence"
    )]
    Fork,
    #[error("the bundle has no proof that it extends the older checkpoint of {since} events")]
    NoConsistency { since: u64 },
    #[error("the ledger is not an extension of the older checkpoint: {0}")]
    Inconsistent(MerkleError),
    #[error("events.ndjson, line {line}: {reason}")]
    Line { line: u64, reason: Box<Reason> },
    #[error("events.ndjson ends after {found} of {expected} events")]
    EventsMissing { found: u64, expected: u64 },
    #[error("events.ndjson begins with seq {found}: events are missing before it")]
    BeginsLate { found: u64 },
    #[error("events.ndjson goes on after the {expected} events of the manifest")]
    EventsTooMany { expected: u64 },
    #[error("the last event has the hash {found}, the manifest says {expected}")]
    LastHash { expected: Hash32, found: Hash32 },
    #[error("{found} payloads are erased, the manifest says {expected}")]
    ErasedCount { expected: u64, found: u64 },
    #[error("boundary.ndjson: {0}")]
    BoundaryLine(Box<Reason>),
    #[error("boundary.ndjson: not at most two whole lines, the left one first")]
    Boundary,
    #[error("boundary.ndjson lacks the {side} neighbour")]
    NoNeighbour { side: &'static str },
    #[error("the {side} neighbour does not fit the window in `{member}`")]
    Neighbour { side: &'static str, member: &'static str },
    #[error("the {side} neighbour was recorded at {found}, within the window: events are left out")]
    NeighbourInside { side: &'static str, found: String },
    #[error(
        "the checkpoint covers {size} events, the neighbour after the window is not one of them"
    )]
    TreeTooSmall { size: u64 },
    #[error("the range proof: {0}")]
    Range(MerkleError),
    #[error("erasures.ndjson, line {line}: {reason}")]
    ErasureLine { line: u64, reason: Box<Reason> },
    #[error("erasures.ndjson, line {line}: {rule}")]
    Erasure { line: u64, rule: &'static str },
    #[error("erasures.ndjson, line {line}: {error}")]
    ErasureProof { line: u64, error: MerkleError },
    #[error("the payload was erased, and no `DataErased` in the bundle names it")]
    Unexplained,
    #[error("`{name}` is not the file that the manifest describes")]
    Digest { name: &'static str },
    #[error("it does not continue the window before it: {0}")]
    NotNext(&'static str),
}

/// What a verifier says about one bundle. Serialises to the JSON that the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the bundle is worth.
    pub verdict: Verdict,
    /// The first seq concerned, where the step says one.
    pub seq: Option<u64>,
    /// The step of section 10.5 that failed.
    pub step: Option<u8>,
    /// Why.
    pub reason: Option<String>,
    /// What the manifest claims; proven only if the verdict is good. `None` if it cannot be read.
    pub claim: Option<Claim>,
    /// The checkpoint, if it was signed by a pinned key.
    pub checkpoint: Option<Signed>,
    /// Seqs of erased payloads: the first [`LISTED_ERASURES`](crate::ndjson::LISTED_ERASURES).
    pub erased_seqs: Vec<u64>,
    /// How long verifying took; in milliseconds when serialised.
    #[serde(rename = "elapsedMs", serialize_with = "as_ms")]
    pub elapsed: Duration,
}

/// What a manifest claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// `<origin>/<tenant>`.
    pub ledger: String,
    /// The window.
    pub window: WindowTimes,
    /// `seq` of its first event; of the one after it if it is empty.
    pub first_seq: u64,
    /// `seq` of its last event.
    pub last_seq: Option<u64>,
    /// How many events.
    pub events: u64,
    /// How many of them lost their payload.
    pub erased: u64,
    /// What the first event links to.
    pub prev: Hash32,
    /// Hash of the last event.
    pub last_hash: Hash32,
}

impl From<&Manifest> for Claim {
    fn from(manifest: &Manifest) -> Self {
        Self {
            ledger: manifest.ledger.to_string(),
            window: manifest.window,
            first_seq: manifest.first_seq,
            last_seq: manifest.last_seq,
            events: manifest.events,
            erased: manifest.erased,
            prev: manifest.prev,
            last_hash: manifest.last_hash,
        }
    }
}

/// A checkpoint and who speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    /// How many events the tree has.
    pub tree_size: u64,
    /// Its root.
    pub root: Hash32,
    /// The pinned key that signed it.
    pub signed_by: String,
    /// The required witnesses that cosigned it.
    pub witnesses: Vec<Witness>,
}

/// A witness that cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Its name.
    pub name: String,
    /// When, by its own clock.
    pub time: Timestamp,
}

/// What a verifier says about bundles that should continue each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// The worst of all.
    pub verdict: Verdict,
    /// The seq of the first that has this verdict.
    pub seq: Option<u64>,
    /// Its reason.
    pub reason: Option<String>,
    /// One for each, in the order given.
    pub bundles: Vec<Report>,
}

pub(crate) fn as_ms<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
