//! The port by which a worker gets work and reports what came of it.
//!
//! It knows no transport: the server implements it in process, a remote worker over HTTP.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stella_domain::{
    aggregate,
    artifact::Artifact,
    event::ErrorCode,
    ids::{DagId, FencingToken, PluginName, RunId, StepId, WorkerId},
    json::CanonicalJson,
    plugin::WorkerPlugin,
    time::Timestamp,
};

use crate::step::ArtifactBytes;

/// Where leases come from.
///
/// Invariants: a token is handed out once; an answer carries at most the leases that were asked
/// for. A caller may drop a call at any time: a lease that was granted and not received expires.
#[async_trait]
pub trait LeaseSource: Send + Sync {
    /// Ask for work, and wait for it up to `wait_ms`; an empty answer says there was none.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] and [`LeaseError::Refused`].
    async fn poll(&self, request: PollRequest) -> Result<Vec<Lease>, LeaseError>;

    /// Report what came of a lease, and ask for the next one in the same breath.
    ///
    /// Safe to repeat with the same outcome.
    ///
    /// # Errors
    /// [`LeaseError`]; what to do is said there.
    async fn complete(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        and_poll: Option<PollRequest>,
    ) -> Result<Completed, LeaseError>;

    /// Renew leases. A token without an answer was not renewed.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] and [`LeaseError::Refused`]; none was renewed.
    async fn heartbeat(
        &self,
        worker_id: &WorkerId,
        tokens: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError>;

    /// Add to a step's log what follows its first `offset` bytes. Safe to repeat.
    ///
    /// # Errors
    /// [`LeaseError`].
    async fn append_log(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), LeaseError>;

    /// Hand over the file at `path`, which the step leaves under `name`. Safe to repeat.
    ///
    /// # Errors
    /// [`LeaseError`].
    async fn put_artifact(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        name: &str,
        media_type: &str,
        path: &Path,
    ) -> Result<Artifact, LeaseError>;

    /// The bytes of an artifact of a run.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] and [`LeaseError::Refused`].
    async fn get_artifact(
        &self,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError>;

    /// Wait until some of this worker's leases are to be cancelled, and name them.
    ///
    /// Where a transport cannot say so at once, the next heartbeat's verdict does.
    async fn cancellations(&self, _worker_id: &WorkerId) -> Vec<FencingToken> {
        std::future::pending().await
    }

    /// Say that this worker ends. What goes wrong does not matter: it is missed after a while.
    async fn leave(&self, _worker_id: &WorkerId) {}

    /// When the server was last asked to have plugins loaded again, as far as it has said so to this
    /// worker. A time that is new to the worker makes it do so before it asks for more work.
    fn warm_asked_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A worker asks for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PollRequest {
    /// Who asks.
    pub worker_id: WorkerId,
    /// The plugins that it has.
    pub plugins: Arc<[WorkerPlugin]>,
    /// Leases wanted, at least 1.
    pub max: u32,
    /// How long to wait for the first, in milliseconds.
    pub wait_ms: u64,
}

/// A step that this worker holds for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Proves that the lease is the current one.
    pub token: FencingToken,
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The run's DAG.
    pub dag_id: DagId,
    /// The plugin to use.
    pub plugin: PluginName,
    /// The action to carry out.
    pub action: String,
    /// The step's `with`, its expressions resolved: the inputs of the action, an object.
    pub with: CanonicalJson,
    /// How long the lease holds without a heartbeat, in milliseconds.
    pub lease_ttl_ms: u64,
    /// How long the attempt may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What came of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The step is done.
    Succeeded {
        /// Its outputs, an object; its large members become artifacts.
        outputs: CanonicalJson,
    },
    /// The attempt failed.
    Failed {
        /// Stable code.
        code: ErrorCode,
        /// For people, at most 4 KiB.
        message: String,
        /// Whether another attempt may help.
        retryable: bool,
    },
    /// The attempt took longer than `timeout_ms`.
    TimedOut,
    /// The attempt was ended because a heartbeat said so; or, unasked, because the worker stops
    /// and gives the lease back.
    Cancelled,
}

impl From<Outcome> for aggregate::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded { outputs } => Self::Succeeded { outputs },
            Outcome::Failed { code, message, retryable } => {
                Self::Failed { code, message, retryable }
            }
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// The outcome is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completed {
    /// The leases that were asked for with `and_poll`.
    pub next: Vec<Lease>,
}

/// What becomes of a lease that was to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatAnswer {
    /// The lease.
    pub token: FencingToken,
    /// What to do.
    pub verdict: Verdict,
}

/// What to do with a running step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Carry on: the lease is renewed.
    Continue,
    /// The run is being cancelled: end the step and report it.
    Cancel,
    /// The lease is no longer this worker's: end the step and say nothing.
    Lost,
}

/// Why a call to a [`LeaseSource`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease is no longer this worker's: drop the step.
    #[error("the lease is no longer held by this worker")]
    Stale,
    /// It is not known whether anything was recorded: repeat the same call after a while.
    #[error("the server cannot be reached or cannot write now: {0}")]
    Unavailable(String),
    /// The call is wrong, and repeating it does not help.
    #[error("the server refused the call: {0}")]
    Refused(String),
}
