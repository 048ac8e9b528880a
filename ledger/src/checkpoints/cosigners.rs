//! Those who are asked to cosign what is signed, and how many of them have to have done so.
//!
//! They are asked before a checkpoint is stored, because a stored checkpoint never changes: what
//! is exported with it stays the same bytes. So they have little time, and who does not answer is
//! left out.

use std::sync::Arc;

use async_trait::async_trait;
use stella_domain::checkpoint::{Note, WitnessKey};

use super::proofs::{Noted, Proofs};
use crate::port::Finding;

/// What came of asking for cosignatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The note with the cosignatures that came, each of which holds.
    pub note: String,
    /// Who did not cosign, and why.
    pub findings: Vec<Finding>,
}

/// Asks witnesses.
#[async_trait]
pub trait Cosigners: Send + Sync + 'static {
    /// Collect cosignatures of a checkpoint, whose tree is stored, in a few seconds at most.
    async fn cosign(&self, signed: &Noted, proofs: &Proofs) -> Cosigned;
}

/// Who has to have cosigned a checkpoint that a proof builds on; nobody by default.
#[derive(Debug, Clone, Default)]
pub struct Quorum {
    /// The witnesses that count.
    pub witnesses: Arc<[WitnessKey]>,
    /// How many of them it takes.
    pub needed: usize,
}

impl Quorum {
    pub(super) fn holds_for(&self, note: &str) -> bool {
        // What has too few lines of witnesses needs no signature checked: the first is the ledger's.
        if note.matches("\n\u{2014} ").count() <= self.needed {
            return false;
        }
        let cosigned = Note::parse(note).and_then(|note| note.cosigned_by(&self.witnesses));
        cosigned.is_ok_and(|cosigned| cosigned.len() >= self.needed)
    }
}
