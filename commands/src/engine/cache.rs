//! Aggregates kept at hand, as they are with everything staged.

mod load;
mod snapshots;

pub use self::snapshots::Fold;
pub(super) use self::snapshots::{end, ends};

use std::{collections::HashMap, sync::Arc};

use lru::LruCache;
use stella_domain::{
    aggregate::{Aggregate, Control, Dag, Ledger, Run, Schedule, run_of},
    dag::Step,
    event::Event,
    ids::{DagId, RunId, ScheduleId, StepId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;

use super::{Command, NewRun, ScheduleChange, reruns::rerun_id};

/// Runs kept per tenant; the least recently used is read again when it is needed.
const RUNS: usize = 20_000;

#[derive(Default)]
pub(super) struct Caches {
    tenants: HashMap<Tenant, TenantCache>,
}

pub(super) struct TenantCache {
    ledger: Option<Ledger>,
    control: Option<Arc<Control>>,
    dags: HashMap<DagId, Dag>,
    schedules: HashMap<ScheduleId, CachedSchedule>,
    runs: LruCache<RunId, CachedRun>,
    /// Runs that were read before the DAG that they follow.
    unresolved: HashMap<RunId, (DagId, Vec<Recorded>)>,
    /// Of streams that never end: the stream version up to which their newest snapshot reaches.
    snapshots: HashMap<StreamId, u64>,
}

#[derive(Default)]
struct CachedRun {
    run: Run,
    /// Commits that are decided but not durable: the run cannot be read back while there are some.
    staged: u32,
}

#[derive(Default)]
struct CachedSchedule {
    schedule: Schedule,
    /// Commits that are decided but not durable.
    staged: u32,
}

impl Default for TenantCache {
    fn default() -> Self {
        Self {
            ledger: None,
            control: None,
            dags: HashMap::new(),
            schedules: HashMap::new(),
            runs: LruCache::unbounded(),
            unresolved: HashMap::new(),
            snapshots: HashMap::new(),
        }
    }
}

impl Caches {
    pub(super) fn tenant(&mut self, tenant: &Tenant) -> &mut TenantCache {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), TenantCache::default());
        }
        // Inserted just above.
        self.tenants.entry(tenant.clone()).or_default()
    }

    pub(super) fn missing(&self, tenant: &Tenant, command: &Command) -> Vec<StreamId> {
        let empty = TenantCache::default();
        let cache = self.tenants.get(tenant).unwrap_or(&empty);
        let mut missing = vec![];
        // What starts, and what is leased, depends on it.
        if cache.control.is_none() && command.depends_on_control() {
            missing.push(StreamId::Control(tenant.clone()));
        }
        match command {
            Command::StartRun { run, .. } => {
                cache.need_dag(&run.dag_id, &mut missing);
                // A fresh id cannot have been used; the storage's keys would refuse it if it had.
                if run.run_token.is_some() {
                    cache.need_newest(tenant, run, &mut missing);
                }
            }
            Command::Rerun { run_id, .. } => {
                cache.need_run_and_dag(run_id, &mut missing);
                if let Some(next) = cache.run(run_id).and_then(|run| rerun_id(tenant, run_id, run))
                {
                    cache.need_run(&next, &mut missing);
                }
            }
            Command::Run { run_id, .. } => cache.need_run_and_dag(run_id, &mut missing),
            Command::Grant { slot } => cache.need_run_and_dag(&slot.step.0, &mut missing),
            Command::Control { .. } => cache.need_ledger(tenant, &mut missing),
            Command::Schedule { schedule_id, change, .. } => {
                cache.need_ledger(tenant, &mut missing);
                match change {
                    ScheduleChange::Set { spec, .. } => {
                        cache.need_dag(&spec.spec().dag_id, &mut missing);
                    }
                    ScheduleChange::Trigger { fire_time, .. } => {
                        cache.need_fire(tenant, schedule_id, *fire_time, &mut missing);
                    }
                    _ => {}
                }
                cache.need_schedule(schedule_id, &mut missing);
            }
            Command::Attend { schedule_id, now } => {
                cache.need_schedule(schedule_id, &mut missing);
                let schedule = cache.schedule(schedule_id);
                let dag_id = schedule.and_then(|schedule| schedule.spec.as_ref());
                if let Some(spec) = dag_id {
                    cache.need_dag(&spec.spec().dag_id, &mut missing);
                }
                for run_id in schedule.into_iter().flat_map(|s| s.candidates(tenant, *now)) {
                    cache.need_run(&run_id, &mut missing);
                }
            }
            Command::StartFire { schedule_id, fire_time } => {
                cache.need_schedule(schedule_id, &mut missing);
                cache.need_fire(tenant, schedule_id, *fire_time, &mut missing);
                let schedule = cache.schedule(schedule_id);
                if let Some(spec) = schedule.and_then(|schedule| schedule.spec.as_ref()) {
                    cache.need_dag(&spec.spec().dag_id, &mut missing);
                }
            }
            Command::Append { stream, .. } => {
                cache.need_ledger(tenant, &mut missing);
                match stream {
                    StreamId::Dag(id) => cache.need_dag(id, &mut missing),
                    StreamId::Run(id) => cache.need_run(id, &mut missing),
                    StreamId::Schedule(id) => cache.need_schedule(id, &mut missing),
                    StreamId::Ledger(_) | StreamId::Plugin(_) | StreamId::Control(_) => {}
                }
            }
            Command::Forget { .. } | Command::CatchUp => {}
        }
        missing
    }
}

impl TenantCache {
    fn need_ledger(&self, tenant: &Tenant, missing: &mut Vec<StreamId>) {
        if self.ledger.is_none() {
            missing.push(StreamId::Ledger(tenant.clone()));
        }
    }

    /// The run, and its DAG as it is now: whether it is paused.
    fn need_run_and_dag(&self, id: &RunId, missing: &mut Vec<StreamId>) {
        match self.run(id).and_then(|run| run.created.as_ref()) {
            Some(created) => self.need_dag(&created.dag_id, missing),
            None => self.need_run(id, missing),
        }
    }

    fn need_schedule(&self, id: &ScheduleId, missing: &mut Vec<StreamId>) {
        if !self.schedules.contains_key(id) {
            missing.push(StreamId::Schedule(id.clone()));
        }
    }

    /// The runs of a token: the first, and its reruns up to the one that does not exist.
    fn need_newest(&self, tenant: &Tenant, new: &NewRun, missing: &mut Vec<StreamId>) {
        let mut id = new.run_id.clone();
        loop {
            self.need_run(&id, missing);
            match self.run(&id).and_then(|run| rerun_id(tenant, &id, run)) {
                Some(next) => id = next,
                None => return,
            }
        }
    }

    /// The newest run of a token; the first where there is none.
    pub(super) fn newest(&self, tenant: &Tenant, first: &RunId) -> RunId {
        let mut newest = first.clone();
        while let Some(next) = self.run(&newest).and_then(|run| rerun_id(tenant, &newest, run))
            && self.run(&next).is_some_and(|run| run.version > 0)
        {
            newest = next;
        }
        newest
    }

    /// The run of a fire, once its schedule is at hand.
    fn need_fire(
        &self,
        tenant: &Tenant,
        id: &ScheduleId,
        fire_time: Timestamp,
        missing: &mut Vec<StreamId>,
    ) {
        let schedule = self.schedule(id);
        if let Some(spec) = schedule.and_then(|schedule| schedule.spec.as_ref()) {
            self.need_run(&run_of(tenant, spec, fire_time), missing);
        }
    }

    fn need_dag(&self, id: &DagId, missing: &mut Vec<StreamId>) {
        if !self.dags.contains_key(id) {
            missing.push(StreamId::Dag(id.clone()));
        }
    }

    fn need_run(&self, id: &RunId, missing: &mut Vec<StreamId>) {
        if self.runs.contains(id) {
            return;
        }
        match self.unresolved.get(id) {
            Some((dag_id, _)) => self.need_dag(dag_id, missing),
            None => missing.push(StreamId::Run(id.clone())),
        }
    }

    /// Whether the ledger has its first event.
    pub(super) fn is_open(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.opened)
    }

    /// The schedule, if it is at hand.
    pub(super) fn schedule(&self, id: &ScheduleId) -> Option<&Schedule> {
        self.schedules.get(id).map(|cached| &cached.schedule)
    }

    /// Whether something of the schedule is decided that is not durable.
    pub(super) fn schedule_is_staged(&self, id: &ScheduleId) -> bool {
        self.schedules.get(id).is_some_and(|cached| cached.staged > 0)
    }

    pub(super) fn schedule_staged(&mut self, id: &ScheduleId) {
        self.schedules.entry(id.clone()).or_default().staged += 1;
    }

    /// A commit of ours of the schedule is durable.
    pub(super) fn schedule_durable(&mut self, id: &ScheduleId) {
        if let Some(cached) = self.schedules.get_mut(id) {
            cached.staged = cached.staged.saturating_sub(1);
        }
    }

    /// What is held back.
    pub(super) fn control(&self) -> Arc<Control> {
        self.control.clone().unwrap_or_default()
    }

    /// Whether the run's DAG is paused.
    pub(super) fn dag_is_paused(&self, run: &Run) -> bool {
        let dag = run.created.as_ref().and_then(|created| self.dags.get(&created.dag_id));
        dag.is_some_and(|dag| dag.paused)
    }

    /// Whether the step must not be leased now.
    pub(super) fn holds(&self, run_id: &RunId, step_id: &StepId) -> bool {
        let Some(run) = self.run(run_id) else { return false };
        let action = run.step_spec(step_id).and_then(Step::action);
        self.dag_is_paused(run) || action.is_some_and(|action| self.control().holds(&action.plugin))
    }

    /// The DAG, if it is at hand.
    pub(super) fn known_dag(&self, id: &DagId) -> Option<&Dag> {
        self.dags.get(id)
    }

    /// The DAG; one that was never registered is empty.
    pub(super) fn dag(&mut self, id: &DagId) -> &Dag {
        self.dags.entry(id.clone()).or_default()
    }

    pub(super) fn run(&self, id: &RunId) -> Option<&Run> {
        self.runs.peek(id).map(|cached| &cached.run)
    }

    /// The run; one that was never started is empty.
    pub(super) fn run_mut(&mut self, id: &RunId) -> &mut Run {
        &mut self.runs.get_or_insert_mut(id.clone(), CachedRun::default).run
    }

    pub(super) fn staged(&mut self, id: &RunId) {
        self.runs.get_or_insert_mut(id.clone(), CachedRun::default).staged += 1;
    }

    /// A commit of the run is durable. What has ended, and what is too much, is let go.
    pub(super) fn durable(&mut self, id: &RunId, ours: bool) {
        if let Some(cached) = self.runs.peek_mut(id).filter(|_| ours) {
            cached.staged = cached.staged.saturating_sub(1);
            let ended = cached.run.status().is_some_and(|status| status.is_ended());
            if ended && cached.staged == 0 {
                self.runs.pop(id);
            }
        }
        self.trim();
    }

    /// Let go of a run that a refused start has left empty: nobody else knows its id.
    pub(super) fn drop_unused(&mut self, id: &RunId) {
        if self.runs.peek(id).is_some_and(|cached| cached.run.version == 0) {
            self.runs.pop(id);
        }
    }

    fn trim(&mut self) {
        let surplus = self.runs.len().saturating_sub(RUNS);
        for _ in 0..surplus {
            let idle = self.runs.peek_lru().is_some_and(|(_, cached)| cached.staged == 0);
            if !idle {
                return;
            }
            self.runs.pop_lru();
        }
    }

    pub(super) fn drop_stream(&mut self, stream: &StreamId) {
        match stream {
            StreamId::Ledger(_) => self.ledger = None,
            StreamId::Dag(id) => {
                self.dags.remove(id);
            }
            StreamId::Run(id) => {
                self.runs.pop(id);
                self.unresolved.remove(id);
            }
            StreamId::Control(_) => self.control = None,
            StreamId::Schedule(id) => {
                self.schedules.remove(id);
            }
            StreamId::Plugin(_) => {}
        }
    }

    /// Events of a stream, 0 when it does not exist.
    pub(super) fn version(&self, stream: &StreamId) -> u64 {
        match stream {
            StreamId::Ledger(_) => self.ledger.as_ref().map_or(0, |ledger| ledger.version),
            StreamId::Dag(id) => self.dags.get(id).map_or(0, |dag| dag.version),
            StreamId::Run(id) => self.run(id).map_or(0, |run| run.version),
            StreamId::Control(_) => self.control.as_ref().map_or(0, |control| control.version),
            StreamId::Schedule(id) => self.schedule(id).map_or(0, |schedule| schedule.version),
            StreamId::Plugin(_) => 0,
        }
    }

    pub(super) fn evolve(&mut self, event: &Event, stream: &StreamId) {
        match (event, stream) {
            (Event::Ledger(event), _) => {
                self.ledger.get_or_insert_with(Ledger::default).evolve(event);
            }
            (Event::Dag(event), StreamId::Dag(id)) => {
                self.dags.entry(id.clone()).or_default().evolve(event);
            }
            (Event::Run(event), StreamId::Run(id)) => self.run_mut(id).evolve(event),
            (Event::Control(event), _) => {
                Arc::make_mut(self.control.get_or_insert_default()).evolve(event);
            }
            (Event::Schedule(event), StreamId::Schedule(id)) => {
                self.schedules.entry(id.clone()).or_default().schedule.evolve(event);
            }
            (Event::Dag(_) | Event::Run(_) | Event::Schedule(_), _) => {}
        }
    }
}
