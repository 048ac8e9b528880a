//! The write side: commands in, durable answers out.
//!
//! [`Commands`] is what callers hold. A run's commands are decided by the [`engine`] inside the
//! writer, on staged state, because they depend on other streams and on who waits for work;
//! commands to a single DAG or ledger go the standard way of `cqrs-es` ([`store`]).

pub mod dispatch;
pub mod engine;
mod erasing;
mod leases;
mod refusal;
mod run_ends;
mod size;
pub mod store;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use stella_domain::{
    aggregate::{
        Control, ControlChange, ControlCommand, Dag, DagCommand, Ledger as LedgerAggregate,
        LedgerCommand, RunCommand, Verdict, VersionChange,
    },
    chain::Head,
    checkpoint::SigningKeyRotated,
    dag::DagSpec,
    hash::{RunIdKind, derived_run_id},
    ids::{Actor, DagId, Origin, RunId, RunToken, ScheduleId, StepId, StreamId, Tenant},
    open_work::OpenWork,
    time::Timestamp,
};
use stella_ledger::{
    clock::Clock,
    feed::Feed,
    port::{Ledger, LedgerError},
    snapshots::Snapshots,
    writer::{Receipt, WriteError, Writer, WriterConfig, Written},
};

use self::{
    dispatch::{Dispatch, SeenWorker, Wait},
    engine::{
        Answer, Command, Engine, NewRun, RunStarted, ScheduleChange, ScheduleChanged, Shared,
    },
    run_ends::RunEnds,
};
pub use self::{
    erasing::ErasedRun,
    leases::{Completion, HeartbeatAnswer, NoLogs, Poll, StepLogs},
    refusal::Refusal,
    run_ends::{RunEnd, RunEndWait},
};

/// What the write side needs to know.
pub struct CommandsConfig {
    /// First half of the ledgers' names.
    pub origin: Origin,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Milliseconds that a lease holds without a heartbeat.
    pub lease_ms: u64,
    /// What attempts write about their work.
    pub logs: Arc<dyn StepLogs>,
    /// Where folds of streams that never end are kept.
    pub snapshots: Arc<dyn Snapshots>,
    /// What is open, by tenant, as the projections know it.
    pub open_work: Vec<(Tenant, OpenWork)>,
}

/// Why a command had no effect, or may have had none.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// It is not allowed; nothing was recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ledger did not take it, or did not say whether it did.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The way to the write side; cheap to clone.
#[derive(Clone)]
pub struct Commands {
    writer: Writer<Engine>,
    ledger: Arc<dyn Ledger>,
    shared: Arc<Shared>,
}

impl Commands {
    /// Start the writer. Its task ends when every `Commands` is dropped.
    pub fn start(
        mut config: CommandsConfig,
        ledger: Arc<dyn Ledger>,
        feed: Arc<Feed>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let now = config.clock.now();
        let mut dispatch = Dispatch::default();
        let mut known: HashMap<Tenant, Head> = HashMap::new();
        let mut starts = vec![];
        for (tenant, mut work) in std::mem::take(&mut config.open_work) {
            let counted = std::mem::take(&mut work.starts).into_iter();
            starts.extend(counted.map(|start| (tenant.clone(), start)));
            known.insert(tenant.clone(), work.head);
            dispatch.open(&tenant, work, now);
        }
        let shared = Arc::new(Shared {
            dispatch: Mutex::new(dispatch),
            run_ends: RunEnds::default(),
            clock: Arc::clone(&config.clock),
            snapshots: Arc::clone(&config.snapshots),
            lease_ms: config.lease_ms,
            logs: config.logs,
            cancelled: tokio::sync::Notify::new(),
            erasing: tokio::sync::Mutex::default(),
        });
        let CommandsConfig { origin, clock, snapshots, .. } = config;
        let writer_config = WriterConfig { origin, clock, snapshots, known };
        let engine = Engine::new(Arc::clone(&shared), starts);
        let (writer, task) = Writer::start(writer_config, Arc::clone(&ledger), feed, engine);
        (Self { writer, ledger, shared }, task)
    }

    /// Begin the tenant's ledger unless it has begun.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn open_ledger(&self, tenant: &Tenant, actor: &Actor) -> Result<(), CommandError> {
        let command = LedgerCommand::Open { tenant: tenant.clone() };
        self.ledger_command(tenant, actor, command).await.map(drop)
    }

    /// Record `LedgerSealed`, which closes every window that ends before it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn seal_ledger(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        reason: String,
    ) -> Result<Option<Receipt>, CommandError> {
        self.ledger_command(tenant, actor, LedgerCommand::Seal { reason }).await
    }

    /// Record that a wrong clock is known; `recordedAt` stands still until the clocks catch up.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn accept_clock_fault(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        reason: String,
    ) -> Result<Option<Receipt>, CommandError> {
        self.ledger_command(tenant, actor, LedgerCommand::AcceptClockFault { reason }).await
    }

    /// Record that another key signs the ledger's checkpoints from here on.
    ///
    /// # Errors
    /// [`CommandError`]; a rotation that both keys did not sign is refused.
    pub async fn rotate_key(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        rotation: SigningKeyRotated,
    ) -> Result<Option<Receipt>, CommandError> {
        self.ledger_command(
            tenant,
            actor,
            LedgerCommand::RotateKey { rotation: Box::new(rotation) },
        )
        .await
    }

    async fn ledger_command(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        command: LedgerCommand,
    ) -> Result<Option<Receipt>, CommandError> {
        let stream = StreamId::Ledger(tenant.clone());
        let store = self.store(tenant, actor);
        let (_, receipt) = store::execute::<LedgerAggregate>(&store, &stream, command).await?;
        Ok(receipt)
    }

    /// Register a version of a DAG, unless one of the same digest is there. Answers its number,
    /// and the receipt if it is new.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn register_dag(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        spec: Arc<DagSpec>,
        reason: String,
    ) -> Result<(u32, Option<Receipt>), CommandError> {
        let stream = StreamId::Dag(spec.id().clone());
        let digest = spec.digest().to_owned();
        let store = self.store(tenant, actor);
        let command = DagCommand::Register { spec, reason };
        let (dag, receipt) = store::execute::<Dag>(&store, &stream, command).await?;
        // Registered just now or before: a version of this digest is there either way.
        Ok((dag.version_of(&digest).unwrap_or_default(), receipt))
    }

    /// Activate, disable or enable a version of a DAG, or roll back to it. Answers the DAG as it is
    /// now, and the receipt if anything changed. Safe to repeat. Runs go on with the version that
    /// they were started with.
    ///
    /// # Errors
    /// [`CommandError`]; among the refusals are unknown DAGs and versions.
    pub async fn change_dag_version(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        dag_id: &DagId,
        version: u32,
        change: VersionChange,
        reason: String,
    ) -> Result<(Dag, Option<Receipt>), CommandError> {
        let store = self.store(tenant, actor);
        let command = DagCommand::Version { version, change, reason };
        store::execute::<Dag>(&store, &StreamId::Dag(dag_id.clone()), command).await
    }

    /// The store through which commands of one actor go.
    pub fn store(&self, tenant: &Tenant, actor: &Actor) -> store::WriterStore {
        store::WriterStore {
            writer: self.writer.clone(),
            ledger: Arc::clone(&self.ledger),
            snapshots: Arc::clone(&self.shared.snapshots),
            tenant: tenant.clone(),
            actor: actor.clone(),
        }
    }

    /// The id that a run started with this token has; a fresh one without a token.
    pub fn run_id(tenant: &Tenant, run_token: Option<&RunToken>) -> RunId {
        match run_token {
            Some(token) => derived_run_id(tenant, RunIdKind::Token, token.as_str(), 0),
            None => RunId::from_bytes(ulid::Ulid::new().to_bytes()),
        }
    }

    /// Start a run. With a run token this can be repeated: the same run comes back.
    ///
    /// # Errors
    /// [`CommandError`]; among the refusals are unknown DAGs and versions, inputs that do not fit,
    /// and a run token that was used for something else.
    pub async fn start_run(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run: NewRun,
    ) -> Result<Written<RunStarted>, CommandError> {
        self.run(tenant, Command::StartRun { actor: actor.clone(), run }).await
    }

    /// Run a run again that has ended, with what it was started with. Asked again, the same rerun comes
    /// back: it is attempt *n* + 1 of a run whose attempt *n* was named.
    ///
    /// # Errors
    /// [`CommandError`]; unknown runs are refused, those that have not ended, and those whose inputs
    /// are erased.
    pub async fn rerun(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        dag_version: Option<u32>,
        reason: String,
    ) -> Result<Written<RunStarted>, CommandError> {
        let (actor, run_id) = (actor.clone(), run_id.clone());
        self.run(tenant, Command::Rerun { actor, run_id, dag_version, reason }).await
    }

    /// Ask a run to end. Best effort and idempotent: a run that has ended is left as it is.
    ///
    /// # Errors
    /// [`CommandError`]; an unknown run is refused.
    pub async fn cancel_run(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        reason: String,
    ) -> Result<Written<RunStarted>, CommandError> {
        let command = RunCommand::Cancel { reason };
        let (actor, run_id) = (actor.clone(), run_id.clone());
        self.run(tenant, Command::Run { actor, run_id, command }).await
    }

    /// Pause and resume dispatch or schedulers, drain the queue, limit how much runs at once. Answers
    /// what is held back now, and the receipt if anything changed. Safe to repeat.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn change_control(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        change: ControlChange,
        reason: String,
    ) -> Result<(Arc<Control>, Option<Receipt>), CommandError> {
        let command = ControlCommand { change, reason };
        let command = Command::Control { actor: actor.clone(), command };
        let Written { answer, receipt, .. } = self.writer.execute(tenant, command).await?;
        match answer? {
            Answer::Control(control) => Ok((control, receipt)),
            _ => Err(other_answer()),
        }
    }

    /// Create, change, trigger, pause, backfill or end a schedule. Answers the schedule as it is now,
    /// what was recorded, and the receipt if anything was.
    ///
    /// # Errors
    /// [`CommandError`]; among the refusals are unknown schedules and DAGs, and inputs that do not
    /// fit.
    pub async fn change_schedule(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        schedule_id: &ScheduleId,
        change: ScheduleChange,
    ) -> Result<(ScheduleChanged, Option<Receipt>), CommandError> {
        let (actor, schedule_id) = (actor.clone(), schedule_id.clone());
        let command = Command::Schedule { actor, schedule_id, change };
        let Written { answer, receipt, .. } = self.writer.execute(tenant, command).await?;
        match answer? {
            Answer::Schedule(changed) => Ok((*changed, receipt)),
            _ => Err(other_answer()),
        }
    }

    /// Decide nothing from here on but what somebody asks for: no lease expires or is granted, no
    /// retry is queued, no schedule fires. For a node that is about to end, and hears no heartbeats.
    pub fn close(&self) {
        self.shared.dispatch().close();
    }

    /// The fires of a schedule whose run was refused, and why: they are tried again.
    pub fn refused_fires(&self, tenant: &Tenant, id: &ScheduleId) -> Vec<(Timestamp, String)> {
        self.shared.dispatch().refused_fires(tenant, id)
    }

    /// Hold a DAG back, or let it go on: whether its runs start, and their steps are leased. Answers
    /// the DAG as it is now, and the receipt if anything changed. Safe to repeat.
    ///
    /// # Errors
    /// [`CommandError`]; an unknown DAG is refused.
    pub async fn pause_dag(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        dag_id: &DagId,
        paused: bool,
        reason: String,
    ) -> Result<(Dag, Option<Receipt>), CommandError> {
        let store = self.store(tenant, actor);
        let command = DagCommand::Pause { paused, reason };
        store::execute::<Dag>(&store, &StreamId::Dag(dag_id.clone()), command).await
    }

    /// Why steps are not running yet, each named by its run and id. `None` where a step is not known
    /// to be open here, or runs.
    pub fn why<'a>(
        &self,
        tenant: &Tenant,
        steps: impl IntoIterator<Item = (&'a RunId, &'a StepId)>,
    ) -> Vec<Option<Wait>> {
        let now = self.shared.clock.now();
        let dispatch = self.shared.dispatch();
        let why = |(run_id, step_id)| dispatch.why(tenant, run_id, step_id, now);
        steps.into_iter().map(why).collect()
    }

    /// Workers that were heard of lately, by id.
    pub fn workers(&self, tenant: &Tenant) -> Vec<SeenWorker> {
        self.shared.dispatch().workers(tenant, self.shared.clock.now())
    }

    /// Record what an operator decided about an approval. Safe to repeat.
    ///
    /// # Errors
    /// [`CommandError`]; a step that waits for no operator is refused, and the opposite of what was
    /// decided.
    pub async fn decide_approval(
        &self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        step_id: StepId,
        verdict: Verdict,
        reason: String,
    ) -> Result<Written<RunStarted>, CommandError> {
        let now = self.shared.clock.now();
        let command = RunCommand::Decide { step_id, verdict, reason, now };
        let (actor, run_id) = (actor.clone(), run_id.clone());
        self.run(tenant, Command::Run { actor, run_id, command }).await
    }

    /// Be told when a run ends. Subscribe before you ask how it stands.
    pub fn run_end(&self, tenant: &Tenant, run_id: &RunId) -> RunEndWait {
        self.shared.run_ends.subscribe(tenant, run_id)
    }

    pub(crate) async fn run(
        &self,
        tenant: &Tenant,
        command: Command,
    ) -> Result<Written<RunStarted>, CommandError> {
        let Written { answer, receipt, as_of } = self.writer.execute(tenant, command).await?;
        match answer? {
            Answer::Run(answer) => Ok(Written { answer: *answer, receipt, as_of }),
            _ => Err(other_answer()),
        }
    }
}

fn other_answer() -> CommandError {
    unreadable("the engine gave an answer of another kind".to_owned())
}

/// Who acts when leases expire and retries come due.
pub(crate) fn dispatch_actor() -> Actor {
    Actor::dispatch()
}

/// Reading the ledger failed while a command was being decided.
pub(crate) fn read_error(error: LedgerError) -> CommandError {
    match error {
        LedgerError::Unavailable(reason) => WriteError::Unavailable(reason).into(),
        other => unreadable(other.to_string()),
    }
}

pub(crate) fn unreadable(reason: String) -> CommandError {
    WriteError::Unreadable(reason).into()
}
