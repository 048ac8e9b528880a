//! What can be wrong with checkpoints, keys and proofs.

use std::path::PathBuf;

use stella_domain::{
    checkpoint::{CheckpointError, VerifierKey},
    ids::LedgerId,
    merkle::MerkleError,
};

use crate::port::LedgerError;

/// Why no proof could be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProofError {
    /// The storage could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The events that are stored are not those that were signed.
    #[error(
        "the events stored of {ledger} do not lead to the root of its checkpoint of {size} \
         events: they were changed, or removed, after it was signed. Keep database and checkpoint \
         as they are, and compare with an export or a backup: `stella orch ledger verify`"
    )]
    Contradiction {
        /// Which ledger.
        ledger: LedgerId,
        /// Size of the checkpoint's tree.
        size: u64,
    },
    /// There is no such leaf or tree.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// A stored checkpoint is no checkpoint.
    #[error("the stored checkpoint of {size} events: {reason}")]
    Note {
        /// The size that it is stored under.
        size: u64,
        /// What is wrong with it.
        reason: CheckpointError,
    },
}

/// Why nothing was signed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignerError {
    /// The storage could not be read, or did not take what was to be stored.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger ends before what was signed.
    #[error(
        "the ledger {ledger} has {events} events, but a checkpoint of {size} was signed: its end \
         was cut off, or an older backup was restored. Bring the newer one back. If this one is \
         all there is, see \"A ledger that does not extend what was signed\" in docs/operations.md"
    )]
    Shorter {
        /// Which ledger.
        ledger: LedgerId,
        /// How many events it has.
        events: u64,
        /// How many were signed.
        size: u64,
    },
    /// The ledger's events are not those that were signed.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Two checkpoints of one ledger that cannot both be true.
    #[error(
        "the checkpoint of {size} events {place} is of another history than the ledger {ledger}: \
         the ledger was written anew, or there are two of this name. Keep both: together they \
         are the evidence"
    )]
    Forked {
        /// Which ledger.
        ledger: LedgerId,
        /// Size of the checkpoint's tree.
        size: u64,
        /// Where it was found.
        place: String,
    },
    /// A stored checkpoint bears no signature by a key that this node trusts.
    #[error(
        "the ledger's checkpoint of {size} events is not signed by {own}, the key of this node: \
         {reason}. Give it the key that signs this ledger with --signing-key"
    )]
    Foreign {
        /// Size of the checkpoint's tree.
        size: u64,
        /// The verifier key of this node.
        own: Box<VerifierKey>,
        /// What is wrong with the note.
        reason: CheckpointError,
    },
    /// The ledger says that another key signs, and this node has not got it.
    #[error(
        "the checkpoints of this ledger are signed by {wanted} since event {seq}, and this node \
         has another key: give it that one with --signing-key, or with --next-signing-key"
    )]
    KeyMissing {
        /// The key that signs.
        wanted: Box<VerifierKey>,
        /// The rotation's seq.
        seq: u64,
    },
    /// A recorded rotation does not hold.
    #[error("the key rotation recorded at seq {seq} does not hold: {reason}")]
    Rotation {
        /// Where it stands.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The ledger's events name another ledger.
    #[error(
        "event {seq} belongs to ledger {found}, this node is set up for {expected}: start it with \
         the --origin and --tenant of the ledger"
    )]
    OtherLedger {
        /// The event.
        seq: u64,
        /// What it says.
        found: LedgerId,
        /// What was expected.
        expected: LedgerId,
    },
    /// The checkpoint that is kept outside the database cannot be used.
    #[error("the kept checkpoint {path}: {reason}")]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A key's file cannot be used.
    #[error(transparent)]
    Key(#[from] super::keys::KeyError),
}

impl SignerError {
    /// Whether it shows that the ledger does not extend what was signed: then nothing may be
    /// written either. The code is the finding's.
    pub fn closes_the_ledger(&self) -> Option<&'static str> {
        match self {
            Self::Shorter { .. } => Some("LEDGER_SHORTER_THAN_SIGNED"),
            Self::Proof(ProofError::Contradiction { .. }) | Self::Forked { .. } => {
                Some("LEDGER_NOT_AS_SIGNED")
            }
            Self::Rotation { .. } => Some("KEY_ROTATION_UNSOUND"),
            Self::Ledger(LedgerError::Damaged { .. }) => Some("LEDGER_DAMAGED"),
            Self::Ledger(_)
            | Self::Proof(_)
            | Self::Foreign { .. }
            | Self::KeyMissing { .. }
            | Self::OtherLedger { .. }
            | Self::Kept { .. }
            | Self::Key(_) => None,
        }
    }
}
