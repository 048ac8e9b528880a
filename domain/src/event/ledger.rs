//! Events of the ledger itself, stream `ledger/<tenant>`.

use serde::{Deserialize, Serialize};

use super::{NoData, Reason, events};
pub use crate::checkpoint::SigningKeyRotated;
use crate::ids::{RunId, Tenant};

/// Data of `LedgerOpened`, the event at seq 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerOpened {
    /// Version of the ledger format.
    pub format: u32,
    /// Whose ledger it is.
    pub tenant: Tenant,
}

/// Data of `DataErased`: whose payloads, and which. Once this is recorded they are blanked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataErased {
    /// The run, which has ended.
    pub run_id: RunId,
    /// The events whose payload goes, ascending, each once, at least one.
    pub seqs: Vec<u64>,
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
        /// Payloads of a run are erased; the reason stays.
        DataErased = 1 (DataErased, payload: Reason),
    }
}
