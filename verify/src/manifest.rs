//! What a bundle says it is: `docs/ledger-format.md`, section 10.1. Its maker and its verifier share
//! these types, so that there is one definition of the form.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use stella_domain::{hash::Hash32, ids::LedgerId, json::MAX_SAFE_INTEGER, time::Timestamp};

use crate::scan::{FormError, Scanner};

/// Bytes that a manifest may have, its line feed included.
pub const MANIFEST_BYTES: usize = 1024 * 1024;
/// The version of the bundle's form that this release writes and reads.
pub const BUNDLE_FORMAT: u64 = 1;

/// File names in a bundle, in the order in which they stand in an archive.
pub mod names {
    /// What the bundle says it is.
    pub const MANIFEST: &str = "manifest.json";
    /// The signed checkpoint.
    pub const CHECKPOINT: &str = "checkpoint";
    /// The headers of both neighbours.
    pub const BOUNDARY: &str = "boundary.ndjson";
    /// The `DataErased` events that explain erased payloads.
    pub const ERASURES: &str = "erasures.ndjson";
    /// The window's events.
    pub const EVENTS: &str = "events.ndjson";
    /// All of them.
    pub const ALL: [&str; 5] = [MANIFEST, CHECKPOINT, BOUNDARY, ERASURES, EVENTS];
}

/// `manifest.json`. Members of every struct stand in the order of their names, so that writing one
/// gives canonical JSON at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Proof that the checkpoint extends an older one.
    pub consistency: Option<Consistency>,
    /// Events of the window whose payload was erased.
    pub erased: u64,
    /// Events of the window.
    pub events: u64,
    /// Sizes and digests of the other files.
    pub files: Files,
    /// `seq` of the window's first event; of the one after the window if that is empty.
    pub first_seq: u64,
    /// [`BUNDLE_FORMAT`].
    pub format: u64,
    /// `hash` of the window's last event; [`prev`](Self::prev) if it is empty.
    pub last_hash: Hash32,
    /// `seq` of the window's last event; `None` if it is empty.
    pub last_seq: Option<u64>,
    /// Which ledger.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub ledger: LedgerId,
    /// Range proof, left part.
    pub left: Vec<Hash32>,
    /// `hash` of the event before the first; zeros if there is none.
    pub prev: Hash32,
    /// Range proof, right part.
    pub right: Vec<Hash32>,
    /// Tree size of the checkpoint.
    pub tree_size: u64,
    /// The window's times.
    pub window: WindowTimes,
}

/// Proof that a checkpoint extends an older one (RFC 6962, section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// The proof.
    pub proof: Vec<Hash32>,
    /// Tree size of the older checkpoint.
    pub size: u64,
}

/// The window [from, to).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowTimes {
    /// Its events were recorded at this time or later.
    pub from: Timestamp,
    /// Its events were recorded before this time.
    pub to: Timestamp,
}

/// Sizes and digests of the files beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Of `boundary.ndjson`.
    #[serde(rename = "boundary.ndjson")]
    pub boundary: FileDigest,
    /// Of `checkpoint`.
    pub checkpoint: FileDigest,
    /// Of `erasures.ndjson`.
    #[serde(rename = "erasures.ndjson")]
    pub erasures: FileDigest,
    /// Of `events.ndjson`.
    #[serde(rename = "events.ndjson")]
    pub events: FileDigest,
}

/// Size and digests of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Plain BLAKE3.
    pub blake3: Hash32,
    /// How many bytes.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: Hash32,
}

/// Why a text is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any manifest.
    #[error("it has more than {MANIFEST_BYTES} bytes")]
    TooLong,
    /// Not one line of text.
    #[error("it is not UTF-8 that ends with a line feed")]
    NotText,
    /// Not canonical JSON.
    #[error("not in canonical form {0}")]
    Form(#[from] FormError),
    /// Of a later release.
    #[error("it is of format {0}; this release knows format {BUNDLE_FORMAT}: use a later one")]
    Newer(u64),
    /// Other members, or other types.
    #[error("its members are not those of a manifest: {0}")]
    Members(String),
    /// Members that contradict each other.
    #[error("it contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Manifest {
    /// Read `manifest.json`, strictly: there is one text for one manifest.
    ///
    /// # Errors
    /// [`ManifestError`] says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLong);
        }
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let text = text.ok_or(ManifestError::NotText)?;
        let mut scan = Scanner::new(text);
        scan.object()?;
        scan.end("nothing follows the manifest but one line feed")?;
        if let Ok(Format { format }) = serde_json::from_str(text)
            && format != BUNDLE_FORMAT
            && format <= MAX_SAFE_INTEGER
        {
            return Err(ManifestError::Newer(format));
        }
        let members = |error: serde_json::Error| ManifestError::Members(error.to_string());
        let manifest: Self = serde_json::from_str(text).map_err(members)?;
        // What serde lets pass, above all members that are missing where `null` would do.
        if manifest.to_text().as_bytes() != bytes {
            return Err(ManifestError::Members("one is missing or has another form".to_owned()));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of `manifest.json`.
    pub fn to_text(&self) -> String {
        // Plain structs of hex digits, times, names and integers: serialising them cannot fail, and
        // an empty text would be refused by every reader.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// `seq` of the event after the window: the right neighbour.
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.events)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Files { boundary, checkpoint, erasures, events } = &self.files;
        let sizes = [boundary.bytes, checkpoint.bytes, erasures.bytes, events.bytes];
        let older = self.consistency.as_ref().map_or(0, |consistency| consistency.size);
        let mut integers = vec![self.erased, self.events, self.first_seq, self.tree_size, older];
        integers.extend(sizes.into_iter().chain(self.last_seq));
        let rules = [
            (integers.iter().all(|n| *n <= MAX_SAFE_INTEGER), "an integer is beyond 2^53−1"),
            (
                self.last_seq == self.end_seq().checked_sub(1).filter(|_| self.events > 0),
                "`lastSeq` is `firstSeq` + `events` − 1, and null if there are none",
            ),
            (
                self.events > 0 || self.last_hash == self.prev,
                "`lastHash` of an empty window is `prev`",
            ),
            (
                (self.prev == Hash32::ZERO) == (self.first_seq == 0),
                "`prev` is zeros if and only if `firstSeq` is 0",
            ),
            (self.window.from <= self.window.to, "the window ends before it begins"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ManifestError::Contradiction(rule)),
            None => Ok(()),
        }
    }
}

/// What tells the versions of manifests apart, whatever else they hold.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}
