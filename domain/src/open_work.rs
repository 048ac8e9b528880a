//! Work that is open at some point of the ledger: what dispatch starts from when a node starts.
//!
//! A projection keeps it, dispatch continues it from its position: neither sees the other, and a
//! restart never scans the ledger.

use crate::{
    aggregate::Control,
    chain::Head,
    event::StepConcurrency,
    ids::{Actor, DagId, FencingToken, PluginName, RunId, ScheduleId, StepId, WorkerId},
    time::Timestamp,
};

/// All open work of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWork {
    /// Where the ledger ended when it was so; dispatch goes on from there.
    pub head: Head,
    /// What operators hold back.
    pub control: Control,
    /// DAGs of which nothing starts.
    pub paused_dags: Vec<DagId>,
    /// Runs that have not ended.
    pub runs: Vec<OpenRun>,
    /// Schedules that there are.
    pub schedules: Vec<ScheduleId>,
    /// Fires whose run has not ended, or does not exist yet.
    pub fires: Vec<OpenFireWork>,
    /// Steps that wait for a worker.
    pub queued: Vec<QueuedStep>,
    /// Steps that a worker holds.
    pub leases: Vec<OpenLease>,
    /// Steps that wait for their next attempt.
    pub retries: Vec<PendingRetry>,
    /// Approvals that have a timeout and are not decided.
    pub approvals: Vec<PendingApproval>,
    /// Runs that have a timeout and have not ended.
    pub deadlines: Vec<RunDeadline>,
    /// Runs that still count against their DAG's budget, or may.
    pub starts: Vec<CountedStart>,
}

impl Default for OpenWork {
    /// Of a ledger without events.
    fn default() -> Self {
        Self {
            head: Head::EMPTY,
            control: Control::default(),
            paused_dags: vec![],
            runs: vec![],
            schedules: vec![],
            fires: vec![],
            queued: vec![],
            leases: vec![],
            retries: vec![],
            approvals: vec![],
            deadlines: vec![],
            starts: vec![],
        }
    }
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run.
    pub run_id: RunId,
    /// Its DAG.
    pub dag_id: DagId,
    /// Whether it is being cancelled, or is out of time: what workers hold of it is to be ended.
    pub cancelling: bool,
}

/// A fire of a schedule whose run has not ended, or does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFireWork {
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The time that it is for.
    pub fire_time: Timestamp,
    /// Its run.
    pub run_id: RunId,
    /// It starts when this run has ended.
    pub after: Option<RunId>,
    /// Whether that run is cancelled for it.
    pub cancels: bool,
    /// Whether it belongs to a backfill.
    pub backfill: bool,
    /// Whether the run exists.
    pub started: bool,
}

/// A step that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedStep {
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// Its run's DAG.
    pub dag_id: DagId,
    /// What it needs.
    pub plugin: PluginName,
    /// The limit that it shares with others of its DAG.
    pub concurrency: Option<StepConcurrency>,
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
    /// Its run's DAG.
    pub dag_id: DagId,
    /// What carries it out.
    pub plugin: PluginName,
    /// The limit that it shares with others of its DAG.
    pub concurrency: Option<StepConcurrency>,
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

/// An approval that operators have only so long for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingApproval {
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// When it is decided without them.
    pub deadline: Timestamp,
}

/// A run that may take only so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDeadline {
    /// The run.
    pub run_id: RunId,
    /// When its time is over.
    pub deadline: Timestamp,
}

/// A run that counts against its DAG's budget of starts until the window has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedStart {
    /// The DAG.
    pub dag_id: DagId,
    /// The version that the run is pinned to: it counts if that one has a budget.
    pub dag_version: u32,
    /// The run.
    pub run_id: RunId,
    /// When it was started.
    pub at: Timestamp,
    /// Who started it.
    pub actor: Actor,
    /// For this schedule.
    pub schedule_id: Option<ScheduleId>,
}
