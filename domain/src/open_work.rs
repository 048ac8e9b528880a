//! Work that is open at some point of the ledger: what dispatch starts from when a node starts.
//!
//! A projection keeps it, dispatch continues it from its position: neither sees the other, and a
//! restart never scans the ledger.

use crate::{
    chain::Head,
    ids::{FencingToken, PluginName, RunId, StepId, WorkerId},
    time::Timestamp,
};

/// All open work of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWork {
    /// Where the ledger ended when it was so; dispatch goes on from there.
    pub head: Head,
    /// Steps that wait for a worker.
    pub queued: Vec<QueuedStep>,
    /// Steps that a worker holds.
    pub leases: Vec<OpenLease>,
    /// Steps that wait for their next attempt.
    pub retries: Vec<PendingRetry>,
    /// Runs that have a timeout and have not ended.
    pub deadlines: Vec<RunDeadline>,
}

/// A step that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedStep {
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// What it needs.
    pub plugin: PluginName,
    /// Higher goes first.
    pub priority: i32,
    /// `seq` of its `StepQueued`: older goes first.
    pub seq: u64,
}

/// A step that a worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLease {
    /// Names the run and the lease.
    pub token: FencingToken,
    /// The step.
    pub step_id: StepId,
    /// Who holds it.
    pub worker_id: WorkerId,
    /// Milliseconds that it holds without a heartbeat.
    pub lease_ms: u64,
    /// When it was granted.
    pub started_at: Timestamp,
}

/// A step that waits for its next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRetry {
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// When it is queued at the earliest.
    pub not_before: Timestamp,
}

/// A run that may take only so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDeadline {
    /// The run.
    pub run_id: RunId,
    /// When its time is over.
    pub deadline: Timestamp,
}
