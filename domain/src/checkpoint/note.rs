//! A signed note cut up, and whose signatures in it hold.
//!
//! Cutting up comes first and whole: whether a text is a note does not depend on who is asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};

use super::{
    Checkpoint, CheckpointError, NOTE_BYTES, NOTE_SIGNATURES, PinnedKey, VerifierKey, WitnessKey,
    malformed,
};

/// The line of a note on which its signatures begin.
const FIRST_SIGNATURE: usize = 5;

/// A well-formed note that holds a checkpoint; nobody's signature has been verified yet.
#[derive(Debug, Clone)]
pub struct Note<'a> {
    checkpoint: Checkpoint,
    signed: &'a str,
    signatures: Vec<SignatureLine<'a>>,
}

/// A signature line: `— name base64(key id ‖ signature)`.
#[derive(Debug, Clone)]
pub(super) struct SignatureLine<'a> {
    pub(super) line: usize,
    pub(super) text: &'a str,
    pub(super) name: &'a str,
    pub(super) id: [u8; 4],
    pub(super) signature: Vec<u8>,
}

/// A witness's statement that it saw this checkpoint, and that it extends all it saw before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's name.
    pub witness: String,
    /// When it cosigned, by its own clock: seconds since 1970.
    pub unix_seconds: u64,
}

impl<'a> Note<'a> {
    /// Cut up `text`, strictly.
    ///
    /// # Errors
    /// [`CheckpointError::TooLong`], [`CheckpointError::Malformed`] or [`CheckpointError::Ledger`].
    pub fn parse(text: &'a str) -> Result<Self, CheckpointError> {
        if text.len() > NOTE_BYTES {
            return Err(CheckpointError::TooLong(text.len()));
        }
        let Some((body, signatures)) = text.split_once("\n\n") else {
            return malformed(1, "a blank line stands between the text and its signatures");
        };
        let checkpoint = Checkpoint::parse(body)?;
        let signatures = signature_lines(signatures, FIRST_SIGNATURE)?;
        // The line's end before the blank line belongs to the signed text.
        Ok(Self { checkpoint, signed: &text[..=body.len()], signatures })
    }

    /// What the note says, for those who asked who signed it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The first of `keys` that signed this and may: its ledger is the checkpoint's, and its range
    /// holds the tree size. Signatures by others are skipped, as the format demands.
    ///
    /// # Errors
    /// [`CheckpointError::OtherLedger`], [`CheckpointError::NotSigned`], or
    /// [`CheckpointError::WrongSignature`] if a line only claims to be by one of the keys.
    pub fn signed_by<'k>(&self, keys: &'k [PinnedKey]) -> Result<&'k PinnedKey, CheckpointError> {
        let ledger = &self.checkpoint.ledger;
        let own = || keys.iter().filter(|pinned| pinned.key.ledger() == ledger);
        let (Some(_), name) = (own().next(), ledger.to_string()) else {
            let expected = keys.iter().map(|pinned| pinned.key.ledger().to_string());
            let expected = expected.collect::<Vec<_>>().join(", ");
            return Err(CheckpointError::OtherLedger { expected, found: ledger.clone() });
        };
        let mut holding = None;
        for line in self.signatures.iter().filter(|line| line.name == name) {
            let mut claimed = None;
            let mut holds = false;
            for pinned in own().filter(|pinned| pinned.key.id() == line.id) {
                claimed = Some(&pinned.key);
                if signs(&pinned.key.key, self.signed, &line.signature) {
                    holds = true;
                    let may = pinned.sizes.contains(&self.checkpoint.size);
                    holding = holding.or(may.then_some(pinned));
                }
            }
            if let Some(key) = claimed.filter(|_| !holds) {
                return Err(CheckpointError::WrongSignature {
                    line: line.line,
                    key: Box::new(key.clone()),
                });
            }
        }
        holding.ok_or_else(|| CheckpointError::NotSigned {
            keys: own().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            size: self.checkpoint.size,
        })
    }

    /// The cosignatures by `witnesses`: the first of each that cosigned, in their order.
    ///
    /// # Errors
    /// [`CheckpointError::WrongCosignature`] if a line only claims to be by one of them.
    pub fn cosigned_by(
        &self,
        witnesses: &[WitnessKey],
    ) -> Result<Vec<Cosignature>, CheckpointError> {
        cosignatures(&self.signatures, self.signed, witnesses)
    }
}

/// The cosignatures of `signed` by `witnesses` among these lines: the first of each, in their
/// order.
pub(super) fn cosignatures(
    lines: &[SignatureLine<'_>],
    signed: &str,
    witnesses: &[WitnessKey],
) -> Result<Vec<Cosignature>, CheckpointError> {
    let mut found = vec![];
    for witness in witnesses {
        let id = witness.id();
        let own = |line: &&SignatureLine<'_>| line.name == witness.name && line.id == id;
        let mut first = None;
        for line in lines.iter().filter(own) {
            let cosignature = cosignature(signed, witness, &line.signature).ok_or_else(|| {
                let witness = Box::new(witness.clone());
                CheckpointError::WrongCosignature { line: line.line, witness }
            })?;
            first = first.or(Some(cosignature));
        }
        found.extend(first);
    }
    Ok(found)
}

fn cosignature(signed: &str, witness: &WitnessKey, bytes: &[u8]) -> Option<Cosignature> {
    let (time, signature) = bytes.split_first_chunk()?;
    let unix_seconds = u64::from_be_bytes(*time);
    let text = cosigned_text(unix_seconds, signed);
    let name = witness.name.clone();
    signs(&witness.key, &text, signature).then_some(Cosignature { witness: name, unix_seconds })
}

/// The lines after a note's blank one, of which the first has this number.
pub(super) fn signature_lines(
    text: &str,
    first: usize,
) -> Result<Vec<SignatureLine<'_>>, CheckpointError> {
    let Some(lines) = text.strip_suffix('\n') else {
        let last = first + text.matches('\n').count();
        return malformed(last, "the last line ends with a line feed, as every other");
    };
    let mut signatures = vec![];
    for (line, text) in (first..).zip(lines.split('\n')) {
        if signatures.len() == NOTE_SIGNATURES {
            return malformed(line, "more signatures than are read, which is 64");
        }
        let Some(signature) = SignatureLine::parse(line, text) else {
            return malformed(line, "a signature line is `— name base64`");
        };
        signatures.push(signature);
    }
    Ok(signatures)
}

impl<'a> SignatureLine<'a> {
    fn parse(line: usize, text: &'a str) -> Option<Self> {
        let (name, base64) = text.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, signature) = bytes.split_first_chunk()?;
        let whole = is_key_name(name) && !signature.is_empty();
        whole.then(|| Self { line, text, name, id: *id, signature: signature.to_vec() })
    }
}

/// What a signer may be called in a note.
pub(super) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// What a witness signs: `docs/ledger-format.md`, section 10.6.
pub(super) fn cosigned_text(unix_seconds: u64, body: &str) -> String {
    format!("cosignature/v1\ntime {unix_seconds}\n{body}")
}

pub(super) fn signs(key: &VerifyingKey, text: &str, signature: &[u8]) -> bool {
    Signature::from_slice(signature)
        .is_ok_and(|signature| key.verify_strict(text.as_bytes(), &signature).is_ok())
}

/// The checkpoint in `note`, which must be of the key's ledger and be signed by the key, whatever
/// its size.
///
/// # Errors
/// [`CheckpointError`] says what was wrong and in which line.
pub fn verify(note: &str, key: &VerifierKey) -> Result<Checkpoint, CheckpointError> {
    let note = Note::parse(note)?;
    note.signed_by(&[PinnedKey::always(key.clone())])?;
    Ok(note.checkpoint)
}
