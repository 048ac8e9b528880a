//! The ledger as an aggregate: opened once, sealed at will; and what is erased is its decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Aggregate, ErasureReason, RunStatus, RunToErase};
use crate::{
    checkpoint::{CheckpointError, VerifierKey},
    event::{LedgerEvent, LedgerOpened, NoData, Reason, SigningKeyRotated},
    ids::{RunId, Tenant},
};

/// State of the stream `ledger/<tenant>`. It does not grow with what is erased.
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
    /// The versions at which that key was rotated.
    pub rotated_at: Vec<u64>,
    /// The version at which payloads were last erased.
    pub erased_at: Option<u64>,
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
    /// Erase the payloads of a run. Asked again until nothing more is decided: a run may have more
    /// of them than one commit can name.
    Erase {
        /// The run as it stands in the ledger.
        run: Arc<RunToErase>,
        /// In the operator's words.
        reason: ErasureReason,
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
    /// The run whose payloads are to be erased does not exist.
    #[error("there is no run {0}: nothing was erased")]
    RunUnknown(RunId),
    /// The run whose payloads are to be erased may still need them.
    #[error(
        "run {run_id} is {}: only payloads of runs that have ended are erased; wait for its end, \
         or cancel it",
        status.as_str()
    )]
    RunNotEnded {
        /// The run.
        run_id: RunId,
        /// Where it stands.
        status: RunStatus,
    },
    /// What is known of the run is older than the last erasure.
    #[error(
        "another erasure was recorded while the payloads of run {0} were looked up: nothing was \
         erased; ask again"
    )]
    ErasedMeanwhile(RunId),
    /// The run has no payload left although none was erased.
    #[error(
        "run {0} has no payload to erase, and no erasure is recorded: somebody removed them; see \
         `stella orch ledger verify`"
    )]
    NothingToErase(RunId),
}

impl Aggregate for Ledger {
    type Command = LedgerCommand;
    type Event = LedgerEvent;
    type Error = LedgerRefusal;

    fn decide(&self, command: LedgerCommand) -> Result<Vec<LedgerEvent>, LedgerRefusal> {
        use LedgerCommand::{AcceptClockFault, Erase, Open, RotateKey, Seal};
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
            (true, Erase { run, reason }) => self.erase(&run, &reason),
            (false, Seal { .. } | AcceptClockFault { .. } | RotateKey { .. } | Erase { .. }) => {
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
                self.rotated_at.push(self.version);
            }
            LedgerEvent::DataErased(..) => self.erased_at = Some(self.version),
        }
    }
}

impl Ledger {
    fn erase(
        &self,
        run: &RunToErase,
        reason: &ErasureReason,
    ) -> Result<Vec<LedgerEvent>, LedgerRefusal> {
        let run_id = || run.run_id.clone();
        let status = run.status.ok_or_else(|| LedgerRefusal::RunUnknown(run_id()))?;
        if !status.is_ended() {
            return Err(LedgerRefusal::RunNotEnded { run_id: run_id(), status });
        }
        if self.erased_at > Some(run.as_of) {
            return Err(LedgerRefusal::ErasedMeanwhile(run_id()));
        }
        match (run.named, run.erase(reason)) {
            (None, events) if events.is_empty() => Err(LedgerRefusal::NothingToErase(run_id())),
            // Nothing more when it was asked before: what was named is named once.
            (_, events) => Ok(events),
        }
    }

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
