//! Keys as auditors hold them: a ledger's key with the tree sizes that it may sign, and the keys of
//! witnesses.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use super::{Checkpoint, CheckpointError, Note, VerifierKey, key_id, note};

/// Signature type of a witness's cosignature (C2SP tlog-cosignature, v1).
pub(super) const COSIGNATURE: u8 = 4;

/// A ledger's key, and the tree sizes that it may sign: `<verifier key>@<from>-<to>`.
///
/// Keys rotate; what an old key signs beyond the rotation is nobody's word
/// (`docs/ledger-format.md`, section 10.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedKey {
    /// The key.
    pub key: VerifierKey,
    /// Sizes of the trees that it speaks for.
    pub sizes: RangeInclusive<u64>,
}

impl PinnedKey {
    /// The key, for trees of every size.
    pub fn always(key: VerifierKey) -> Self {
        Self { key, sizes: 0..=u64::MAX }
    }
}

impl fmt::Display for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, sizes } = self;
        match (*sizes.start(), *sizes.end()) {
            (0, u64::MAX) => write!(f, "{key}"),
            (from, u64::MAX) => write!(f, "{key}@{from}-"),
            (from, to) => write!(f, "{key}@{from}-{to}"),
        }
    }
}

impl FromStr for PinnedKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let Some((key, range)) = text.split_once('@') else {
            return text.parse().map(Self::always);
        };
        Ok(Self { key: key.parse()?, sizes: parse_sizes(range)? })
    }
}

/// Tree sizes that a key may sign: `FROM-TO`, or `FROM-`.
pub(super) fn parse_sizes(text: &str) -> Result<RangeInclusive<u64>, CheckpointError> {
    let size = |digits: &str| {
        let is_size = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| is_size)
    };
    let range = text.split_once('-').and_then(|(from, to)| {
        let to = if to.is_empty() { u64::MAX } else { size(to)? };
        Some(size(from)?..=to).filter(|sizes| !sizes.is_empty())
    });
    range.ok_or(CheckpointError::Key("after @ stand the tree sizes that it may sign: FROM-TO"))
}

/// The keys that somebody trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(pub Vec<PinnedKey>);

impl Keyring {
    /// The checkpoint in `note`, which has to be signed by one of the keys that may sign its size.
    ///
    /// # Errors
    /// Those of [`Note::parse`] and [`Note::signed_by`].
    pub fn verify(&self, note: &str) -> Result<Checkpoint, CheckpointError> {
        let note = Note::parse(note)?;
        note.signed_by(&self.0)?;
        Ok(note.checkpoint().clone())
    }
}

/// The public half of a witness's key: `name+hex(key id)+base64(4 ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    pub(super) name: String,
    pub(super) key: VerifyingKey,
}

impl WitnessKey {
    /// The verifier key for what a witness of this name cosigns with `key`.
    ///
    /// # Errors
    /// [`CheckpointError::Key`] when the name cannot stand in a note.
    pub fn new(name: &str, key: &SigningKey) -> Result<Self, CheckpointError> {
        if !note::is_key_name(name) {
            return Err(CheckpointError::Key(
                "its name is not empty and holds no + and no white space",
            ));
        }
        Ok(Self { name: name.to_owned(), key: key.verifying_key() })
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells keys of one name apart, and proves nothing.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, COSIGNATURE, &self.key)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![COSIGNATURE];
        key.extend(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, const_hex::encode(self.id()), STANDARD.encode(key))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WitnessKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (name, id, key) = parse_key(text, COSIGNATURE)?;
        let witness = Self { name: name.to_owned(), key };
        if !note::is_key_name(name) || const_hex::encode(witness.id()) != id {
            return Err(CheckpointError::Key("the key id does not belong to this name and key"));
        }
        Ok(witness)
    }
}

impl Checkpoint {
    /// The signature line by which a witness cosigns this, with its line feed, to be put at a
    /// note's end.
    ///
    /// # Errors
    /// [`CheckpointError::Key`] when the name cannot stand in a note.
    pub fn cosign(
        &self,
        name: &str,
        unix_seconds: u64,
        key: &SigningKey,
    ) -> Result<String, CheckpointError> {
        cosign(&self.body(), name, unix_seconds, key)
    }
}

/// The signature line by which a witness cosigns the text of a note.
pub(super) fn cosign(
    body: &str,
    name: &str,
    unix_seconds: u64,
    key: &SigningKey,
) -> Result<String, CheckpointError> {
    let witness = WitnessKey::new(name, key)?;
    let text = note::cosigned_text(unix_seconds, body);
    let mut bytes = witness.id().to_vec();
    bytes.extend(unix_seconds.to_be_bytes());
    bytes.extend(key.sign(text.as_bytes()).to_bytes());
    Ok(format!("— {name} {}\n", STANDARD.encode(bytes)))
}

/// Name, key id and key of `name+id+base64(kind ‖ key)`; that the id belongs to them is for the
/// caller to check.
pub(super) fn parse_key(
    text: &str,
    kind: u8,
) -> Result<(&str, &str, VerifyingKey), CheckpointError> {
    use CheckpointError::Key;
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Key("it has three parts with + between them"));
    };
    let bytes = STANDARD.decode(key).map_err(|_| Key("its last part is not base64"))?;
    let Some((_, key)) = bytes.split_first().filter(|(first, _)| **first == kind) else {
        return Err(Key("its last part begins with the byte 1 for a ledger, 4 for a witness"));
    };
    let key = <[u8; 32]>::try_from(key).map_err(|_| Key("an Ed25519 key has 32 bytes"))?;
    // A weak key would accept signatures over any text.
    let key = VerifyingKey::from_bytes(&key).ok().filter(|key| !key.is_weak());
    Ok((name, id, key.ok_or(Key("it is no sound Ed25519 key"))?))
}
