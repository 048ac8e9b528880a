//! A run as it stood at any seq of the ledger, and the event that came next.
//!
//! State is folded by the same aggregate that decided it. A run's spec is not in its own events:
//! it is resolved from the DAG's stream. Where that lies before an exported window, the steps that
//! the run's events name are shown, without those that had not been queued yet.

mod source;
mod view;

use std::{path::Path, sync::Arc};

use stella_domain::{
    aggregate::{Aggregate as _, Run},
    chain::StoredEvent,
    dag::DagSpec,
    event::{Event, RunCreated, RunEvent},
    ids::{RunId, StreamId, Tenant},
    json::CanonicalJson,
    time::Timestamp,
};
use stella_ledger::{
    port::{Ledger, LedgerError},
    recorded::UndecodableEvent,
};
use stella_verify::ndjson::VerifyError;

pub use self::view::{LeaseView, NextEvent, RunView, StepView};

/// Why a run cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// No event of it.
    #[error("no event of run {run_id} is in seq {first_seq} to {last_seq}, which is all there is")]
    UnknownRun {
        /// As asked for.
        run_id: RunId,
        /// First seq that was searched.
        first_seq: u64,
        /// Last seq that was searched.
        last_seq: u64,
    },
    /// Nothing at all to look at.
    #[error("there are no events")]
    Empty,
    /// The seq is not there.
    #[error("seq {at_seq} is not there: the events go from {first_seq} to {last_seq}")]
    SeqOutside {
        /// As asked for.
        at_seq: u64,
        /// First seq there is.
        first_seq: u64,
        /// Last seq there is.
        last_seq: u64,
    },
    /// The run did not exist yet.
    #[error("run {run_id} did not exist at seq {at_seq}: it was created at seq {created_seq}")]
    NotYet {
        /// As asked for.
        run_id: RunId,
        /// As asked for.
        at_seq: u64,
        /// `seq` of its first event.
        created_seq: u64,
    },
    /// Its first events are missing.
    #[error(
        "run {run_id} began before seq {first_seq}, where these events begin: \
         export a window that goes back further"
    )]
    BeganBefore {
        /// As asked for.
        run_id: RunId,
        /// First seq there is.
        first_seq: u64,
    },
    /// A stored event that this build cannot read.
    #[error(transparent)]
    Undecodable(#[from] UndecodableEvent),
    /// The live ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The export does not verify, or could not be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// An event of one stream, as stored.
#[derive(Debug, Clone)]
struct Fact {
    seq: u64,
    stream_version: u64,
    recorded_at: Timestamp,
    stored: StoredEvent,
}

/// All that is known of a run.
struct History {
    run_id: RunId,
    /// Seqs that were searched.
    first_seq: u64,
    last_seq: u64,
    /// The run's events, by seq.
    facts: Vec<Fact>,
}

/// Show the run after the event at `at_seq` of the ledger (any event: the run's last one up to
/// there counts).
///
/// # Errors
/// [`ShowError`] says what is not there.
pub async fn show(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    run_id: &RunId,
    at_seq: u64,
) -> Result<RunView, ShowError> {
    let history = source::history_of(ledger, tenant, run_id).await?;
    let created = history.created(at_seq)?;
    let dag = source::dag_of(ledger, tenant, &created).await?;
    history.view(at_seq, spec_for(&created, &dag)?)
}

/// The same from an exported window, which is verified on the way.
///
/// # Errors
/// [`ShowError`] says what is not there, or where the window is broken.
pub fn show_in_files(
    files: &[impl AsRef<Path>],
    run_id: &RunId,
    at_seq: u64,
) -> Result<RunView, ShowError> {
    let history = source::history_in_files(files, run_id)?;
    let created = history.created(at_seq)?;
    let dag = source::dag_in_files(files, &created, history.facts[0].seq)?;
    history.view(at_seq, spec_for(&created, &dag)?)
}

impl History {
    /// The run's first event, once it is clear that `at_seq` can be shown.
    fn created(&self, at_seq: u64) -> Result<RunCreated, ShowError> {
        let Self { run_id, first_seq, last_seq, facts } = self;
        let (run_id, first_seq, last_seq) = (run_id.clone(), *first_seq, *last_seq);
        let Some(first) = facts.first() else {
            return Err(ShowError::UnknownRun { run_id, first_seq, last_seq });
        };
        if !(first_seq..=last_seq).contains(&at_seq) {
            return Err(ShowError::SeqOutside { at_seq, first_seq, last_seq });
        }
        match self.decode(first)? {
            RunEvent::RunCreated(created, _) if first.stream_version == 1 => {
                if at_seq < first.seq {
                    return Err(ShowError::NotYet { run_id, at_seq, created_seq: first.seq });
                }
                Ok(*created)
            }
            _ => Err(ShowError::BeganBefore { run_id, first_seq }),
        }
    }

    fn view(&self, at_seq: u64, spec: Option<Arc<DagSpec>>) -> Result<RunView, ShowError> {
        let applied = self.facts.partition_point(|fact| fact.seq <= at_seq);
        let events: Vec<RunEvent> =
            self.facts[..applied].iter().map(|fact| self.decode(fact)).collect::<Result<_, _>>()?;
        let spec_is_known = spec.is_some();
        let spec = spec.or_else(|| stand_in(&events));
        let mut run = Run::default();
        for mut event in events {
            if let RunEvent::RunCreated(created, _) = &mut event {
                created.spec.clone_from(&spec);
            }
            run.evolve(&event);
        }
        let next = self.facts.get(applied).map(NextEvent::of);
        let last = applied.checked_sub(1).and_then(|last| self.facts.get(last));
        let last = last.map(|fact| (fact.seq, fact.recorded_at));
        Ok(RunView::of(&self.run_id, at_seq, &run, spec_is_known, last, next))
    }

    fn decode(&self, fact: &Fact) -> Result<RunEvent, UndecodableEvent> {
        let stream = StreamId::Run(self.run_id.clone());
        match Event::decode(&stream, &fact.stored) {
            Ok(Event::Run(event)) => Ok(event),
            Ok(_) => unreachable!("a run's stream decodes to run events"),
            Err(reason) => Err(UndecodableEvent { seq: fact.seq, reason }),
        }
    }
}

/// The version of the DAG that the run follows, if it is among `facts` and this build can read it.
fn spec_for(created: &RunCreated, facts: &[Fact]) -> Result<Option<Arc<DagSpec>>, ShowError> {
    use stella_domain::event::DagEvent;
    let stream = StreamId::Dag(created.dag_id.clone());
    for fact in facts {
        let event = Event::decode(&stream, &fact.stored)
            .map_err(|reason| UndecodableEvent { seq: fact.seq, reason })?;
        if let Event::Dag(DagEvent::DagVersionRegistered(data)) = event
            && data.version == created.dag_version
        {
            return Ok(DagSpec::from_stored(&data.spec).ok().map(Arc::new));
        }
    }
    Ok(None)
}

/// A spec of the steps that `events` name, so that the aggregate has something to count by. Which
/// step needs which is not known.
fn stand_in(events: &[RunEvent]) -> Option<Arc<DagSpec>> {
    let mut dag_id = None;
    let mut steps: Vec<serde_json::Value> = vec![];
    for event in events {
        match event {
            RunEvent::RunCreated(created, _) => dag_id = Some(created.dag_id.clone()),
            RunEvent::StepQueued(data) if data.attempt == 1 => {
                let (id, plugin) = (&data.step_id, &data.plugin);
                steps.push(serde_json::json!({"action": "unknown", "id": id, "plugin": plugin}));
            }
            _ => {}
        }
    }
    let spec = serde_json::json!({"id": dag_id?, "steps": steps});
    DagSpec::from_stored(&CanonicalJson::from_value(&spec).ok()?).ok().map(Arc::new)
}
