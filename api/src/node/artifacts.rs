//! What is too large for events, as a node deals with it: large members of inputs and outputs, what
//! plugins leave, and the logs of steps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use stella_artifacts::{ArtifactError, ArtifactStore, ArtifactUri, LiveLogs, Stored};
use stella_commands::{
    CommandError, Commands, Completion, Poll, StepLogs,
    engine::{NewRun, RunStarted},
};
use stella_domain::{
    aggregate::Outcome,
    artifact::{self, Artifact, ArtifactDigest, Spilled},
    event::{Event, RunCreated, RunEvent, RunRequest},
    hash::rerun_id,
    ids::{Actor, FencingToken, LedgerId, RunId, StreamId, Tenant, WorkerId},
    json::CanonicalJson,
    limits::INLINE_BYTES,
};
use stella_ledger::{
    port::{Ledger, LedgerError},
    recorded::Recorded,
    writer::Written,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{NodeConfig, NodeError, data_dir::DataDir};

/// Between two looks for logs of attempts that ended without a report.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// A node's way to artifacts; cheap to clone.
#[derive(Clone)]
pub struct Artifacts {
    /// Where finished ones are.
    pub store: ArtifactStore,
    /// The logs of steps that run.
    pub live: Arc<LiveLogs>,
    ledger: LedgerId,
}

/// Why inputs or outputs were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Too many small members: nothing can be moved out.
    #[error(
        "{bytes} bytes are left when its large members are moved into artifacts, and at most \
         {INLINE_BYTES} can be recorded: put the many small members into one"
    )]
    TooLarge {
        /// What is left.
        bytes: usize,
    },
    /// It names what nobody put there.
    #[error("it names artifact {0}, which is not kept with this run")]
    NotKept(ArtifactDigest),
    /// The store.
    #[error(transparent)]
    Store(#[from] ArtifactError),
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its inputs were not taken.
    #[error("the inputs: {0}")]
    Inputs(#[source] ValueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] ArtifactError),
    /// The write side.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Why a report was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Its outputs were not taken.
    #[error("the outputs: {0}")]
    Outputs(#[source] ValueError),
    /// Its log could not be kept.
    #[error("the log: {0}")]
    Log(#[source] ArtifactError),
    /// The write side.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl StepLogs for Artifacts {
    fn close(&self, token: &FencingToken) -> Option<Artifact> {
        self.live.close(token)
    }
}

impl Artifacts {
    /// The store that `config` names, and the logs that this node has.
    pub(super) fn open(config: &NodeConfig, data_dir: &DataDir) -> Result<Self, NodeError> {
        let uri = config.artifacts.clone();
        let uri = uri.unwrap_or_else(|| ArtifactUri::Folder(data_dir.artifacts()));
        let live = LiveLogs::open(&data_dir.logs())
            .map_err(|error| data_dir.error(format!("the logs of steps: {error}")))?;
        let (origin, tenant) = (config.origin.clone(), config.tenant.clone());
        let ledger = LedgerId { origin, tenant };
        Ok(Self { store: ArtifactStore::open(&uri)?, live: Arc::new(live), ledger })
    }

    /// Whose artifacts they are.
    pub fn ledger(&self) -> &LedgerId {
        &self.ledger
    }

    /// What is recorded of an object that may be too large: its largest members are kept as artifacts
    /// of the run. What it names has to be kept already.
    ///
    /// # Errors
    /// [`ValueError`].
    pub async fn recordable(
        &self,
        run_id: &RunId,
        object: &CanonicalJson,
    ) -> Result<CanonicalJson, ValueError> {
        for named in artifact::named_in_text(object) {
            if !self.store.has(&self.ledger, run_id, &named).await? {
                return Err(ValueError::NotKept(named.digest));
            }
        }
        let Spilled { rest, moved } = spill(object)?;
        for (artifact, json) in moved {
            let bytes = Bytes::from(json.as_str().to_owned());
            self.store.put(&self.ledger, run_id, &artifact, bytes).await?;
        }
        Ok(rest)
    }

    /// Record how a leased step ended, with what it left. Safe to repeat.
    ///
    /// # Errors
    /// [`ReportError`].
    pub async fn complete(
        &self,
        commands: &Commands,
        worker_id: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        and_poll: Option<&Poll>,
    ) -> Result<Completion, ReportError> {
        let tenant = &self.ledger.tenant;
        // A report of somebody else changes nothing; the run itself says what is wrong with it.
        let is_held = commands.holds(tenant, worker_id, token);
        let outcome = match outcome {
            Outcome::Succeeded { outputs } => {
                let outputs = if is_held {
                    self.recordable(&token.run_id, &outputs).await
                } else {
                    spill(&outputs).map(|spilled| spilled.rest)
                };
                Outcome::Succeeded { outputs: outputs.map_err(ReportError::Outputs)? }
            }
            other => other,
        };
        // In the store before the event that names it is in the ledger.
        let log = match is_held {
            true => self.live.settle(token, &self.store, &self.ledger).await,
            false => Ok(None),
        };
        let log = log.map_err(ReportError::Log)?;
        let has_log = log.is_some();
        let completion =
            commands.complete(tenant, worker_id, token, outcome, log, and_poll).await?;
        if has_log {
            self.live.forget(token);
        }
        Ok(completion)
    }

    /// Start a run, with large members of its inputs as artifacts.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_run(
        &self,
        commands: &Commands,
        actor: &Actor,
        mut run: NewRun,
    ) -> Result<Written<RunStarted>, StartError> {
        let recorded = self.recordable(&run.run_id, &run.inputs).await;
        let recorded = recorded.map_err(StartError::Inputs)?;
        if recorded != run.inputs {
            run.given = Some(std::mem::replace(&mut run.inputs, recorded));
        }
        // One that has a token may be there already.
        let is_new = run.run_token.is_none() && run.given.is_some();
        let run_id = run.run_id.clone();
        let started = commands.start_run(&self.ledger.tenant, actor, run).await;
        if is_new && matches!(started, Err(CommandError::Refused(_))) {
            self.store.erase(&self.ledger, &run_id).await?;
        }
        Ok(started?)
    }

    /// Run a run again, with what it was given as artifacts.
    ///
    /// # Errors
    /// [`RerunError`].
    pub async fn rerun(
        &self,
        commands: &Commands,
        ledger: &dyn Ledger,
        actor: &Actor,
        run_id: &RunId,
        dag_version: Option<u32>,
        reason: String,
    ) -> Result<Written<RunStarted>, RerunError> {
        let tenant = &self.ledger.tenant;
        let handed_on = self.hand_on(ledger, run_id).await?;
        let written = commands.rerun(tenant, actor, run_id, dag_version, reason).await;
        if let (Some(rerun), Err(CommandError::Refused(_))) = (handed_on, &written)
            && created(ledger, tenant, &rerun).await?.is_none()
        {
            self.store.erase(&self.ledger, &rerun).await?;
        }
        Ok(written?)
    }

    /// Keep what a run was given with its rerun, before that is decided: each run has its own.
    async fn hand_on(
        &self,
        ledger: &dyn Ledger,
        run_id: &RunId,
    ) -> Result<Option<RunId>, RerunError> {
        let tenant = &self.ledger.tenant;
        let Some((created, Some(request))) = created(ledger, tenant, run_id).await? else {
            // The command itself says what is wrong.
            return Ok(None);
        };
        let given = artifact::named_in_text(&request.inputs);
        if given.is_empty() {
            return Ok(None);
        }
        let first = created.rerun_of.as_ref().unwrap_or(run_id);
        let rerun = rerun_id(tenant, first, request.run_token.as_deref(), created.attempt + 1);
        for artifact in given {
            self.store.copy(&self.ledger, run_id, &rerun, &artifact).await?;
        }
        Ok(Some(rerun))
    }

    /// The bytes of an artifact of a run. The log of an attempt that has just ended without a report may
    /// have to be put into the store first.
    ///
    /// # Errors
    /// [`ArtifactError`].
    pub async fn get(
        &self,
        commands: Option<&Commands>,
        run_id: &RunId,
        digest: &ArtifactDigest,
    ) -> Result<Stored, ArtifactError> {
        let Self { store, live, ledger } = self;
        match (store.get(ledger, run_id, digest).await, commands) {
            (Err(ArtifactError::Missing { .. }), Some(commands)) => {
                let waits = |token: &FencingToken| {
                    token.run_id != *run_id || commands.is_leased(&ledger.tenant, token)
                };
                live.sweep(store, ledger, waits).await?;
                store.get(ledger, run_id, digest).await
            }
            (got, _) => got,
        }
    }

    /// Until `stop`, keep the logs of attempts that ended without a report of their workers.
    pub(super) fn sweep_until(
        &self,
        commands: &Commands,
        stop: &CancellationToken,
    ) -> JoinHandle<()> {
        let (artifacts, commands, stop) = (self.clone(), commands.clone(), stop.clone());
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
                let Artifacts { store, live, ledger } = &artifacts;
                let is_under_way = |token: &FencingToken| commands.is_leased(&ledger.tenant, token);
                // Safe to cut off anywhere: what is half done is done again.
                let swept = stop.run_until_cancelled(live.sweep(store, ledger, is_under_way));
                if let Some(Err(error)) = swept.await {
                    tracing::warn!(%error, "the log of a step that ended has to wait");
                }
            }
        })
    }
}

/// Why a run was not run again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// The store.
    #[error(transparent)]
    Store(#[from] ArtifactError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The write side.
    #[error(transparent)]
    Command(#[from] CommandError),
}

async fn created(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    run_id: &RunId,
) -> Result<Option<(Box<RunCreated>, Option<Box<RunRequest>>)>, LedgerError> {
    let commits = ledger.read_stream(tenant, &StreamId::Run(run_id.clone()), 1, 1).await?;
    let Some(commit) = commits.into_iter().next() else { return Ok(None) };
    let first = Recorded::decode(commit)?.events.into_iter().next();
    Ok(first.and_then(|event| match event {
        Event::Run(RunEvent::RunCreated(created, request)) => Some((created, request)),
        _ => None,
    }))
}

fn spill(object: &CanonicalJson) -> Result<Spilled, ValueError> {
    artifact::spill(object).map_err(|bytes| ValueError::TooLarge { bytes })
}
