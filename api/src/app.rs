//! What every handler has at hand.

use std::sync::Arc;

use stella_commands::Commands;
use stella_domain::ids::Tenant;
use stella_ledger::{clock::Clock, feed::Feed, port::Ledger};
use stella_projections::Projections;
use stella_worker::Plugins;

use crate::{auth::AccessToken, node::checkpoints::Checkpoints};

/// The parts of a node that the HTTP API speaks to; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The one tenant that this node serves until authentication names it.
    pub tenant: Tenant,
    /// The write side.
    pub commands: Commands,
    /// The read side.
    pub projections: Arc<Projections>,
    /// The record.
    pub ledger: Arc<dyn Ledger>,
    /// What was signed of it, and proofs.
    pub checkpoints: Checkpoints,
    /// Committed events as they come.
    pub feed: Arc<Feed>,
    /// What DAG specs may name.
    pub plugins: Arc<Plugins>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What a caller has to present.
    pub access_token: AccessToken,
}
