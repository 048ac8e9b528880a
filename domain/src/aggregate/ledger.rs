//! The ledger as an aggregate: opened once, sealed at will.

use serde::{Deserialize, Serialize};

use super::Aggregate;
use crate::{
    checkpoint::{CheckpointError, VerifierKey},
    event::{LedgerEvent, LedgerOpened, NoData, Reason, SigningKeyRotated},
    ids::Tenant,
};

/// State of the stream `ledger/<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Whether `LedgerOpened` stands at seq 0.
    pub opened: bool,
    /// Events in the stream.
    pub version: u64,
    /// The version at which a clock fault was last accepted.
    pub clock_fault_accepted_at: Option<u64>,
    /// The key that signs its checkpoints; `None` until it was rotated for the first time, because
    /// the first key is recorded nowhere but in the checkpoints themselves.
    pub signing_key: Option<VerifierKey>,
}

/// What can be asked of a ledger.
#[derive(Debug, Clone)]
pub enum LedgerCommand {
    /// Begin it.
    Open {
        /// Whose ledger it is.
        tenant: Tenant,
    },
    /// Close every window that ends now or earlier.
    Seal {
        /// In the operator's words.
        reason: String,
    },
    /// Let `recordedAt` stand still until the clocks catch up.
    AcceptClockFault {
        /// In the admin's words.
        reason: String,
    },
    /// Let another key sign its checkpoints.
    RotateKey {
        /// Both keys, and their signatures.
        rotation: Box<SigningKeyRotated>,
    },
}

/// Why a ledger refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerRefusal {
    /// There is no ledger yet.
    #[error("this tenant has no ledger yet: start `stella orch serve` with this tenant first")]
    NotOpened,
    /// The rotation does not hold by itself.
    #[error("the signing key was not rotated: {0}")]
    RotationUnsound(#[from] CheckpointError),
    /// The rotation begins at another key than the one in use.
    #[error("the signing key was not rotated: {current} is in use, not {old}")]
    KeyNotCurrent {
        /// The key in use.
        current: Box<VerifierKey>,
        /// The key that the rotation begins at.
        old: Box<VerifierKey>,
    },
}

impl Aggregate for Ledger {
    type Command = LedgerCommand;
    type Event = LedgerEvent;
    type Error = LedgerRefusal;

    fn decide(&self, command: LedgerCommand) -> Result<Vec<LedgerEvent>, LedgerRefusal> {
        use LedgerCommand::{AcceptClockFault, Open, RotateKey, Seal};
        match (self.opened, command) {
            (true, Open { .. }) => Ok(vec![]),
            (false, Open { tenant }) => {
                Ok(vec![LedgerEvent::LedgerOpened(LedgerOpened { format: 1, tenant })])
            }
            (true, Seal { reason }) => {
                Ok(vec![LedgerEvent::LedgerSealed(NoData {}, Some(Reason { reason }))])
            }
            (true, AcceptClockFault { reason }) => {
                Ok(vec![LedgerEvent::ClockFaultAccepted(NoData {}, Some(Reason { reason }))])
            }
            (true, RotateKey { rotation }) => self.rotate(rotation),
            (false, Seal { .. } | AcceptClockFault { .. } | RotateKey { .. }) => {
                Err(LedgerRefusal::NotOpened)
            }
        }
    }

    fn evolve(&mut self, event: &LedgerEvent) {
        self.version += 1;
        match event {
            LedgerEvent::LedgerOpened(_) => self.opened = true,
            LedgerEvent::LedgerSealed(..) => {}
            LedgerEvent::ClockFaultAccepted(..) => {
                self.clock_fault_accepted_at = Some(self.version);
            }
            LedgerEvent::SigningKeyRotated(rotation) => {
                self.signing_key = Some(rotation.new_key.clone());
            }
        }
    }
}

impl Ledger {
    fn rotate(&self, rotation: Box<SigningKeyRotated>) -> Result<Vec<LedgerEvent>, LedgerRefusal> {
        rotation.verify()?;
        match &self.signing_key {
            // Asked twice.
            Some(current) if *current == rotation.new_key => Ok(vec![]),
            Some(current) if *current != rotation.old_key => Err(LedgerRefusal::KeyNotCurrent {
                current: Box::new(current.clone()),
                old: Box::new(rotation.old_key.clone()),
            }),
            Some(_) | None => Ok(vec![LedgerEvent::SigningKeyRotated(rotation)]),
        }
    }
}
