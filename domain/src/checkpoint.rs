//! Signed tree heads: a C2SP `tlog-checkpoint` in a C2SP `signed-note`, Ed25519. Source:
//! `docs/ledger-format.md`, section 5.
//!
//! Parsing is strict: what standard tools might read differently is refused here.

mod keys;
mod log;
mod note;
mod rotation;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

pub use ed25519_dalek::SigningKey;

pub use self::{
    keys::{Keyring, PinnedKey, WitnessKey},
    log::{LogKey, LogNote},
    note::{Cosignature, Note, verify},
    rotation::SigningKeyRotated,
};
use crate::{
    hash::Hash32,
    ids::{IdError, LedgerId},
    parsed,
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
        /// The key's ledger; of several keys, all of them.
        expected: String,
        /// The checkpoint's ledger.
        found: LedgerId,
    },
    /// No signature by the key; it may be signed by another one.
    #[error(
        "the note bears no signature by the key {keys} that may sign {size} events: \
         another key was in use then, or it is forged"
    )]
    NotSigned {
        /// The keys that could have.
        keys: String,
        /// The tree size.
        size: u64,
    },
    /// A signature under the key's name and id that is not the key's.
    #[error("line {line} of the note: the signature is not one by {key} over this text")]
    WrongSignature {
        /// Which line, from 1.
        line: usize,
        /// The key that it claims.
        key: Box<VerifierKey>,
    },
    /// A cosignature under a witness's name and id that is not the witness's.
    #[error("line {line} of the note: the cosignature is not one by {witness} over this text")]
    WrongCosignature {
        /// Which line, from 1.
        line: usize,
        /// The witness that it claims.
        witness: Box<WitnessKey>,
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
    #[error("not a verifier key of the form <name>+<key id>+<base64 of the key>: {0}")]
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
        let (size, root) = size_and_root(size, root)?;
        Ok(Self { ledger, size, root })
    }
}

/// The second and third line of a checkpoint, strictly.
fn size_and_root(size: &str, root: &str) -> Result<(u64, Hash32), CheckpointError> {
    let Some(size) = decimal(size) else {
        return malformed(2, "the tree size in decimal, below 2^64, with no leading zero");
    };
    match hash_in_base64(root) {
        Some(root) => Ok((size, root)),
        None => malformed(3, "the root: 32 bytes in padded standard base64"),
    }
}

/// One text for one number.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

/// One text for one hash.
pub(crate) fn hash_in_base64(text: &str) -> Option<Hash32> {
    let bytes = STANDARD.decode(text).ok()?;
    <[u8; 32]>::try_from(bytes).ok().map(Hash32::from)
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
        key_id(&self.ledger.to_string(), ED25519, &self.key)
    }
}

impl Serialize for VerifierKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifierKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed::from_text(deserializer)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.ledger, const_hex::encode(self.id()), STANDARD.encode(key))
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
        let (name, id, key) = keys::parse_key(text, ED25519)?;
        let ledger = name.parse().map_err(|_| Key("its name is that of a ledger"))?;
        let verifier = Self { ledger, key };
        if const_hex::encode(verifier.id()) != id {
            return Err(Key("the key id does not belong to this name and key"));
        }
        Ok(verifier)
    }
}

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ kind ‖ public key).
fn key_id(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind])
        .chain_update(key.as_bytes())
        .finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn malformed<T>(line: usize, rule: &'static str) -> Result<T, CheckpointError> {
    Err(CheckpointError::Malformed { line, rule })
}
