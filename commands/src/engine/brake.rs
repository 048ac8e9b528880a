//! The brake: a DAG of which too many runs start is paused, before somebody has to notice.

use std::collections::{BTreeMap, HashMap};

use stella_domain::{
    aggregate::{Aggregate as _, Dag, DagCommand, DagRefusal},
    dag::{Budget, MAX_BUDGET_STARTS},
    event::{Brake, DagEvent, Event, RunEvent, StartCause},
    ids::{Actor, DagId, RunId, ScheduleId, StreamId, Tenant},
    open_work::CountedStart,
    time::Timestamp,
};
use stella_ledger::{
    recorded::Recorded,
    writer::{Decided, Decision},
};

use super::{Engine, NewRun, Outcome};
use crate::refusal::Refusal;

/// Those who started most that are named.
const CAUSES: usize = 10;
/// Starts that can matter: no budget is larger.
const MOST: usize = MAX_BUDGET_STARTS as usize;

/// Runs of DAGs with a budget that were started lately.
#[derive(Default)]
pub(super) struct Starts {
    by_dag: HashMap<(Tenant, DagId), HashMap<RunId, CountedStart>>,
}

impl Starts {
    /// A run was started, or will be if nothing comes between; decided again, it counts once.
    pub(super) fn add(&mut self, tenant: &Tenant, start: CountedStart) {
        let starts = self.by_dag.entry((tenant.clone(), start.dag_id.clone())).or_default();
        starts.insert(start.run_id.clone(), start);
        if starts.len() >= 2 * MOST {
            keep_newest(starts);
        }
    }

    /// Somebody lets the DAG go on: its budget is whole again.
    pub(super) fn reset(&mut self, tenant: &Tenant, dag_id: &DagId) {
        self.by_dag.remove(&(tenant.clone(), dag_id.clone()));
    }

    /// What the brake has to say if this run is one too many.
    fn spent(
        &mut self,
        tenant: &Tenant,
        run: &NewRun,
        dag: &Dag,
        budget: Budget,
        at: Timestamp,
    ) -> Option<Brake> {
        let starts = self.by_dag.get_mut(&(tenant.clone(), run.dag_id.clone()))?;
        let limit = budget.starts.get() as usize;
        if starts.len() < limit || starts.contains_key(&run.run_id) {
            return None;
        }
        // What others started was counted whatever its version.
        starts.retain(|_, start| at.ms_since(start.at) < budget.window_ms && counts(dag, start));
        if starts.len() < limit {
            return None;
        }
        let mut causes: BTreeMap<(&Actor, Option<&ScheduleId>), u32> = BTreeMap::new();
        for start in starts.values() {
            *causes.entry((&start.actor, start.schedule_id.as_ref())).or_default() += 1;
        }
        let cause = |((actor, schedule_id), starts): ((&Actor, Option<&ScheduleId>), u32)| {
            StartCause { actor: actor.clone(), schedule_id: schedule_id.cloned(), starts }
        };
        let mut causes: Vec<StartCause> = causes.into_iter().map(cause).collect();
        // Those who started equally many stay in the order of their names.
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.starts));
        causes.truncate(CAUSES);
        let count = u32::try_from(starts.len()).unwrap_or(u32::MAX);
        Some(Brake { causes, starts: count, window_ms: budget.window_ms })
    }
}

/// Whether the run's version has a budget.
fn counts(dag: &Dag, start: &CountedStart) -> bool {
    let version = dag.versions.get(&start.dag_version);
    let spec = version.and_then(|version| version.spec.as_ref());
    spec.is_some_and(|spec| spec.budget().is_some())
}

fn keep_newest(starts: &mut HashMap<RunId, CountedStart>) {
    let mut times: Vec<Timestamp> = starts.values().map(|start| start.at).collect();
    let surplus = times.len().saturating_sub(MOST);
    let (_, oldest, _) = times.select_nth_unstable(surplus);
    let oldest = *oldest;
    starts.retain(|_, start| start.at >= oldest);
}

impl Engine {
    /// Count what another writer, or this node before it was restarted, has started; or begin anew,
    /// because somebody let the DAG go on.
    pub(super) fn count_starts_of_others(&mut self, tenant: &Tenant, recorded: &Recorded) {
        for event in &recorded.events {
            match (event, &recorded.commit.stream) {
                (Event::Run(RunEvent::RunCreated(created, _)), StreamId::Run(run_id)) => {
                    let schedule = created.schedule.as_ref();
                    let start = CountedStart {
                        dag_id: created.dag_id.clone(),
                        dag_version: created.dag_version,
                        run_id: run_id.clone(),
                        at: recorded.commit.recorded_at,
                        actor: recorded.commit.actor.clone(),
                        schedule_id: schedule.map(|fire| fire.schedule_id.clone()),
                    };
                    let dag = self.caches.tenant(tenant).known_dag(&created.dag_id);
                    if dag.is_none_or(|dag| counts(dag, &start)) {
                        self.starts.add(tenant, start);
                    }
                }
                (Event::Dag(DagEvent::DagResumed(..)), StreamId::Dag(dag_id)) => {
                    self.starts.reset(tenant, dag_id);
                }
                _ => {}
            }
        }
    }

    /// If this run is one too many for its DAG: the DAG is paused, and the run refused.
    pub(super) fn brake(
        &mut self,
        tenant: &Tenant,
        run: &NewRun,
        budget: Budget,
        at: Timestamp,
    ) -> Option<Outcome> {
        let cache = self.caches.tenant(tenant);
        let brake = self.starts.spent(tenant, run, cache.dag(&run.dag_id), budget, at)?;
        let refusal = DagRefusal::BudgetSpent { starts: brake.starts, window_ms: brake.window_ms };
        let stream = StreamId::Dag(run.dag_id.clone());
        let dag = cache.dag(&run.dag_id);
        let stream_version = dag.version + 1;
        let events = dag.decide(DagCommand::Brake(brake)).unwrap_or_default();
        let events: Vec<Event> = events.into_iter().map(Event::Dag).collect();
        events.iter().for_each(|event| cache.evolve(event, &stream));
        let actor = crate::dispatch_actor();
        let commit =
            (!events.is_empty()).then_some(Decided { stream, stream_version, actor, events });
        let answer = Err(Refusal::Dag(run.dag_id.clone(), refusal));
        Some(Decision { commit, answer, effects: vec![] })
    }
}
