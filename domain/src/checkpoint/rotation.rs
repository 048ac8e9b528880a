//! The rotation of a ledger's signing key, signed for by the old key and by the new one:
//! `docs/ledger-format.md`, section 10.7.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, SigningKey, VerifierKey};
use crate::ids::LedgerId;

/// Data of `SigningKeyRotated`. With *r* the event's seq, the old key signs trees of at most *r*
/// events, the new one larger ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKeyRotated {
    /// The key that signs from here on.
    pub new_key: VerifierKey,
    /// Its signature, base64.
    pub new_signature: String,
    /// The key that signed up to here.
    pub old_key: VerifierKey,
    /// Its signature, base64.
    pub old_signature: String,
}

impl SigningKeyRotated {
    /// The rotation of `ledger`'s key from `old` to `new`.
    pub fn sign(ledger: &LedgerId, old: &SigningKey, new: &SigningKey) -> Self {
        let old_key = VerifierKey::new(ledger.clone(), old);
        let new_key = VerifierKey::new(ledger.clone(), new);
        let text = text(&old_key, &new_key);
        let signature = |key: &SigningKey| STANDARD.encode(key.sign(text.as_bytes()).to_bytes());
        Self { new_signature: signature(new), old_signature: signature(old), new_key, old_key }
    }

    /// Check that both keys are of one ledger and have signed.
    ///
    /// # Errors
    /// [`CheckpointError::RotationKeys`], [`CheckpointError::RotationSignature`].
    pub fn verify(&self) -> Result<(), CheckpointError> {
        if self.old_key.ledger != self.new_key.ledger || self.old_key == self.new_key {
            return Err(CheckpointError::RotationKeys);
        }
        let text = text(&self.old_key, &self.new_key);
        for (which, key, signature) in [
            ("old", &self.old_key, &self.old_signature),
            ("new", &self.new_key, &self.new_signature),
        ] {
            let signature = STANDARD.decode(signature).ok();
            let holds = signature
                .and_then(|bytes| Signature::from_slice(&bytes).ok())
                .is_some_and(|it| key.key.verify_strict(text.as_bytes(), &it).is_ok());
            if !holds {
                let (old, new) = (Box::new(self.old_key.clone()), Box::new(self.new_key.clone()));
                return Err(CheckpointError::RotationSignature { old, new, which });
            }
        }
        Ok(())
    }
}

/// What both keys sign.
fn text(old: &VerifierKey, new: &VerifierKey) -> String {
    format!("stella-orchestrator 2026-11 key rotation v1\n{}\n{old}\n{new}\n", old.ledger)
}
