//! A log as a witness knows it: any that signs C2SP checkpoints, whatever it holds and is called.
//!
//! What auditors pin is narrower ([`super::VerifierKey`], [`super::Note`]): there a name is that of
//! a ledger of this program, and a checkpoint has three lines and no more.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::{
    CheckpointError, Cosignature, ED25519, NOTE_BYTES, WitnessKey, key_id,
    keys::{cosign, parse_key, parse_sizes},
    malformed, note,
    note::SignatureLine,
    size_and_root,
};
use crate::hash::Hash32;

/// The key of a log, and the tree sizes that it may sign: `<name>+<key id>+<key>[@FROM-TO]`. The
/// name is the log's origin.
#[derive(Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: VerifyingKey,
    sizes: RangeInclusive<u64>,
}

impl LogKey {
    /// The log's origin, which is also the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        key_id(&self.name, ED25519, &self.key)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key, sizes } = self;
        let bytes = [&[ED25519], &key.as_bytes()[..]].concat();
        write!(f, "{name}+{}+{}", const_hex::encode(self.id()), STANDARD.encode(bytes))?;
        match (*sizes.start(), *sizes.end()) {
            (0, u64::MAX) => Ok(()),
            (from, u64::MAX) => write!(f, "@{from}-"),
            (from, to) => write!(f, "@{from}-{to}"),
        }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        // A name may hold an @; base64 and what comes before it hold none.
        let key_begins = text.rfind('+').unwrap_or_default();
        let (key, sizes) = match text[key_begins..].find('@') {
            Some(at) => (&text[..key_begins + at], parse_sizes(&text[key_begins + at + 1..])?),
            None => (text, 0..=u64::MAX),
        };
        let (name, id, key) = parse_key(key, ED25519)?;
        let log = Self { name: name.to_owned(), key, sizes };
        if !note::is_key_name(name) || const_hex::encode(log.id()) != id {
            return Err(CheckpointError::Key("the key id does not belong to this name and key"));
        }
        Ok(log)
    }
}

/// A signed note that holds a checkpoint of some log; nobody's signature has been verified yet.
#[derive(Debug, Clone)]
pub struct LogNote<'a> {
    /// The log's name, as the note has it.
    pub origin: &'a str,
    /// Size of the tree.
    pub size: u64,
    /// Its root.
    pub root: Hash32,
    signed: &'a str,
    signatures: Vec<SignatureLine<'a>>,
}

impl<'a> LogNote<'a> {
    /// Cut up `text`: origin, size, root, perhaps lines of the log's own, a blank line, signatures.
    ///
    /// # Errors
    /// [`CheckpointError::TooLong`] or [`CheckpointError::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, CheckpointError> {
        if text.len() > NOTE_BYTES {
            return Err(CheckpointError::TooLong(text.len()));
        }
        if text.contains(|c: char| c.is_control() && c != '\n') {
            return malformed(1, "a note holds no control characters but line feeds");
        }
        let Some((body, signatures)) = text.split_once("\n\n") else {
            return malformed(1, "a blank line stands between the text and its signatures");
        };
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return malformed(1, "at least three lines come before the blank one");
        };
        if origin.is_empty() {
            return malformed(1, "the log's origin");
        }
        let (size, root) = size_and_root(size, root)?;
        let first_signature = 5 + lines.count();
        let signatures = note::signature_lines(signatures, first_signature)?;
        // The line's end before the blank line belongs to the signed text.
        Ok(Self { origin, size, root, signed: &text[..=body.len()], signatures })
    }

    /// The note with the signatures of this log alone, which has to bear one of its keys that may
    /// sign this size. Signatures by others are nobody's word and are left out.
    ///
    /// # Errors
    /// [`CheckpointError::NotSigned`], also when a line only claims to be by one of the keys.
    pub fn signed_by(&self, keys: &[LogKey]) -> Result<String, CheckpointError> {
        let own = || keys.iter().filter(|key| key.name == self.origin);
        let not_signed = || CheckpointError::NotSigned {
            keys: own().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            size: self.size,
        };
        let (mut text, mut may) = (format!("{}\n", self.signed), false);
        for line in self.signatures.iter().filter(|line| line.name == self.origin) {
            let claimed: Vec<_> = own().filter(|key| key.id() == line.id).collect();
            if claimed.is_empty() {
                continue;
            }
            let holds = |key: &&LogKey| note::signs(&key.key, self.signed, &line.signature);
            let holding: Vec<_> = claimed.into_iter().filter(holds).collect();
            if holding.is_empty() {
                return Err(not_signed());
            }
            may |= holding.iter().any(|key| key.sizes.contains(&self.size));
            text.push_str(line.text);
            text.push('\n');
        }
        if may { Ok(text) } else { Err(not_signed()) }
    }

    /// The cosignatures by `witnesses`: the first of each that cosigned, in their order.
    ///
    /// # Errors
    /// [`CheckpointError::WrongCosignature`] if a line only claims to be by one of them.
    pub fn cosigned_by(
        &self,
        witnesses: &[WitnessKey],
    ) -> Result<Vec<Cosignature>, CheckpointError> {
        note::cosignatures(&self.signatures, self.signed, witnesses)
    }

    /// The line by which a witness cosigns this, whatever lines of its own the log has added.
    ///
    /// # Errors
    /// [`CheckpointError::Key`] when the name cannot stand in a note.
    pub fn cosign(
        &self,
        name: &str,
        unix_seconds: u64,
        key: &SigningKey,
    ) -> Result<String, CheckpointError> {
        cosign(self.signed, name, unix_seconds, key)
    }
}
