//! Several keys of one ledger, each for the sizes of tree that it may sign: what an auditor pins
//! once a key was rotated.

use std::{fmt, str::FromStr};

use super::{Checkpoint, CheckpointError, Note, VerifierKey, count_signatures};

/// A verifier key, and the sizes of tree that it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedKey {
    /// The key.
    pub key: VerifierKey,
    /// The smallest tree.
    pub from: u64,
    /// The largest tree; `None`: no end.
    pub to: Option<u64>,
}

impl PinnedKey {
    /// The key, for trees of every size.
    pub fn always(key: VerifierKey) -> Self {
        Self { key, from: 0, to: None }
    }

    fn may_sign(&self, size: u64) -> bool {
        size >= self.from && self.to.is_none_or(|to| size <= to)
    }
}

/// `<verifier key>`, `<verifier key>@FROM-` or `<verifier key>@FROM-TO`.
impl FromStr for PinnedKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let Some((key, sizes)) = text.split_once('@') else {
            return text.parse().map(Self::always);
        };
        let key = key.parse()?;
        let wrong = CheckpointError::Key(
            "after @ stand the sizes of tree that it may sign, as FROM- or FROM-TO",
        );
        let range = sizes.split_once('-').and_then(|(from, to)| {
            let to = if to.is_empty() { None } else { Some(number(to)?) };
            Some((number(from)?, to))
        });
        match range {
            Some((from, to)) if to.is_none_or(|to| from <= to) => Ok(Self { key, from, to }),
            Some(_) | None => Err(wrong),
        }
    }
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (0, None) => write!(f, "{}", self.key),
            (from, None) => write!(f, "{}@{from}-", self.key),
            (from, Some(to)) => write!(f, "{}@{from}-{to}", self.key),
        }
    }
}

/// The keys that somebody trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(pub Vec<PinnedKey>);

impl Keyring {
    /// The checkpoint in `note`, which has to be of a pinned key's ledger, and to be signed by a
    /// key that is pinned for its size. Signatures by keys that are not pinned are skipped.
    ///
    /// # Errors
    /// [`CheckpointError`]; also when a line by any pinned key is not that key's signature.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let Note { checkpoint, signed, signatures } = Note::read(note)?;
        let (size, mut own, mut speaks) = (checkpoint.size, false, false);
        for pinned in self.0.iter().filter(|pinned| pinned.key.ledger == checkpoint.ledger) {
            own = true;
            let signed_by_it = count_signatures(signatures, signed, &pinned.key)? > 0;
            speaks |= signed_by_it && pinned.may_sign(size);
        }
        match (own, self.0.first()) {
            (false, Some(first)) => Err(CheckpointError::OtherLedger {
                expected: first.key.ledger.clone(),
                found: checkpoint.ledger,
            }),
            _ if !speaks => Err(CheckpointError::NotPinned { size }),
            _ => Ok(checkpoint),
        }
    }
}
