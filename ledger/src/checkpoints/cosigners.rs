//! Those who are asked to cosign what is signed.
//!
//! They are asked before a checkpoint is stored, because a stored checkpoint never changes: what
//! is exported with it stays the same bytes. So they have little time, and who does not answer is
//! left out.

use async_trait::async_trait;

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
