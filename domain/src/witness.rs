//! What a witness decides, and the texts in which it is asked (C2SP tlog-witness): it cosigns a
//! checkpoint only if that extends the last one that it cosigned for the same log.
//!
//! Pure: what was cosigned last comes in, the decision goes out. Whoever acts on it has to
//! remember what is to be cosigned **before** the cosignature leaves, one submission after the
//! other.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    checkpoint::{
        CheckpointError, LogKey, LogNote, NOTE_BYTES, NOTE_SIGNATURES, SigningKey, WitnessKey,
        decimal, hash_in_base64,
    },
    hash::Hash32,
    merkle::{self, MerkleError, verify_consistency},
};

/// Hashes of a consistency proof that a submission may have (C2SP tlog-witness).
pub const PROOF_HASHES: usize = 63;
/// Bytes of a submission: a first line, 63 lines of 45 bytes, an empty one, and a note.
pub const SUBMISSION_BYTES: usize = NOTE_BYTES + 64 * 64;
/// Bytes of a witness's answer that are read: more lines than a note may have.
pub const ANSWER_BYTES: usize = 16 * 1024;
/// The media type of an answer that names the size of the last cosigned checkpoint.
pub const SIZE_MEDIA_TYPE: &str = "text/x.tlog.size";

/// A checkpoint put before a witness, with the proof that it extends an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Tree size that the witness is believed to have cosigned last; 0 for never.
    pub old_size: u64,
    /// Consistency proof from there (RFC 6962, section 2.1.2).
    pub proof: Vec<Hash32>,
    /// The signed note.
    pub note: String,
}

/// The last tree of a log that a witness has cosigned; the empty one before it cosigned any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Hash32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { size: 0, root: merkle::root(&[]) }
    }
}

/// A checkpoint that a witness may cosign, once this is remembered as the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// What to remember.
    pub seen: Seen,
    /// The note with the log's own signatures and no others.
    pub note: String,
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The submission's text is not one.
    #[error("line {line} of the submission: {rule}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What belongs there.
        rule: &'static str,
    },
    /// The note is none.
    #[error(transparent)]
    Note(CheckpointError),
    /// No key of this log is known.
    #[error("this witness does not watch the log {0:?}: its operator names logs with --log")]
    UnknownLog(String),
    /// No known key of this log has signed it.
    #[error(transparent)]
    NotSigned(CheckpointError),
    /// The proof begins after the checkpoint.
    #[error("the proof begins at size {old}, after the checkpoint's own size, {size}")]
    OldBeyondNew {
        /// As submitted.
        old: u64,
        /// Of the checkpoint.
        size: u64,
    },
    /// The proof begins elsewhere than at what was cosigned last.
    #[error("the last checkpoint cosigned here has size {size}: prove from there")]
    OtherSize {
        /// Of what was cosigned last.
        size: u64,
    },
    /// The log has signed two histories: what was cosigned here, and what was submitted.
    #[error(
        "the log signed two histories: its first {} events have the root {} by the checkpoint \
         cosigned here, and the root {found} by the submitted one of {size} events; keep both, \
         together they are the evidence", .seen.size, .seen.root
    )]
    Fork {
        /// What was cosigned here.
        seen: Seen,
        /// Root of as many events in the submitted tree.
        found: Hash32,
        /// Size of the submitted tree.
        size: u64,
    },
    /// The checkpoint is not shown to extend the last one.
    #[error(
        "the checkpoint of size {size} is not proven to extend the one of size {} cosigned here: \
         {reason}", .seen.size
    )]
    NotConsistent {
        /// What was cosigned here.
        seen: Seen,
        /// Size of the submitted tree.
        size: u64,
        /// Why the proof does not hold.
        reason: MerkleError,
    },
}

impl Submission {
    /// Read the body of `add-checkpoint`: `old <size>`, the proof's hashes in base64, a line each,
    /// an empty line, the note.
    ///
    /// # Errors
    /// [`WitnessRefusal::Malformed`].
    pub fn parse(text: &str) -> Result<Self, WitnessRefusal> {
        let wrong = |line, rule| Err(WitnessRefusal::Malformed { line, rule });
        if text.len() > SUBMISSION_BYTES {
            return wrong(1, "a submission has at most 69,632 bytes");
        }
        let Some((head, note)) = text.split_once("\n\n") else {
            return wrong(1, "an empty line stands between the proof and the checkpoint");
        };
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let Some(old_size) = old_size else {
            return wrong(1, "`old ` and a tree size in decimal, with no leading zero");
        };
        let mut proof = vec![];
        for (number, line) in (2..).zip(lines) {
            if proof.len() == PROOF_HASHES {
                return wrong(number, "a proof has at most 63 hashes");
            }
            let Some(hash) = hash_in_base64(line) else {
                return wrong(number, "a hash: 32 bytes in padded standard base64");
            };
            proof.push(hash);
        }
        Ok(Self { old_size, proof, note: note.to_owned() })
    }

    /// The text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", STANDARD.encode(hash.as_bytes()));
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// The log that the note names, whoever signed it.
    ///
    /// # Errors
    /// [`WitnessRefusal::Note`].
    pub fn origin(&self) -> Result<&str, WitnessRefusal> {
        Ok(LogNote::parse(&self.note).map_err(WitnessRefusal::Note)?.origin)
    }

    /// What to remember and to cosign, given the last tree cosigned for this log.
    ///
    /// # Errors
    /// [`WitnessRefusal`], in the order in which C2SP tlog-witness has it checked.
    pub fn judge(&self, keys: &[LogKey], seen: Seen) -> Result<Approved, WitnessRefusal> {
        let note = LogNote::parse(&self.note).map_err(WitnessRefusal::Note)?;
        if keys.iter().all(|key| key.name() != note.origin) {
            return Err(WitnessRefusal::UnknownLog(note.origin.to_owned()));
        }
        let own_note = note.signed_by(keys).map_err(WitnessRefusal::NotSigned)?;
        let (old, size, root) = (self.old_size, note.size, note.root);
        if old > size {
            return Err(WitnessRefusal::OldBeyondNew { old, size });
        }
        if old != seen.size {
            return Err(WitnessRefusal::OtherSize { size: seen.size });
        }
        if seen.size == size && seen.root != root {
            return Err(WitnessRefusal::Fork { seen, found: root, size });
        }
        let extends = |old_root| verify_consistency((old, old_root), (size, &root), &self.proof);
        match extends(&seen.root) {
            Ok(()) => Ok(Approved { seen: Seen { size, root }, note: own_note }),
            // The proof is sound, and leads from another tree of the same size.
            Err(MerkleError::RootMismatch { computed, .. }) if extends(&computed).is_ok() => {
                Err(WitnessRefusal::Fork { seen, found: computed, size })
            }
            Err(reason) => Err(WitnessRefusal::NotConsistent { seen, size, reason }),
        }
    }
}

impl Approved {
    /// The line by which a witness of this name cosigns it.
    ///
    /// # Errors
    /// [`CheckpointError::Key`] when the name cannot stand in a note.
    pub fn cosign(
        &self,
        name: &str,
        unix_seconds: u64,
        key: &SigningKey,
    ) -> Result<String, CheckpointError> {
        LogNote::parse(&self.note)?.cosign(name, unix_seconds, key)
    }
}

impl Seen {
    /// The tree of a note that `witness` kept as the last one that it cosigned for this log.
    ///
    /// # Errors
    /// [`CheckpointError`] when it is no such note: then nobody knows any more what was cosigned.
    pub fn of_kept(
        note: &str,
        origin: &str,
        witness: &WitnessKey,
        keys: &[LogKey],
    ) -> Result<Self, CheckpointError> {
        let note = LogNote::parse(note)?;
        if note.origin != origin {
            return malformed("the first line is the name of the log that the file is for");
        }
        // Its own word is enough: the log's key may have been replaced since.
        if note.cosigned_by(std::slice::from_ref(witness))?.is_empty() {
            note.signed_by(keys)?;
        }
        Ok(Self { size: note.size, root: note.root })
    }
}

/// The lines of a witness's answer that hold as its cosignature of `note`: the first one.
///
/// # Errors
/// [`CheckpointError`] when there is none, or when a line only claims to be one.
pub fn cosignature_in(
    answer: &str,
    note: &str,
    witness: &WitnessKey,
) -> Result<String, CheckpointError> {
    for line in answer.lines().take(NOTE_SIGNATURES) {
        let with_line = format!("{note}{line}\n");
        // A witness may answer with lines of several keys, known to us or not.
        let Ok(parsed) = LogNote::parse(&with_line) else { continue };
        if !parsed.cosigned_by(std::slice::from_ref(witness))?.is_empty() {
            return Ok(format!("{line}\n"));
        }
    }
    malformed("no line of the witness's answer is a cosignature by the given key")
}

/// The size that a witness names in an answer of [`SIZE_MEDIA_TYPE`].
pub fn size_in(answer: &str) -> Option<u64> {
    answer.strip_suffix('\n').and_then(decimal)
}

/// A log's name as the name of a file: the hex digits of its SHA-256.
pub fn log_id(origin: &str) -> String {
    const_hex::encode(Sha256::digest(origin))
}

fn malformed<T>(rule: &'static str) -> Result<T, CheckpointError> {
    Err(CheckpointError::Malformed { line: 1, rule })
}
