//! What was read of the ledger becomes aggregates.

use std::collections::{HashMap, HashSet};

use stella_domain::{
    aggregate::{Aggregate as _, Dag, Ledger},
    event::{Event, RunEvent},
    ids::{RunId, StreamId},
};
use stella_ledger::recorded::Recorded;

use super::{CachedRun, Fold, TenantCache};

impl TenantCache {
    pub(in crate::engine) fn load(
        &mut self,
        streams: &[StreamId],
        folds: Vec<(StreamId, u64, Fold)>,
        commits: Vec<Recorded>,
    ) {
        let wanted: HashSet<&StreamId> = streams.iter().collect();
        for stream in &wanted {
            self.drop_stream(stream);
        }
        self.take_up(folds);
        let mut by_run: HashMap<RunId, Vec<Recorded>> = HashMap::new();
        for recorded in commits {
            match &recorded.commit.stream {
                StreamId::Run(id) => by_run.entry(id.clone()).or_default().push(recorded),
                stream => {
                    for event in &recorded.events {
                        self.evolve(event, stream);
                    }
                }
            }
        }
        for stream in streams {
            match stream {
                StreamId::Ledger(_) => {
                    self.ledger.get_or_insert_with(Ledger::default);
                }
                StreamId::Dag(id) => {
                    self.dags.entry(id.clone()).or_default();
                }
                StreamId::Run(id) => self.load_run(id, by_run.remove(id).unwrap_or_default()),
                StreamId::Control(_) => {
                    self.control.get_or_insert_default();
                }
                StreamId::Schedule(id) => {
                    self.schedules.entry(id.clone()).or_default();
                }
                StreamId::Plugin(_) => {}
            }
        }
        self.resolve();
        self.trim();
    }

    fn load_run(&mut self, id: &RunId, commits: Vec<Recorded>) {
        match commits.first().and_then(|first| first.events.first()) {
            Some(Event::Run(RunEvent::RunCreated(created, _))) => {
                self.unresolved.insert(id.clone(), (created.dag_id.clone(), commits));
            }
            Some(_) | None => {
                self.run_mut(id);
            }
        }
    }

    /// Fold the runs whose DAG is at hand now.
    fn resolve(&mut self) {
        let Self { dags, runs, unresolved, .. } = self;
        for (id, (dag_id, commits)) in
            unresolved.extract_if(|_, (dag_id, _)| dags.contains_key(dag_id))
        {
            let Some(dag) = dags.get(&dag_id) else { continue };
            let run = &mut runs.get_or_insert_mut(id, CachedRun::default).run;
            for event in commits.into_iter().flat_map(|recorded| recorded.events) {
                if let Event::Run(event) = event {
                    run.evolve(&resolved(event, dag));
                }
            }
        }
    }
}

/// The event with the spec that it names.
fn resolved(event: RunEvent, dag: &Dag) -> RunEvent {
    match event {
        RunEvent::RunCreated(mut created, request) => {
            let version = dag.versions.get(&created.dag_version);
            created.spec = version.and_then(|version| version.spec.clone());
            RunEvent::RunCreated(created, request)
        }
        other => other,
    }
}
