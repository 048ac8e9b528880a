//! Events of the ledger itself, stream `ledger/<tenant>`.

use serde::{Deserialize, Serialize};

use super::{NoData, Reason, events};
pub use crate::checkpoint::SigningKeyRotated;
use crate::ids::Tenant;

/// Data of `LedgerOpened`, the event at seq 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerOpened {
    /// Version of the ledger format.
    pub format: u32,
    /// Whose ledger it is.
    pub tenant: Tenant,
}

events! {
    /// What happens to a ledger as a whole.
    LedgerEvent {
        /// The first event of every ledger.
        LedgerOpened = 1 (LedgerOpened),
        /// Closes every window that ends before it.
        LedgerSealed = 1 (NoData, payload: Reason),
        /// An admin accepts that `recordedAt` stands still until the clocks catch up.
        ClockFaultAccepted = 1 (NoData, payload: Reason),
        /// Another key signs the checkpoints of larger trees than those before it.
        SigningKeyRotated = 1 (Box<SigningKeyRotated>),
    }
}
