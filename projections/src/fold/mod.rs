//! The fold: commits in, changed rows out. No I/O, no clock; what it does depends on the commits
//! alone, never on how they are cut into batches.

mod batch;
mod control;
mod dag;
mod run;
mod schedule;
mod step;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use lru::LruCache;
use stella_domain::{
    chain::Head,
    event::{Event, RunEvent, ScheduleFire},
    ids::{Actor, DagId, LedgerId, PluginName, RunId, ScheduleId, StepId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;

pub(crate) use self::batch::{Batch, Checkpoint, Erased, labels_text};
use crate::{
    DIGEST_INTERVAL, ProjectionError,
    digest::ModelDigests,
    rows::{
        ControlRow, DagRow, DagVersionRow, Mark, QueueRow, RunRow, ScheduleRow, StepRow, TallyRow,
    },
    tracked::Tracked,
};

/// Bytes of rows, as text, of runs that have not ended that are kept in memory between batches;
/// beyond it the ones that were quiet longest are read again when something happens to them.
const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// What a row takes beside its text.
const ROW_OVERHEAD_BYTES: usize = 512;

/// A run that is in memory, with all its steps.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) row: Tracked<RunRow>,
    /// Boxed, because a map has room for eleven where most runs have a few.
    pub(crate) steps: BTreeMap<StepId, Box<Tracked<StepRow>>>,
    /// Whether it stands in [`State::touched_runs`].
    touched: bool,
    /// What it counts for in [`State::cached_bytes`].
    counted_bytes: usize,
}

impl LiveRun {
    fn bytes(&self) -> usize {
        let row = |bytes: usize| bytes + ROW_OVERHEAD_BYTES;
        row(self.row.bytes()) + self.steps.values().map(|step| row(step.bytes())).sum::<usize>()
    }
}

/// A DAG's rows, all of which stay in memory: there are few, and every run changes them.
#[derive(Debug, Default)]
pub(crate) struct LiveDag {
    pub(crate) row: Option<Tracked<DagRow>>,
    pub(crate) tally: Option<Tracked<TallyRow>>,
    pub(crate) queues: BTreeMap<PluginName, Tracked<QueueRow>>,
    touched: bool,
}

/// The read models at one point of a ledger, as far as they are in memory.
pub(crate) struct State {
    /// Which ledger, once the first commit said so.
    pub(crate) ledger: Option<Arc<LedgerId>>,
    pub(crate) head: Head,
    pub(crate) digests: ModelDigests,
    pub(crate) dags: HashMap<DagId, LiveDag>,
    runs: LruCache<RunId, LiveRun>,
    /// What `runs` take, as of the last batch.
    cached_bytes: usize,
    /// What changed since the last batch was taken.
    touched_runs: Vec<RunId>,
    touched_dags: Vec<DagId>,
    new_versions: Vec<Tracked<DagVersionRow>>,
    pub(crate) control: Option<Tracked<ControlRow>>,
    /// All of them: there are few, and they are few words.
    pub(crate) schedules: HashMap<ScheduleId, Option<Tracked<ScheduleRow>>>,
    touched_schedules: Vec<ScheduleId>,
    /// Labels of new runs: the label's text, the run's key.
    new_labels: Vec<(String, u64)>,
    checkpoints: Vec<Checkpoint>,
    erased: Erased,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    seq: u64,
    stream_version: u64,
    at: Timestamp,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ledger: None,
            head: Head::EMPTY,
            digests: ModelDigests::default(),
            dags: HashMap::new(),
            runs: LruCache::unbounded(),
            cached_bytes: 0,
            touched_runs: vec![],
            touched_dags: vec![],
            new_versions: vec![],
            control: None,
            schedules: HashMap::new(),
            touched_schedules: vec![],
            new_labels: vec![],
            checkpoints: vec![],
            erased: Erased::default(),
        }
    }
}

impl State {
    /// Runs that these commits continue and that have to be [admitted](Self::admit) before.
    pub(crate) fn missing_runs<'a>(
        &self,
        commits: impl IntoIterator<Item = &'a Recorded>,
    ) -> Vec<RunId> {
        let mut seen = HashSet::new();
        let mut missing = vec![];
        for recorded in commits {
            for (_, erased) in recorded.erasures() {
                let id = &erased.run_id;
                if !self.runs.contains(id) && seen.insert(id) {
                    missing.push(id.clone());
                }
            }
            let StreamId::Run(id) = &recorded.commit.stream else { continue };
            let begins_here = recorded.commit.stream_version == 1;
            if !self.runs.contains(id) && seen.insert(id) && !begins_here {
                missing.push(id.clone());
            }
        }
        missing
    }

    /// Take a run into memory as it stands in the tables.
    pub(crate) fn admit(&mut self, row: Tracked<RunRow>, steps: Vec<Tracked<StepRow>>) {
        let id = row.get().run_id.clone();
        let steps =
            steps.into_iter().map(|step| (step.get().step_id.clone(), Box::new(step))).collect();
        let mut run = LiveRun { row, steps, touched: false, counted_bytes: 0 };
        run.counted_bytes = run.bytes();
        self.cached_bytes += run.counted_bytes;
        self.runs.put(id, run);
    }

    /// Fold the next commit.
    ///
    /// # Errors
    /// [`ProjectionError::NotNext`] and nothing has changed, or
    /// [`ProjectionError::Contradiction`] and the state is to be thrown away.
    pub(crate) fn fold(&mut self, recorded: &Recorded) -> Result<(), ProjectionError> {
        let commit = &recorded.commit;
        commit.verify_follows(&self.head)?;
        if *self.ledger.get_or_insert_with(|| Arc::clone(&commit.ledger)) != commit.ledger {
            let reason = "it belongs to another ledger than the events before it";
            return Err(ProjectionError::Contradiction { seq: commit.seq, reason });
        }
        match &commit.stream {
            StreamId::Run(id) => self.fold_run(id, recorded)?,
            StreamId::Dag(id) => self.fold_dag(id, recorded)?,
            StreamId::Ledger(_) => self.fold_erasures(recorded)?,
            StreamId::Control(tenant) => self.fold_control(tenant, recorded)?,
            StreamId::Schedule(id) => self.fold_schedule(id, recorded)?,
            // Nothing of these is shown by a read model yet.
            StreamId::Plugin(_) => {}
        }
        let reached = self.head.next_seq / DIGEST_INTERVAL;
        self.head = commit.head();
        if self.head.next_seq / DIGEST_INTERVAL > reached {
            self.checkpoint();
        }
        Ok(())
    }

    fn fold_run(&mut self, id: &RunId, recorded: &Recorded) -> Result<(), ProjectionError> {
        let Self { runs, dags, touched_runs, touched_dags, new_labels, .. } = self;
        let wrong = |reason| ProjectionError::Contradiction { seq: recorded.commit.seq, reason };
        if let Some(Event::Run(RunEvent::RunCreated(created, request))) = recorded.events.first() {
            if runs.contains(id) {
                return Err(wrong("the run exists already"));
            }
            let (actor, place) = (&recorded.commit.actor, place(recorded, 0));
            let row = run::created(id, actor, &place, created, request.as_deref());
            new_labels.extend(row.labels.iter().map(|(k, v)| (label_text(k, v), row.created_seq)));
            let row = Tracked::new(row);
            let run = LiveRun { row, steps: BTreeMap::new(), touched: false, counted_bytes: 0 };
            runs.put(id.clone(), run);
        }
        let actor = &recorded.commit.actor;
        let run = runs.get_mut(id).ok_or_else(|| wrong("the run was never created"))?;
        let dag = dag_mut(dags, touched_dags, &run.row.get().dag_id);
        if !std::mem::replace(&mut run.touched, true) {
            touched_runs.push(id.clone());
        }
        for (i, event) in recorded.events.iter().enumerate() {
            let place = place(recorded, i);
            let folded = match event {
                Event::Run(event) => run::fold(run, dag, &place, actor, event),
                Event::Ledger(_) | Event::Dag(_) | Event::Control(_) | Event::Schedule(_) => {
                    Err("it stands in the stream of a run")
                }
            };
            folded.map_err(|reason| ProjectionError::Contradiction { seq: place.seq, reason })?;
        }
        run::drop_what_cannot_start(run, dag).map_err(wrong)?;
        if let Some(fire) = run.row.get().schedule.clone() {
            let ended = run.row.get().status.is_ended();
            self.fold_fire(id, &fire, ended);
        }
        Ok(())
    }

    /// Of what happens to the ledger itself, only erasures are to be seen in a read model.
    fn fold_erasures(&mut self, recorded: &Recorded) -> Result<(), ProjectionError> {
        for (seq, erased) in recorded.erasures() {
            let wrong = |reason| ProjectionError::Contradiction { seq, reason };
            let place = place(recorded, (seq - recorded.commit.seq) as usize);
            let run = self.runs.get_mut(&erased.run_id);
            let run = run.ok_or_else(|| wrong("it erases payloads of a run that never was"))?;
            if !std::mem::replace(&mut run.touched, true) {
                self.touched_runs.push(erased.run_id.clone());
            }
            let row = run.row.get();
            let labels = row.labels.iter().map(|(k, v)| (label_text(k, v), row.created_seq));
            self.erased.labels.extend(labels);
            self.erased.anything |= run::erase(run, &place).map_err(wrong)?;
            if let Some(first) = erased.seqs.first() {
                // What was folded in between was folded from payloads, and never is again.
                let unrepeatable = first + 1..=seq;
                self.checkpoints.retain(|known| !unrepeatable.contains(&known.next_seq));
                self.erased.unrepeatable.push(unrepeatable);
            }
        }
        Ok(())
    }

    fn fold_dag(&mut self, id: &DagId, recorded: &Recorded) -> Result<(), ProjectionError> {
        let dag = dag_mut(&mut self.dags, &mut self.touched_dags, id);
        for (i, event) in recorded.events.iter().enumerate() {
            let place = place(recorded, i);
            let folded = match event {
                Event::Dag(event) => {
                    let mark = mark(&recorded.commit.actor, &place, dag::reason(event));
                    dag::fold(dag, &mut self.new_versions, &place, mark, event)
                }
                Event::Ledger(_) | Event::Run(_) | Event::Control(_) | Event::Schedule(_) => {
                    Err("it stands in the stream of a DAG")
                }
            };
            folded.map_err(|reason| ProjectionError::Contradiction { seq: place.seq, reason })?;
        }
        Ok(())
    }

    fn fold_schedule(
        &mut self,
        id: &ScheduleId,
        recorded: &Recorded,
    ) -> Result<(), ProjectionError> {
        self.touched_schedules.push(id.clone());
        let schedule = self.schedules.entry(id.clone()).or_default();
        for (i, event) in recorded.events.iter().enumerate() {
            let place = place(recorded, i);
            let folded = match event {
                Event::Schedule(event) => {
                    let mark = mark(&recorded.commit.actor, &place, schedule::reason(event));
                    schedule::fold(schedule, mark, event)
                }
                _ => Err("it stands in the stream of a schedule"),
            };
            folded.map_err(|reason| ProjectionError::Contradiction { seq: place.seq, reason })?;
        }
        Ok(())
    }

    /// A run that a schedule fired for began, or has ended.
    fn fold_fire(&mut self, run_id: &RunId, fire: &ScheduleFire, ended: bool) {
        let Some(Some(row)) = self.schedules.get_mut(&fire.schedule_id) else { return };
        let open = row.get().open.get(&fire.fire_time).filter(|open| open.run_id == *run_id);
        if open.is_none_or(|open| open.started && !ended) {
            return;
        }
        let open = &mut row.change().open;
        if ended {
            open.remove(&fire.fire_time);
        } else if let Some(open) = open.get_mut(&fire.fire_time) {
            open.started = true;
        }
        self.touched_schedules.push(fire.schedule_id.clone());
    }

    fn fold_control(
        &mut self,
        tenant: &Tenant,
        recorded: &Recorded,
    ) -> Result<(), ProjectionError> {
        let new = || Tracked::new(ControlRow::new(tenant.clone()));
        let row = self.control.get_or_insert_with(new);
        for (i, event) in recorded.events.iter().enumerate() {
            let place = place(recorded, i);
            let Event::Control(event) = event else {
                let reason = "it stands in the stream of what operators hold back";
                return Err(ProjectionError::Contradiction { seq: place.seq, reason });
            };
            let mark = mark(&recorded.commit.actor, &place, control::reason(event));
            control::fold(row.change(), mark, event);
        }
        Ok(())
    }

    /// Bring the digests up to date with every row.
    fn settle(&mut self) {
        let digests = &mut self.digests;
        for id in &self.touched_runs {
            let Some(run) = self.runs.peek_mut(id) else { continue };
            run.row.settle(digests);
            run.steps.values_mut().for_each(|step| step.settle(digests));
        }
        for id in &self.touched_dags {
            let Some(dag) = self.dags.get_mut(id) else { continue };
            dag.row.iter_mut().for_each(|row| row.settle(digests));
            dag.tally.iter_mut().for_each(|tally| tally.settle(digests));
            dag.queues.values_mut().for_each(|queue| queue.settle(digests));
        }
        self.new_versions.iter_mut().for_each(|version| version.settle(digests));
        self.control.iter_mut().for_each(|row| row.settle(digests));
        for id in &self.touched_schedules {
            let Some(Some(row)) = self.schedules.get_mut(id) else { continue };
            row.settle(digests);
        }
    }

    fn checkpoint(&mut self) {
        self.settle();
        let next_seq = self.head.next_seq;
        self.checkpoints.push(Checkpoint { next_seq, digests: self.digests });
    }

    /// Everything that changed since the last batch was taken. What need not stay in memory goes:
    /// until the batch is written, its runs cannot be admitted again.
    pub(crate) fn take_batch(&mut self) -> Batch {
        self.settle();
        let mut batch = Batch::at(self.ledger.clone(), self.head, self.digests);
        batch.labels = std::mem::take(&mut self.new_labels);
        batch.checkpoints = std::mem::take(&mut self.checkpoints);
        batch.erased = std::mem::take(&mut self.erased);
        for id in std::mem::take(&mut self.touched_runs) {
            let Some(run) = self.runs.peek_mut(&id) else { continue };
            run.touched = false;
            batch.push(&mut run.row);
            run.steps.values_mut().for_each(|step| batch.push(step));
            self.cached_bytes -= run.counted_bytes;
            if run.row.get().status.is_ended() {
                self.runs.pop(&id);
            } else {
                run.counted_bytes = run.bytes();
                self.cached_bytes += run.counted_bytes;
            }
        }
        for id in std::mem::take(&mut self.touched_dags) {
            let Some(dag) = self.dags.get_mut(&id) else { continue };
            dag.touched = false;
            dag.row.iter_mut().for_each(|row| batch.push(row));
            dag.tally.iter_mut().for_each(|tally| batch.push(tally));
            dag.queues.values_mut().for_each(|queue| batch.push(queue));
        }
        self.control.iter_mut().for_each(|row| batch.push(row));
        for id in std::mem::take(&mut self.touched_schedules) {
            let Some(Some(row)) = self.schedules.get_mut(&id) else { continue };
            batch.push(row);
        }
        for mut version in std::mem::take(&mut self.new_versions) {
            batch.push(&mut version);
        }
        while self.cached_bytes > CACHED_BYTES {
            let Some((_, run)) = self.runs.pop_lru() else { break };
            self.cached_bytes -= run.counted_bytes;
        }
        batch
    }
}

/// The label as one text that no other name and value give.
pub(crate) fn label_text(name: &str, value: &str) -> String {
    serde_json::json!([name, value]).to_string()
}

fn place(recorded: &Recorded, i: usize) -> Place {
    let commit = &recorded.commit;
    Place {
        seq: commit.seq + i as u64,
        stream_version: commit.stream_version + i as u64,
        at: commit.recorded_at,
    }
}

fn mark(actor: &Actor, place: &Place, reason: Option<String>) -> Mark {
    // Where none is given an empty one is recorded.
    let reason = reason.filter(|reason| !reason.is_empty());
    Mark { actor: actor.clone(), at: place.at, reason, seq: place.seq }
}

fn dag_mut<'a>(
    dags: &'a mut HashMap<DagId, LiveDag>,
    touched: &mut Vec<DagId>,
    id: &DagId,
) -> &'a mut LiveDag {
    let dag = dags.entry(id.clone()).or_default();
    if !std::mem::replace(&mut dag.touched, true) {
        touched.push(id.clone());
    }
    dag
}
