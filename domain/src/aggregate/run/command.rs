//! What can be asked of a run.

use std::sync::Arc;

use crate::{
    artifact::Artifact,
    dag::DagSpec,
    event::{ErrorCode, Labels, ScheduleFire},
    ids::{RunId, RunToken, StepId, WorkerId},
    json::CanonicalJson,
    plugin::PluginBuild,
    time::Timestamp,
};

/// A run to be started.
#[derive(Debug, Clone)]
pub struct StartRun {
    /// The spec that it follows, already resolved.
    pub spec: Arc<DagSpec>,
    /// The version of that spec.
    pub dag_version: u32,
    /// Whether the caller named the version, so that a repeat has to name the same.
    pub version_is_explicit: bool,
    /// The inputs as they are recorded.
    pub inputs: CanonicalJson,
    /// The inputs as they were given, if members of them became artifacts.
    pub given: Option<CanonicalJson>,
    /// Labels.
    pub labels: Labels,
    /// Higher is dispatched first.
    pub priority: i32,
    /// The caller's idempotency key.
    pub run_token: Option<RunToken>,
    /// 0 for a first run.
    pub attempt: u32,
    /// Of a rerun: the first run, whose reruns are counted.
    pub rerun_of: Option<RunId>,
    /// In the words of whoever starts it; empty where nothing is said.
    pub reason: String,
    /// The fire of a schedule that it is started for.
    pub schedule: Option<ScheduleFire>,
    /// Now: the run's timeout, and those of its first steps, begin here.
    pub now: Timestamp,
}

/// What an operator decides about an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The run may go on.
    Approved,
    /// The step fails.
    Rejected,
}

/// How a worker's attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With outputs, an object.
    Succeeded {
        /// What the step gives to those that need it.
        outputs: CanonicalJson,
    },
    /// With an error.
    Failed {
        /// Stable code.
        code: ErrorCode,
        /// For people.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The step's time ran out.
    TimedOut,
    /// The worker ended it on request, or because it is shutting down.
    Cancelled,
}

/// What can be asked of a run.
#[derive(Debug, Clone)]
pub enum RunCommand {
    /// Create it, or recognise that it is there already.
    Start(StartRun),
    /// Lease a queued step to a worker.
    GrantLease {
        /// The step.
        step_id: StepId,
        /// Who asked for work.
        worker_id: WorkerId,
        /// What it says of the plugin that it has for the step.
        plugin: PluginBuild,
        /// Milliseconds that the lease holds without a heartbeat.
        lease_ms: u64,
        /// Now: what remains of the step's total timeout is counted from here.
        now: Timestamp,
    },
    /// Record how a leased step ended.
    Complete {
        /// Stream version in the fencing token.
        token: u64,
        /// Who presents the token; must be who holds it.
        worker_id: WorkerId,
        /// How it ended.
        outcome: Outcome,
        /// What its plugin wrote meanwhile.
        log: Option<Artifact>,
        /// This run, by whose id waits before retries differ.
        run_id: RunId,
        /// Now: retries are scheduled from here.
        now: Timestamp,
    },
    /// The worker stopped answering.
    ExpireLease {
        /// Stream version in the fencing token.
        token: u64,
        /// What its plugin wrote until then.
        log: Option<Artifact>,
        /// Now.
        now: Timestamp,
    },
    /// The lease never reached the worker that it was granted to.
    ReturnLease {
        /// Stream version in the fencing token.
        token: u64,
        /// Now.
        now: Timestamp,
    },
    /// The step's time ran out and its worker did not say so.
    TimeOut {
        /// Stream version in the fencing token.
        token: u64,
        /// What its plugin wrote until then.
        log: Option<Artifact>,
        /// This run, by whose id waits before retries differ.
        run_id: RunId,
        /// Now.
        now: Timestamp,
    },
    /// A retry is due.
    QueueRetry {
        /// The step.
        step_id: StepId,
        /// Now.
        now: Timestamp,
    },
    /// End the run as soon as what runs has stopped.
    Cancel {
        /// In the operator's words.
        reason: String,
    },
    /// Decide about an approval as its spec says, if its time is over.
    PassApproval {
        /// The step.
        step_id: StepId,
        /// The time.
        now: Timestamp,
    },
    /// Record what an operator decided about an approval.
    Decide {
        /// The step.
        step_id: StepId,
        /// What was decided.
        verdict: Verdict,
        /// In the operator's words.
        reason: String,
        /// Now.
        now: Timestamp,
    },
    /// The run's time may be over.
    PassDeadline {
        /// Now.
        now: Timestamp,
    },
}
