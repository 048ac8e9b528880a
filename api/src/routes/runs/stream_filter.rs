//! Which events a stream's client wants.

use std::{collections::HashMap, sync::Arc};

use stella_domain::{
    event::{Event, RunEvent},
    ids::{DagId, RunId, StreamId, Tenant},
};
use stella_ledger::{port::Ledger, recorded::Recorded};
use stella_projections::Projections;

use super::stream::StreamParams;
use crate::problem::ApiError;

/// Runs whose DAG is remembered; when there are more, all are forgotten and looked up again.
const REMEMBERED_RUNS: usize = 10_000;

/// Which events a stream's client wants; everything given must hold.
pub(super) struct StreamFilter {
    tenant: Tenant,
    run_id: Option<RunId>,
    event_type: Option<String>,
    dag_id: Option<DagId>,
    ledger: Arc<dyn Ledger>,
    projections: Arc<Projections>,
    /// Whether a run is of that DAG.
    of_dag: HashMap<RunId, bool>,
}

impl StreamFilter {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        projections: Arc<Projections>,
        tenant: Tenant,
        params: StreamParams,
    ) -> Self {
        let StreamParams { run_id, event_type, dag_id, .. } = params;
        Self { tenant, run_id, event_type, dag_id, ledger, projections, of_dag: HashMap::new() }
    }

    pub(super) fn takes_type(&self, event_type: &str) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| wanted == event_type)
    }

    /// Whether the client wants events of this run, of which `recorded` is a commit.
    pub(super) async fn takes(
        &mut self,
        run_id: &RunId,
        recorded: &Recorded,
    ) -> Result<bool, ApiError> {
        if self.run_id.as_ref().is_some_and(|wanted| wanted != run_id) {
            return Ok(false);
        }
        let Some(wanted) = &self.dag_id else { return Ok(true) };
        if let Some(known) = self.of_dag.get(run_id) {
            return Ok(*known);
        }
        let of_dag = match dag_of(recorded) {
            Some(dag_id) => dag_id == wanted,
            // It began before the stream did.
            None => self.began_as(run_id, wanted).await?,
        };
        if self.of_dag.len() >= REMEMBERED_RUNS {
            self.of_dag.clear();
        }
        self.of_dag.insert(run_id.clone(), of_dag);
        Ok(of_dag)
    }

    /// As the projections have it or, if they have not come as far, the run's first commit.
    async fn began_as(&self, run_id: &RunId, wanted: &DagId) -> Result<bool, ApiError> {
        if let Some(row) = self.projections.run(&self.tenant, run_id).await? {
            return Ok(row.dag_id == *wanted);
        }
        let stream = StreamId::Run(run_id.clone());
        let commits = self.ledger.read_stream(&self.tenant, &stream, 1, 1).await?;
        let first = commits.into_iter().next().map(Recorded::decode).transpose()?;
        Ok(first.as_ref().and_then(dag_of) == Some(wanted))
    }
}

/// The DAG, if this commit creates the run.
fn dag_of(recorded: &Recorded) -> Option<&DagId> {
    match recorded.events.first()? {
        Event::Run(RunEvent::RunCreated(created, _)) => Some(&created.dag_id),
        _ => None,
    }
}
