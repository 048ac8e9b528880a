//! What every handler has at hand.

use std::{sync::Arc, time::Duration};

use stella_commands::Commands;
use stella_domain::ids::Tenant;
use stella_ledger::{
    checkpoints::gate::Gate,
    clock::Clock,
    feed::Feed,
    port::{Ledger, LedgerError},
};
use stella_projections::Projections;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::AccessToken,
    catalog::Catalog,
    node::{artifacts::Artifacts, checkpoints::Checkpoints, erasures::Erasures},
    slo::SloTargets,
    warmth::Warmth,
};

/// The parts of a node that the HTTP API speaks to; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The one tenant that this node serves until authentication names it.
    pub tenant: Tenant,
    /// The read side.
    pub projections: Arc<Projections>,
    /// What DAG specs may name.
    pub catalog: Arc<Catalog>,
    /// What is too large for events.
    pub artifacts: Artifacts,
    /// When workers were last asked to load their plugins again.
    pub warmth: Warmth,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What a caller has to present.
    pub access_token: AccessToken,
    /// Cancelled when the node is to stop.
    pub stop: CancellationToken,
    /// What is aimed at for runs.
    pub slo: SloTargets,
    /// What stands between the writer and its ledger.
    pub gate: Arc<Gate>,
    /// The record, once there is a way to it.
    pub record: RecordWatch,
}

/// The record, and what works on it. Nobody gets hold of it before it has answered and was found
/// to be the one that the projections were folded from.
#[derive(Clone)]
pub struct Record {
    /// The write side.
    pub commands: Commands,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// What was signed of it, and proofs.
    pub checkpoints: Checkpoints,
    /// The way to have payloads blanked.
    pub erasures: Erasures,
    /// Committed events as they come.
    pub feed: Arc<Feed>,
}

/// The record, or why there is no way to it yet.
pub type RecordWatch = watch::Receiver<Result<Record, String>>;

impl App {
    /// The record.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] while the node has not reached its ledger since it started.
    pub fn record(&self) -> Result<Record, LedgerError> {
        self.record.borrow().clone().map_err(LedgerError::Unavailable)
    }

    /// The record, as soon as there is a way to it.
    ///
    /// # Errors
    /// As [`record`](Self::record), when that takes longer than `wait`.
    pub async fn record_within(&self, wait: Duration) -> Result<Record, LedgerError> {
        let mut record = self.record.clone();
        let _ = tokio::time::timeout(wait, record.wait_for(Result::is_ok)).await;
        self.record()
    }
}
