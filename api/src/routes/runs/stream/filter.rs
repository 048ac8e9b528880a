//! Which events a stream's client wants.

use std::{collections::HashMap, sync::Arc};

use stella_domain::{
    aggregate::{RunStatus, Standing},
    event::{Event, RunCreated, RunEvent, RunRequest},
    ids::{DagId, RunId, StreamId, Tenant},
};
use stella_ledger::{port::Ledger, recorded::Recorded};

use super::StreamParams;
use crate::{extract::Label, problem::ApiError};

/// Runs that are remembered; when there are more, all are forgotten and looked up again.
const REMEMBERED_RUNS: usize = 10_000;
/// Commits of a run that are read at a time.
const PAGE_COMMITS: usize = 64;

/// Which events a stream's client wants; everything given must hold.
pub(super) struct StreamFilter {
    tenant: Tenant,
    ledger: Arc<dyn Ledger>,
    run_id: Option<RunId>,
    event_type: Option<String>,
    dag_id: Option<DagId>,
    label: Option<Label>,
    status: Option<RunStatus>,
    /// What is known of runs that go on.
    runs: HashMap<RunId, Known>,
}

/// What is known of a run.
struct Known {
    /// Whether it is of the DAG, and has the label.
    wanted: bool,
    /// Where it stands after the commit that was seen last; followed only where that is asked for.
    standing: Standing,
}

impl StreamFilter {
    pub(super) fn new(ledger: Arc<dyn Ledger>, tenant: Tenant, params: StreamParams) -> Self {
        let StreamParams { run_id, event_type, dag_id, label, status, .. } = params;
        Self { tenant, ledger, run_id, event_type, dag_id, label, status, runs: HashMap::new() }
    }

    pub(super) fn takes_type(&self, event_type: &str) -> bool {
        self.event_type.as_deref().is_none_or(|wanted| wanted == event_type)
    }

    /// Whether the client wants events of this commit of a run; to be asked once for each, by seq.
    ///
    /// Safe to cancel: nothing has changed until there is an answer.
    pub(super) async fn takes(
        &mut self,
        run_id: &RunId,
        recorded: &Recorded,
    ) -> Result<bool, ApiError> {
        if self.run_id.as_ref().is_some_and(|wanted| wanted != run_id) {
            return Ok(false);
        }
        if self.dag_id.is_none() && self.label.is_none() && self.status.is_none() {
            return Ok(true);
        }
        if !self.runs.contains_key(run_id) {
            let known = self.before(run_id, recorded).await?;
            if self.runs.len() >= REMEMBERED_RUNS {
                self.runs.clear();
            }
            self.runs.insert(run_id.clone(), known);
        }
        let Some(known) = self.runs.get_mut(run_id) else { return Ok(false) };
        run_events(recorded).for_each(|event| known.standing.see(event));
        let (wanted, status) = (known.wanted, known.standing.status());
        if status.is_ended() {
            self.runs.remove(run_id);
        }
        Ok(wanted && self.status.is_none_or(|asked| asked == status))
    }

    /// What is known of the run before `recorded`, which may be its first commit.
    async fn before(&self, run_id: &RunId, recorded: &Recorded) -> Result<Known, ApiError> {
        let mut known = Known { wanted: false, standing: Standing::default() };
        if let Some((created, request)) = creation(recorded) {
            known.wanted = self.wants(created, request);
            return Ok(known);
        }
        // It began before the stream did, or was forgotten.
        let stream = StreamId::Run(run_id.clone());
        let mut version = 1;
        while version < recorded.commit.stream_version {
            // Its first commit says of which DAG it is. All of them say where it stands.
            let limit = if version == 1 { 1 } else { PAGE_COMMITS };
            let page = self.ledger.read_stream(&self.tenant, &stream, version, limit).await?;
            if page.is_empty() {
                break;
            }
            for commit in page {
                if commit.seq >= recorded.commit.seq {
                    return Ok(known);
                }
                version = commit.stream_version + commit.events.len() as u64;
                let earlier = Recorded::decode(commit)?;
                if let Some((created, request)) = creation(&earlier) {
                    known.wanted = self.wants(created, request);
                }
                run_events(&earlier).for_each(|event| known.standing.see(event));
            }
            if !known.wanted || self.status.is_none() {
                break;
            }
        }
        Ok(known)
    }

    fn wants(&self, created: &RunCreated, request: Option<&RunRequest>) -> bool {
        let has = |label: &Label| {
            request.is_some_and(|request| request.labels.get(&label.name) == Some(&label.value))
        };
        self.dag_id.as_ref().is_none_or(|wanted| *wanted == created.dag_id)
            && self.label.as_ref().is_none_or(has)
    }
}

fn run_events(recorded: &Recorded) -> impl Iterator<Item = &RunEvent> {
    recorded.events.iter().filter_map(|event| {
        let Event::Run(event) = event else { return None };
        Some(event)
    })
}

/// What the run is, if this commit creates it.
fn creation(recorded: &Recorded) -> Option<(&RunCreated, Option<&RunRequest>)> {
    match run_events(recorded).next()? {
        RunEvent::RunCreated(created, request) => Some((created, request.as_deref())),
        _ => None,
    }
}
