//! Signed tree heads: a C2SP `tlog-checkpoint` in a C2SP `signed-note`, Ed25519. Source:
//! `docs/ledger-format.md`, section 5.
//!
//! Parsing is strict: what standard tools might read differently is refused here.

mod keyring;
mod rotation;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use ed25519_dalek::SigningKey;

pub use self::{
    keyring::{Keyring, PinnedKey},
    rotation::SigningKeyRotated,
};

use crate::{
    hash::Hash32,
    ids::{IdError, LedgerId},
};

/// Bytes that a note may have; an own note has fewer than 1,200.
pub const NOTE_BYTES: usize = 64 * 1024;
/// Signature lines that a note may have: the ledger's own, and witnesses' cosignatures.
pub const NOTE_SIGNATURES: usize = 64;

/// Signature type of the signed note format: Ed25519.
const ED25519: u8 = 1;

/// Why a note is not a checkpoint signed by the wanted key, or a text not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Longer than any checkpoint.
    #[error("the note has {0} bytes; at most {NOTE_BYTES} are read")]
    TooLong(usize),
    /// Not a signed note that holds a checkpoint.
    #[error("line {line} of the note: {rule}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What belongs there.
        rule: &'static str,
    },
    /// The first line names no ledger.
    #[error("line 1 of the note: {0}")]
    Ledger(#[from] IdError),
    /// The checkpoint is of another ledger than the key.
    #[error("the checkpoint is of ledger {found}, the key of ledger {expected}")]
    OtherLedger {
        /// The key's ledger.
        expected: LedgerId,
        /// The checkpoint's ledger.
        found: LedgerId,
    },
    /// No signature by the key; it may be signed by another one.
    #[error("the note bears no signature by the key {0}: is it the key that was in use then?")]
    NotSigned(Box<VerifierKey>),
    /// A signature under the key's name and id that is not the key's.
    #[error("line {line} of the note: the signature is not one by {key} over this text")]
    WrongSignature {
        /// Which line, from 1.
        line: usize,
        /// The key that it claims.
        key: Box<VerifierKey>,
    },
    /// No signature by any key that is pinned for trees of this size.
    #[error("the note bears no signature by a key that is pinned for a tree of {size} events")]
    NotPinned {
        /// Size of the checkpoint's tree.
        size: u64,
    },
    /// A key rotation that was not signed by both keys.
    #[error("the rotation from {old} to {new} is not signed by the {which} one")]
    RotationSignature {
        /// The key that signed before.
        old: Box<VerifierKey>,
        /// The key that signs from then on.
        new: Box<VerifierKey>,
        /// Which key's signature does not hold.
        which: &'static str,
    },
    /// A key rotation between keys of two ledgers, or from a key to itself.
    #[error("a rotation leads from one key of a ledger to another one of the same ledger")]
    RotationKeys,
    /// Not a verifier key.
    #[error("not a verifier key of the form <origin>/<tenant>+<key id>+<base64 of the key>: {0}")]
    Key(&'static str),
}

/// What a ledger commits to: its first `size` events, by the root of the Merkle tree over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which ledger.
    pub ledger: LedgerId,
    /// How many events.
    pub size: u64,
    /// Root of the tree over them ([`crate::merkle`]).
    pub root: Hash32,
}

impl Checkpoint {
    /// The three lines that are signed.
    pub fn body(&self) -> String {
        let Self { ledger, size, root } = self;
        format!("{ledger}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
    }

    /// The signed note. Signing is deterministic: the same checkpoint and key, the same bytes.
    pub fn sign(&self, key: &SigningKey) -> String {
        let body = self.body();
        let verifier = VerifierKey { ledger: self.ledger.clone(), key: key.verifying_key() };
        let mut signature = verifier.id().to_vec();
        signature.extend(key.sign(body.as_bytes()).to_bytes());
        format!("{body}\n— {} {}\n", self.ledger, STANDARD.encode(signature))
    }

    /// From the three lines, strictly: one text for one checkpoint.
    fn parse(body: &str) -> Result<Self, CheckpointError> {
        let mut lines = body.split('\n');
        let (Some(ledger), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return malformed(1, "exactly three lines come before the blank one");
        };
        let ledger = ledger.parse()?;
        let digits = size.bytes().all(|b| b.is_ascii_digit());
        let canonical = digits && (size == "0" || !size.starts_with('0'));
        let Some(size) = size.parse().ok().filter(|_| canonical) else {
            return malformed(2, "the tree size in decimal, below 2^64, with no leading zero");
        };
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(root) = root else {
            return malformed(3, "the root: 32 bytes in padded standard base64");
        };
        Ok(Self { ledger, size, root: Hash32::from(root) })
    }
}

/// The public half of a ledger's key, as auditors pin it: `name+hex(key id)+base64(1 ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    ledger: LedgerId,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The verifier key for what `key` signs in the name of `ledger`.
    pub fn new(ledger: LedgerId, key: &SigningKey) -> Self {
        Self { ledger, key: key.verifying_key() }
    }

    /// The ledger whose checkpoints it verifies; also the key's name.
    pub fn ledger(&self) -> &LedgerId {
        &self.ledger
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key): tells keys of one name
    /// apart, and proves nothing.
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(self.ledger.to_string())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl Serialize for VerifierKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifierKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.ledger, hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        use CheckpointError::Key;
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Key("it has three parts with + between them"));
        };
        let ledger = name.parse().map_err(|_| Key("its name is that of a ledger"))?;
        let bytes = STANDARD.decode(key).map_err(|_| Key("its last part is not base64"))?;
        let [ED25519, key @ ..] = bytes.as_slice() else {
            return Err(Key("its last part begins with the byte 1, for Ed25519"));
        };
        let key = <[u8; 32]>::try_from(key).map_err(|_| Key("an Ed25519 key has 32 bytes"))?;
        // A weak key would accept signatures over any text.
        let key = VerifyingKey::from_bytes(&key).ok().filter(|key| !key.is_weak());
        let verifier = Self { ledger, key: key.ok_or(Key("it is no sound Ed25519 key"))? };
        if hex::encode(verifier.id()) != id {
            return Err(Key("the key id does not belong to this name and key"));
        }
        Ok(verifier)
    }
}

/// The checkpoint in `note`, which must be of the key's ledger and be signed by the key.
///
/// Signatures by other keys (witnesses, newer or older keys) are ignored, as the format demands.
///
/// # Errors
/// [`CheckpointError`] says what was wrong and in which line.
pub fn verify(note: &str, key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
    let Note { checkpoint, signed, signatures } = Note::read(note)?;
    if checkpoint.ledger != key.ledger {
        let (expected, found) = (key.ledger.clone(), checkpoint.ledger);
        return Err(CheckpointError::OtherLedger { expected, found });
    }
    if count_signatures(signatures, signed, key)? == 0 {
        return Err(CheckpointError::NotSigned(Box::new(key.clone())));
    }
    Ok(checkpoint)
}

/// What `note` states, **without** looking at its signatures: for those who pass a note on to
/// somebody who verifies it.
///
/// # Errors
/// [`CheckpointError`] when it is no note that holds a checkpoint.
pub fn read_unverified(note: &str) -> Result<Checkpoint, CheckpointError> {
    Note::read(note).map(|note| note.checkpoint)
}

/// A note, taken apart.
struct Note<'a> {
    checkpoint: Checkpoint,
    /// The text that is signed.
    signed: &'a str,
    /// What follows the blank line.
    signatures: &'a str,
}

impl<'a> Note<'a> {
    fn read(note: &'a str) -> Result<Self, CheckpointError> {
        if note.len() > NOTE_BYTES {
            return Err(CheckpointError::TooLong(note.len()));
        }
        let Some((body, signatures)) = note.split_once("\n\n") else {
            return malformed(1, "a blank line stands between the text and its signatures");
        };
        let checkpoint = Checkpoint::parse(body)?;
        // The line's end before the blank line belongs to the signed text.
        Ok(Self { checkpoint, signed: &note[..=body.len()], signatures })
    }
}

/// How many of the signature lines are by `key`; one that only claims to be refuses the note.
fn count_signatures(
    signatures: &str,
    signed: &str,
    key: &VerifierKey,
) -> Result<usize, CheckpointError> {
    const FIRST_LINE: usize = 5;
    let Some(signatures) = signatures.strip_suffix('\n') else {
        let last = FIRST_LINE + signatures.matches('\n').count();
        return malformed(last, "the last line ends with a line feed, as every other");
    };
    let (name, id) = (key.ledger.to_string(), key.id());
    let mut found = 0;
    for (line, text) in (FIRST_LINE..).zip(signatures.split('\n')) {
        if line - FIRST_LINE >= NOTE_SIGNATURES {
            return malformed(line, "more signatures than are read, which is 64");
        }
        let Some((signer, bytes)) = parse_signature(text) else {
            return malformed(line, "a signature line is `— name base64`");
        };
        if signer != name || bytes[..4] != id {
            continue;
        }
        let valid = Signature::from_slice(&bytes[4..])
            .is_ok_and(|signature| key.key.verify_strict(signed.as_bytes(), &signature).is_ok());
        if !valid {
            return Err(CheckpointError::WrongSignature { line, key: Box::new(key.clone()) });
        }
        found += 1;
    }
    Ok(found)
}

/// The signer's name, and its key id (four bytes) with the signature (at least one byte).
fn parse_signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, base64) = line.strip_prefix("— ")?.split_once(' ')?;
    let is_name = !name.is_empty()
        && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control());
    let bytes = STANDARD.decode(base64).ok()?;
    (is_name && bytes.len() > 4).then_some((name, bytes))
}

fn malformed<T>(line: usize, rule: &'static str) -> Result<T, CheckpointError> {
    Err(CheckpointError::Malformed { line, rule })
}
