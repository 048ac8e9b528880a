//! The ledger as an aggregate: opened once, sealed at will.

use serde::{Deserialize, Serialize};

use super::Aggregate;
use crate::{
    event::{LedgerEvent, LedgerOpened, NoData, Reason},
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
}

/// Why a ledger refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerRefusal {
    /// There is no ledger yet.
    #[error("this tenant has no ledger yet: start `stella orch serve` with this tenant first")]
    NotOpened,
}

impl Aggregate for Ledger {
    type Command = LedgerCommand;
    type Event = LedgerEvent;
    type Error = LedgerRefusal;

    fn decide(&self, command: LedgerCommand) -> Result<Vec<LedgerEvent>, LedgerRefusal> {
        use LedgerCommand::{AcceptClockFault, Open, Seal};
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
            (false, Seal { .. } | AcceptClockFault { .. }) => Err(LedgerRefusal::NotOpened),
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
        }
    }
}
