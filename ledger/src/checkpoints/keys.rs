//! The keys that sign, as this node holds them, and as the ledger records their rotation.
//!
//! A key's file holds the 64 hex digits of an Ed25519 seed, for its owner alone. No key ever goes
//! over the network or into the database.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use stella_domain::{
    checkpoint::{Keyring, PinnedKey, SigningKey, SigningKeyRotated, VerifierKey},
    ids::LedgerId,
};

use super::SignerError;
use crate::{own_stream::OwnStream, port::Ledger, snapshots::Snapshots};

/// Bytes that are read of a key's file; a key has 65.
const FILE_BYTES: u64 = 1_024;

/// Why a key cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key file {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The text is no key. It is not repeated here.
    #[error("a signing key is the 64 hex digits of an Ed25519 seed: this text is not")]
    Text,
}

/// The key in a file, which nobody but its owner may read.
///
/// # Errors
/// [`KeyError::File`].
pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
    let wrong = |reason: String| KeyError::File { path: path.to_owned(), reason };
    let unreadable = |error: io::Error| wrong(format!("it cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        let mode = mode & 0o777;
        return Err(wrong(format!("others may use it (mode {mode:o}): `chmod 600` it")));
    }
    let mut text = String::new();
    file.take(FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text).map_err(|error| wrong(error.to_string()))
}

/// The key that `text` is.
///
/// # Errors
/// [`KeyError::Text`].
pub fn parse(text: &str) -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| KeyError::Text)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Draw a key and write it to a new file, for its owner alone.
///
/// # Errors
/// [`KeyError::File`]; a file that is there is never overwritten.
pub fn create(path: &Path) -> Result<SigningKey, KeyError> {
    let wrong = |reason: String| KeyError::File { path: path.to_owned(), reason };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| wrong(format!("no randomness: {error}")))?;
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", hex::encode(seed))?;
        file.sync_all()?;
        super::kept::sync_parent(path)
    };
    write().map_err(|error| wrong(format!("it cannot be made: {error}")))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// The keys of a node: the one that it was given, and where one is to be found that may follow.
pub struct NodeKeys {
    /// The key that it was given.
    pub given: SigningKey,
    /// The file of the one that may follow; it is looked at when a rotation names its key.
    pub next: PathBuf,
}

impl NodeKeys {
    /// The key that `wanted` verifies, if this node has it.
    pub(super) fn find(&self, wanted: &VerifierKey) -> Result<Option<SigningKey>, KeyError> {
        let is_it = |key: &SigningKey| VerifierKey::new(wanted.ledger().clone(), key) == *wanted;
        if is_it(&self.given) {
            return Ok(Some(self.given.clone()));
        }
        if !self.next.exists() {
            return Ok(None);
        }
        Ok(Some(read(&self.next)?).filter(is_it))
    }
}

/// Who signed when: the rotations that a ledger records.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyHistory {
    rotations: Vec<(u64, SigningKeyRotated)>,
}

impl KeyHistory {
    /// What the ledger's own stream says.
    pub(super) async fn read(
        ledger: &dyn Ledger,
        snapshots: &dyn Snapshots,
        id: &LedgerId,
    ) -> Result<Self, SignerError> {
        let mut history = Self::default();
        let own = OwnStream::read(ledger, snapshots, &id.tenant).await?;
        for (seq, rotation) in own.rotations().await? {
            history.push(id, seq, rotation)?;
        }
        Ok(history)
    }

    /// Another rotation; one that is known already is taken once.
    pub(super) fn push(
        &mut self,
        id: &LedgerId,
        seq: u64,
        rotation: SigningKeyRotated,
    ) -> Result<(), SignerError> {
        let unsound = |reason: String| SignerError::Rotation { seq, reason };
        if let Some((_, known)) = self.rotations.iter().find(|(known, _)| *known == seq) {
            let same = *known == rotation;
            return same.then_some(()).ok_or_else(|| unsound("it has changed".to_owned()));
        }
        rotation.verify().map_err(|error| unsound(error.to_string()))?;
        if rotation.new_key.ledger() != id {
            return Err(unsound(format!("its keys are of {}", rotation.new_key.ledger())));
        }
        if let Some((_, last)) = self.rotations.last()
            && last.new_key != rotation.old_key
        {
            return Err(unsound(format!("it does not begin at {}", last.new_key)));
        }
        self.rotations.push((seq, rotation));
        Ok(())
    }

    /// Who signs a tree of `size` events, and the seq since which; `None` before any rotation.
    pub(super) fn signer_of(&self, size: u64) -> Option<(&VerifierKey, u64)> {
        let before = self.rotations.iter().rev().find(|(seq, _)| size > *seq);
        let first = self.rotations.first();
        before
            .map(|(seq, rotation)| (&rotation.new_key, *seq))
            .or_else(|| first.map(|(_, rotation)| (&rotation.old_key, 0)))
    }

    /// Who signs from here on, and the seq since which.
    pub(super) fn newest(&self) -> Option<(&VerifierKey, u64)> {
        self.rotations.last().map(|(seq, rotation)| (&rotation.new_key, *seq))
    }

    /// Every key with the sizes that it may sign. `own`, where none was ever rotated.
    ///
    /// The first rotation is vouched for by the last one's new key, which this node holds: nobody
    /// without it can have made up a history that ends there.
    pub(super) fn keyring(&self, own: &VerifierKey) -> Keyring {
        let (mut pins, mut from) = (vec![], 0);
        for (seq, rotation) in &self.rotations {
            pins.push(PinnedKey { key: rotation.old_key.clone(), sizes: from..=*seq });
            from = seq + 1;
        }
        let newest = self.newest().map_or(own, |(key, _)| key);
        pins.push(PinnedKey { key: newest.clone(), sizes: from..=u64::MAX });
        Keyring(pins)
    }
}
