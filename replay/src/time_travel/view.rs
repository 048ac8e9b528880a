//! What is shown of a run: for people and, as JSON, for programs.

use serde::Serialize;
use stella_domain::{
    aggregate::{Closing, Run, RunStatus, StepPhase, StepRecord},
    event::{Labels, RunFailed},
    ids::{DagId, FencingToken, RunId, StepId, WorkerId},
    json::CanonicalJson,
    time::Timestamp,
};

use super::Fact;

/// A run as it stood at one seq.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// The run.
    pub run_id: RunId,
    /// The seq that was asked for.
    pub at_seq: u64,
    /// `seq` of the run's last event up to there.
    pub last_seq: Option<u64>,
    /// When that was recorded.
    pub last_recorded_at: Option<Timestamp>,
    /// Events of the run up to there.
    pub applied_events: u64,
    /// Where the run stood.
    pub status: Option<RunStatus>,
    /// The DAG.
    pub dag_id: Option<DagId>,
    /// Its version.
    pub dag_version: Option<u32>,
    /// Digest of that version's spec.
    pub dag_digest: Option<String>,
    /// 0 for a first run, n for its n-th rerun.
    pub attempt: Option<u32>,
    /// Unsalted hash of the inputs.
    pub inputs_hash: Option<String>,
    /// The inputs, while they are not erased.
    pub inputs: Option<CanonicalJson>,
    /// The labels, while they are not erased.
    pub labels: Option<Labels>,
    /// The first step that had failed for good.
    pub failure: Option<RunFailed>,
    /// Whether the spec was found. If not, steps that were never queued are missing.
    pub spec_known: bool,
    /// The steps, in the order of the spec, then the items of lists that were ever queued.
    pub steps: Vec<StepView>,
    /// What happened to the run next; `None` if nothing has, as far as the events go.
    pub next: Option<NextEvent>,
}

/// A step as it stood then.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The step.
    pub step_id: StepId,
    /// Where it stood.
    pub phase: StepPhase,
    /// The newest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Leases of it that had expired.
    pub expiries: u32,
    /// Leases of it that had been given back.
    pub returns: u32,
    /// Its newest lease.
    pub lease: Option<LeaseView>,
    /// What it gave, while that is not erased.
    pub outputs: Option<CanonicalJson>,
}

/// A lease as it stood then.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Names it.
    pub fencing_token: FencingToken,
    /// Who held it.
    pub worker_id: WorkerId,
    /// How it had ended; `None` while it was open.
    pub closing: Option<Closing>,
}

/// The event that came next.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextEvent {
    /// Its place in the ledger.
    pub seq: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its data.
    pub data: CanonicalJson,
    /// Its payload, if it has one that is not erased.
    pub payload: Option<CanonicalJson>,
}

impl NextEvent {
    pub(super) fn of(fact: &Fact) -> Self {
        Self {
            seq: fact.seq,
            recorded_at: fact.recorded_at,
            event_type: fact.stored.event_type.to_string(),
            data: fact.stored.data.clone(),
            payload: fact.stored.payload.json().cloned(),
        }
    }
}

impl RunView {
    pub(super) fn of(
        run_id: &RunId,
        at_seq: u64,
        run: &Run,
        spec_known: bool,
        last: Option<(u64, Timestamp)>,
        next: Option<NextEvent>,
    ) -> Self {
        let created = run.created.as_ref();
        Self {
            run_id: run_id.clone(),
            at_seq,
            last_seq: last.map(|(seq, _)| seq),
            last_recorded_at: last.map(|(_, recorded_at)| recorded_at),
            applied_events: run.version,
            status: run.status(),
            dag_id: created.map(|created| created.dag_id.clone()),
            dag_version: created.map(|created| created.dag_version),
            dag_digest: created.map(|created| created.dag_digest.clone()),
            attempt: created.map(|created| created.attempt),
            inputs_hash: created.map(|created| created.inputs_hash.clone()),
            inputs: run.request.as_ref().map(|request| request.inputs.clone()),
            labels: run.request.as_ref().map(|request| request.labels.clone()),
            failure: run.failure.clone(),
            spec_known,
            steps: run.records().map(|(id, record)| StepView::of(run_id, &id, record)).collect(),
            next,
        }
    }
}

impl StepView {
    fn of(run_id: &RunId, step_id: &StepId, record: &StepRecord) -> Self {
        Self {
            step_id: step_id.clone(),
            phase: record.phase,
            attempt: record.attempt,
            expiries: record.expiries,
            returns: record.returns,
            lease: record.lease.as_ref().map(|lease| LeaseView {
                fencing_token: FencingToken {
                    run_id: run_id.clone(),
                    stream_version: lease.stream_version,
                },
                worker_id: lease.worker_id.clone(),
                closing: lease.closing.clone(),
            }),
            outputs: record.outputs.clone(),
        }
    }
}
