//! Decides every command on staged state: the writer's [`Decider`].

mod brake;
mod cache;
mod command;
mod decider;
mod due;
mod grant;
mod reruns;
mod schedules;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stella_domain::{
    aggregate::{
        Aggregate, ControlCommand, ControlRefusal, LedgerRefusal, Run, RunCommand, RunRefusal,
        RunStatus, StartRun,
    },
    event::{DagEvent, Event, RunCreated, RunEvent},
    hash::inputs_hash,
    ids::{Actor, FencingToken, RunId, StreamId, Tenant, WorkerId},
    open_work::CountedStart,
    time::Timestamp,
};
use stella_ledger::{
    clock::Clock,
    snapshots::Snapshots,
    writer::{Decided, Decision},
};
use tokio::sync::Notify;

pub use self::cache::Fold;
pub use self::command::{Answer, Command, NewRun, RunStarted, ScheduleChange, ScheduleChanged};
use self::{
    brake::Starts,
    cache::Caches,
    grant::{Effect, Held},
};
use crate::{
    dispatch::{Dispatch, Slot},
    leases::StepLogs,
    refusal::Refusal,
    run_ends::RunEnds,
    size,
};

/// The write side's state on this node, owned by the writer's task.
pub struct Engine {
    caches: Caches,
    starts: Starts,
    shared: Arc<Shared>,
    /// Leases that may be recorded although nobody was told so, and who was to get them.
    untold: HashMap<Tenant, HashMap<FencingToken, WorkerId>>,
}

/// What the engine shares with the handles that callers hold.
pub(crate) struct Shared {
    pub(crate) dispatch: Mutex<Dispatch>,
    pub(crate) run_ends: RunEnds,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    /// Milliseconds that a lease holds without a heartbeat.
    pub(crate) lease_ms: u64,
    pub(crate) logs: Arc<dyn StepLogs>,
    /// Woken when a running step is to be cancelled.
    pub(crate) cancelled: Notify,
    /// Held by who has an erasure decided.
    pub(crate) erasing: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(crate) fn dispatch(&self) -> MutexGuard<'_, Dispatch> {
        // Every holder leaves plain data whole.
        self.dispatch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Outcome = Decision<Result<Answer, Refusal>, Effect>;

impl Engine {
    /// `starts` is what counts against the budgets of DAGs already.
    pub(crate) fn new(shared: Arc<Shared>, starts: Vec<(Tenant, CountedStart)>) -> Self {
        let mut engine = Self {
            caches: Caches::default(),
            starts: Starts::default(),
            shared,
            untold: HashMap::new(),
        };
        starts.into_iter().for_each(|(tenant, start)| engine.starts.add(&tenant, start));
        engine
    }

    fn start_run(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        new: &NewRun,
        at: Timestamp,
    ) -> Outcome {
        let cache = self.caches.tenant(tenant);
        // A token stands for the newest attempt; a rerun is asked for by its own.
        let newest = match (&new.run_token, new.attempt) {
            (Some(_), 0) => cache.newest(tenant, &new.run_id),
            _ => new.run_id.clone(),
        };
        let new = &NewRun { run_id: newest, ..new.clone() };
        let have = cache.run(&new.run_id).and_then(|run| run.created.as_ref());
        // Before anything is looked up: what the token did not start may not even exist.
        if let Some(conflict) = have.and_then(|have| token_conflict(have, new)) {
            return refused(Refusal::Run(conflict));
        }
        // A repeat follows the version that the run is pinned to.
        let pinned = have.map(|have| have.dag_version);
        if pinned.is_none() && cache.control().draining.is_some() {
            return refused(Refusal::Control(ControlRefusal::Draining));
        }
        let dag = cache.dag(&new.dag_id);
        let startable =
            pinned.map_or_else(|| dag.startable(new.dag_version), |version| dag.pinned(version));
        let (dag_version, spec) = match startable {
            Ok(startable) => startable,
            Err(refusal) => return refused(Refusal::Dag(new.dag_id.clone(), refusal)),
        };
        let budget = spec.budget().filter(|_| pinned.is_none());
        if let Some(braked) = budget.and_then(|budget| self.brake(tenant, new, budget, at)) {
            return braked;
        }
        let start = StartRun {
            spec,
            dag_version,
            version_is_explicit: new.dag_version.is_some(),
            inputs: new.inputs.clone(),
            given: new.given.clone(),
            labels: new.labels.clone(),
            priority: new.priority,
            run_token: new.run_token.clone(),
            attempt: new.attempt,
            rerun_of: new.rerun_of.clone(),
            reason: new.reason.clone(),
            schedule: new.schedule.clone(),
            now: at,
        };
        let mut outcome =
            self.run_command(tenant, actor, &new.run_id, RunCommand::Start(start), at);
        if let Ok(Answer::Run(started)) = &mut outcome.answer {
            started.replayed = outcome.commit.is_none();
        }
        if budget.is_some() && outcome.commit.is_some() {
            let schedule_id = new.schedule.as_ref().map(|fire| fire.schedule_id.clone());
            let (dag_id, run_id, actor) = (new.dag_id.clone(), new.run_id.clone(), actor.clone());
            let start = CountedStart { dag_id, dag_version, run_id, at, actor, schedule_id };
            self.starts.add(tenant, start);
        }
        outcome
    }

    /// Decide a run's command, lease what it readies to workers that wait, and stage it.
    fn run_command(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        run_id: &RunId,
        command: RunCommand,
        at: Timestamp,
    ) -> Outcome {
        let shared = Arc::clone(&self.shared);
        let cache = self.caches.tenant(tenant);
        let dag_is_paused = cache.run(run_id).is_some_and(|run| cache.dag_is_paused(run));
        let held = Held { control: cache.control(), dag_is_paused };
        let run = cache.run_mut(run_id);
        let before = run.version;
        let mut events = match run.decide(command).map_err(Refusal::Run).and_then(size::checked) {
            Ok(events) => events,
            Err(refusal) => {
                cache.drop_unused(run_id);
                return refused(refusal);
            }
        };
        fold(run, &events);
        let effects = grant::lease_ready(&shared, tenant, run_id, run, &held, &mut events, at);
        let answer = Ok(Answer::Run(Box::new(started(run_id, run, at))));
        let commit = (!events.is_empty()).then(|| Decided {
            stream: StreamId::Run(run_id.clone()),
            stream_version: before + 1,
            actor: actor.clone(),
            events: events.into_iter().map(Event::Run).collect(),
        });
        if commit.is_some() {
            cache.staged(run_id);
        }
        Decision { commit, answer, effects }
    }

    fn grant(&mut self, tenant: &Tenant, slot: &Slot, at: Timestamp) -> Outcome {
        let (run_id, step_id) = &slot.step;
        if self.caches.tenant(tenant).holds(run_id, step_id) {
            let effects = vec![Effect::Hold(slot.clone())];
            return Decision { commit: None, answer: Ok(Answer::Appended), effects };
        }
        let (actor, lease_ms) = (Actor::worker(&slot.worker_id), self.shared.lease_ms);
        let command = RunCommand::GrantLease {
            step_id: step_id.clone(),
            worker_id: slot.worker_id.clone(),
            plugin: slot.plugin.clone(),
            lease_ms,
            now: at,
        };
        let mut outcome = self.run_command(tenant, &actor, run_id, command, at);
        let run = self.caches.tenant(tenant).run(run_id);
        let decided = outcome.commit.as_ref();
        let granted =
            run.and_then(|run| grant::granted(run_id, run, decided, &slot.step.1, lease_ms));
        match granted {
            Some(grant) => {
                outcome.effects.push(Effect::Deliver { grant, slot: slot.clone(), claimed: false });
            }
            // Cancelled meanwhile, or its `with` could not be resolved: the place is free again.
            None => outcome.effects.push(Effect::Release(slot.clone())),
        }
        outcome
    }

    fn control(&mut self, tenant: &Tenant, actor: &Actor, command: ControlCommand) -> Outcome {
        let cache = self.caches.tenant(tenant);
        if !cache.is_open() {
            return refused(Refusal::Ledger(LedgerRefusal::NotOpened));
        }
        let stream = StreamId::Control(tenant.clone());
        let control = cache.control();
        let events = match control.decide(command) {
            Ok(events) => events.into_iter().map(Event::Control).collect::<Vec<_>>(),
            Err(refusal) => return refused(Refusal::Control(refusal)),
        };
        if let Err(refusal) = events.iter().try_for_each(size::check) {
            return refused(refusal);
        }
        events.iter().for_each(|event| cache.evolve(event, &stream));
        let answer = Ok(Answer::Control(cache.control()));
        let (actor, stream_version) = (actor.clone(), control.version + 1);
        let decided = Decided { stream, stream_version, actor, events };
        let commit = (!decided.events.is_empty()).then_some(decided);
        Decision { commit, answer, effects: vec![] }
    }

    fn append(
        &mut self,
        tenant: &Tenant,
        actor: &Actor,
        stream: &StreamId,
        expected: u64,
        events: &[Event],
    ) -> Outcome {
        let cache = self.caches.tenant(tenant);
        // Seq 0 is `LedgerOpened` (ledger format, section 1); runs need a DAG, so this is the door.
        if !matches!(stream, StreamId::Ledger(_)) && !cache.is_open() {
            return refused(Refusal::Ledger(LedgerRefusal::NotOpened));
        }
        let version = cache.version(stream);
        if version != expected {
            return refused(Refusal::Conflict { stream: stream.to_string(), expected, version });
        }
        if let Err(refusal) = events.iter().try_for_each(size::check) {
            return refused(refusal);
        }
        for event in events {
            cache.evolve(event, stream);
            if let (Event::Dag(DagEvent::DagResumed(..)), StreamId::Dag(id)) = (event, stream) {
                self.starts.reset(tenant, id);
            }
        }
        let commit = (!events.is_empty()).then(|| Decided {
            stream: stream.clone(),
            stream_version: expected + 1,
            actor: actor.clone(),
            events: events.to_vec(),
        });
        Decision { commit, answer: Ok(Answer::Appended), effects: vec![] }
    }
}

/// Why a run's token does not stand for this request, if it does not.
fn token_conflict(have: &RunCreated, new: &NewRun) -> Option<RunRefusal> {
    let inputs = inputs_hash(&new.inputs);
    let same = have.dag_id == new.dag_id
        && have.inputs_hash == inputs
        && new.dag_version.is_none_or(|asked| asked == have.dag_version);
    (!same).then(|| {
        let (have_dag, have_version, have_inputs) =
            (&have.dag_id, have.dag_version, &have.inputs_hash);
        let asked_version =
            new.dag_version.map_or(String::new(), |asked| format!(" version {asked}"));
        RunRefusal::TokenConflict {
            have: format!("DAG {have_dag} version {have_version} with inputs {have_inputs}"),
            asked: format!("DAG {}{asked_version} with inputs {inputs}", new.dag_id),
        }
    })
}

fn fold(run: &mut Run, events: &[RunEvent]) {
    for event in events {
        run.evolve(event);
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Decision { commit: None, answer: Err(refusal), effects: vec![] }
}

fn started(run_id: &RunId, run: &Run, at: Timestamp) -> RunStarted {
    RunStarted {
        run_id: run_id.clone(),
        status: run.status().unwrap_or(RunStatus::Running),
        created: run.created.clone(),
        recorded_at: at,
        replayed: false,
    }
}
