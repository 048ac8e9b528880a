//! The brake: a DAG of which too many runs start is paused, before somebody has to notice.

use std::collections::{BTreeMap, HashMap};

use stella_domain::{
    aggregate::{Aggregate as _, DagCommand, DagRefusal},
    dag::Budget,
    event::{Brake, Event, StartCause},
    ids::{Actor, DagId, RunId, ScheduleId, StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::writer::{Decided, Decision};

use super::{Engine, NewRun, Outcome};
use crate::refusal::Refusal;

/// Those who started most that are named.
const CAUSES: usize = 10;

/// Runs of DAGs with a budget that were started lately.
#[derive(Default)]
pub(super) struct Starts {
    by_dag: HashMap<(Tenant, DagId), HashMap<RunId, Start>>,
}

struct Start {
    at: Timestamp,
    actor: Actor,
    schedule_id: Option<ScheduleId>,
}

impl Starts {
    /// A run was started, or will be if nothing comes between; decided again, it counts once.
    pub(super) fn add(&mut self, tenant: &Tenant, actor: &Actor, run: &NewRun, at: Timestamp) {
        let starts = self.by_dag.entry((tenant.clone(), run.dag_id.clone())).or_default();
        let schedule_id = run.schedule.as_ref().map(|fire| fire.schedule_id.clone());
        starts.insert(run.run_id.clone(), Start { at, actor: actor.clone(), schedule_id });
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
        budget: Budget,
        at: Timestamp,
    ) -> Option<Brake> {
        let starts = self.by_dag.get_mut(&(tenant.clone(), run.dag_id.clone()))?;
        let limit = budget.starts.get() as usize;
        if starts.len() < limit || starts.contains_key(&run.run_id) {
            return None;
        }
        starts.retain(|_, start| at.ms_since(start.at) < budget.window_ms);
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

impl Engine {
    /// If this run is one too many for its DAG: the DAG is paused, and the run refused.
    pub(super) fn brake(
        &mut self,
        tenant: &Tenant,
        run: &NewRun,
        budget: Budget,
        at: Timestamp,
    ) -> Option<Outcome> {
        let brake = self.starts.spent(tenant, run, budget, at)?;
        let refusal = DagRefusal::BudgetSpent { starts: brake.starts, window_ms: brake.window_ms };
        let stream = StreamId::Dag(run.dag_id.clone());
        let cache = self.caches.tenant(tenant);
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
