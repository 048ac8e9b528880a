//! The worker: plugin bundles, and the execution of steps.
//!
//! A worker gets leases through [`lease::LeaseSource`], carries them out with the plugins of
//! [`catalog::Plugins`] and reports one outcome a lease. It holds no database credentials and
//! knows neither the ledger nor how its leases travel.

mod backoff;
pub mod bundle;
pub mod catalog;
pub mod core;
pub mod error;
mod files;
pub mod lease;
pub mod log;
pub mod manifest;
pub mod pack;
pub mod process;
pub mod protocol;
pub mod schema;
pub mod shelf;
pub mod step;
pub mod supply_chain;
pub mod worker;

pub use crate::{
    bundle::{Bundle, BundleError},
    catalog::{BuiltIn, CatalogError, Plugins},
    error::StepError,
    lease::{
        Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome, PollRequest, Verdict,
    },
    log::StepLog,
    shelf::{Reloaded, Shelf, Stock},
    step::{ArtifactBytes, Step},
    worker::{Worker, WorkerConfig},
};
