//! What a run's events add up to. Every transition costs the step and its dependents, never the
//! size of the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    dag::{DagSpec, StepIndex},
    event::{ErrorCode, RunCreated, RunEvent, RunFailed, RunRequest},
    ids::{StepId, WorkerId},
    json::CanonicalJson,
    time::Timestamp,
};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunStatus {
    /// Steps wait, run or are about to be queued.
    Running,
    /// A step failed for good; what runs may finish, nothing new starts.
    Failing,
    /// Cancellation was asked for; what runs is being ended, nothing new starts.
    Cancelling,
    /// Ended: every step is done.
    Succeeded,
    /// Ended: a step failed for good.
    Failed,
    /// Ended because somebody wanted it to.
    Cancelled,
}

impl RunStatus {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Failing,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether nothing more will happen to the run.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Running | Self::Failing | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// The status as written in answers, filters and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepPhase {
    /// Its needs are not met, or it stands behind its run's queue wave.
    Waiting,
    /// Waits for a worker.
    Queued,
    /// Leased.
    Running,
    /// Waits before its next attempt.
    BackingOff {
        /// When it is queued at the earliest.
        #[serde(rename = "notBefore")]
        not_before: Timestamp,
    },
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Was running when the run was cancelled, and has stopped.
    Cancelled,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Closing {
    /// With outputs.
    Succeeded,
    /// With an error.
    Failed(ErrorCode),
    /// By the step's timeout.
    TimedOut,
    /// By its own expiry.
    Expired,
    /// By cancellation.
    Cancelled,
}

/// The newest lease of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    /// Stream version of its `StepStarted`: the changing half of the fencing token.
    pub stream_version: u64,
    /// Who holds or held it.
    pub worker_id: WorkerId,
    /// How it ended; `None` while it is open.
    pub closing: Option<Closing>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// Where it stands.
    pub phase: StepPhase,
    /// The newest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Leases of it that expired.
    pub expiries: u32,
    /// The newest lease.
    pub lease: Option<LeaseRecord>,
    /// What it gave, while that is not erased.
    pub outputs: Option<CanonicalJson>,
    /// Needs that are not met yet.
    pub unmet_needs: u32,
}

/// State of the stream `run/<runId>`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// What the run is; `None` before it exists.
    pub created: Option<RunCreated>,
    /// What was asked for, while that is not erased.
    pub request: Option<RunRequest>,
    /// Events in the stream.
    pub version: u64,
    /// The first step that failed for good.
    pub failure: Option<RunFailed>,
    /// Steps in the order of the spec.
    pub steps: Vec<StepRecord>,
    /// The step that each lease was for, by the stream version in its token.
    pub(super) leases: BTreeMap<u64, usize>,
    /// Steps whose needs are met and that are not queued yet, in the order of the spec.
    pub(super) ready: BTreeSet<usize>,
    pub(super) queued: usize,
    pub(super) running: usize,
    pub(super) succeeded: usize,
    pub(super) cancel_requested: bool,
    pub(super) ended: Option<RunStatus>,
}

impl Run {
    /// Where the run stands; `None` before it exists.
    pub fn status(&self) -> Option<RunStatus> {
        self.created.as_ref()?;
        Some(match self.ended {
            Some(status) => status,
            None if self.cancel_requested => RunStatus::Cancelling,
            None if self.failure.is_some() => RunStatus::Failing,
            None => RunStatus::Running,
        })
    }

    /// The spec that this run follows.
    pub fn spec(&self) -> Option<&Arc<DagSpec>> {
        self.created.as_ref()?.spec.as_ref()
    }

    /// The record of a step.
    pub fn step(&self, id: &StepId) -> Option<&StepRecord> {
        self.steps.get(self.index_of(id)?)
    }

    /// Steps with an open lease, with their tokens' stream versions.
    pub fn open_leases(&self) -> impl Iterator<Item = (StepIndex, &LeaseRecord)> {
        self.steps.iter().enumerate().filter_map(|(i, step)| {
            let lease = step.lease.as_ref().filter(|lease| lease.closing.is_none())?;
            Some((StepIndex(u32::try_from(i).ok()?), lease))
        })
    }

    pub(super) fn index_of(&self, id: &StepId) -> Option<usize> {
        Some(self.spec()?.index_of(id)?.get())
    }

    pub(super) fn fold(&mut self, event: &RunEvent) {
        self.version += 1;
        match event {
            RunEvent::RunCreated(created, request) => self.create(created, request.as_ref()),
            RunEvent::StepQueued(data) => self.queue(&data.step_id, data.attempt),
            RunEvent::StepStarted(data) => self.start(&data.step_id, &data.worker_id),
            RunEvent::StepSucceeded(data, payload) => {
                let outputs = payload.as_ref().map(|payload| payload.outputs.clone());
                self.succeed(&data.step_id, outputs);
            }
            RunEvent::StepFailed(data, _) => {
                self.fail(&data.step_id, Closing::Failed(data.error_code.clone()));
            }
            RunEvent::StepTimedOut(data) => self.fail(&data.step_id, Closing::TimedOut),
            RunEvent::StepLeaseExpired(data) => {
                self.fail(&data.step_id, Closing::Expired);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].expiries += 1;
                }
            }
            RunEvent::StepRetryScheduled(data) => {
                self.forgive(&data.step_id);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].phase = StepPhase::BackingOff { not_before: data.not_before };
                }
            }
            RunEvent::StepCancelled(data) => {
                if let Some(i) = self.close(&data.step_id, Closing::Cancelled) {
                    self.steps[i].phase = StepPhase::Cancelled;
                }
            }
            RunEvent::RunCancelRequested(..) => self.cancel_requested = true,
            RunEvent::RunCancelled(_) => self.ended = Some(RunStatus::Cancelled),
            RunEvent::RunSucceeded(_) => self.ended = Some(RunStatus::Succeeded),
            RunEvent::RunFailed(_) => self.ended = Some(RunStatus::Failed),
        }
    }

    fn create(&mut self, created: &RunCreated, request: Option<&RunRequest>) {
        self.created = Some(created.clone());
        self.request = request.cloned();
        let Some(spec) = &created.spec else { return };
        self.steps = spec
            .steps()
            .iter()
            .map(|step| StepRecord {
                phase: StepPhase::Waiting,
                attempt: 0,
                expiries: 0,
                lease: None,
                outputs: None,
                unmet_needs: u32::try_from(step.needs.len()).unwrap_or(u32::MAX),
            })
            .collect();
        self.ready = (0..self.steps.len()).filter(|i| self.steps[*i].unmet_needs == 0).collect();
    }

    fn queue(&mut self, id: &StepId, attempt: u32) {
        self.forgive(id);
        let Some(i) = self.index_of(id) else { return };
        self.ready.remove(&i);
        self.steps[i].phase = StepPhase::Queued;
        self.steps[i].attempt = attempt;
        self.queued += 1;
    }

    fn start(&mut self, id: &StepId, worker_id: &WorkerId) {
        let Some(i) = self.index_of(id) else { return };
        self.steps[i].phase = StepPhase::Running;
        self.steps[i].lease = Some(LeaseRecord {
            stream_version: self.version,
            worker_id: worker_id.clone(),
            closing: None,
        });
        self.leases.insert(self.version, i);
        self.queued -= 1;
        self.running += 1;
    }

    /// Close the step's open lease, if it has one.
    fn close(&mut self, id: &StepId, closing: Closing) -> Option<usize> {
        let i = self.index_of(id)?;
        let step = &mut self.steps[i];
        match &mut step.lease {
            Some(lease) if lease.closing.is_none() => {
                lease.closing = Some(closing);
                self.running -= 1;
            }
            // Failed before it was leased: its `with` could not be resolved.
            Some(_) | None => self.queued -= 1,
        }
        Some(i)
    }

    fn succeed(&mut self, id: &StepId, outputs: Option<CanonicalJson>) {
        let Some(i) = self.close(id, Closing::Succeeded) else { return };
        self.steps[i].phase = StepPhase::Succeeded;
        self.steps[i].outputs = outputs;
        self.succeeded += 1;
        let Some(spec) = self.spec().cloned() else { return };
        for dependent in &spec.steps()[i].dependents {
            let d = dependent.get();
            self.steps[d].unmet_needs -= 1;
            if self.steps[d].unmet_needs == 0 {
                self.ready.insert(d);
            }
        }
    }

    /// Failed for good, unless a retry follows in the same commit.
    fn fail(&mut self, id: &StepId, closing: Closing) {
        let code = closing.error_code();
        let Some(i) = self.close(id, closing) else { return };
        self.steps[i].phase = StepPhase::Failed;
        if self.failure.is_none() {
            self.failure = Some(RunFailed { error_code: code, step_id: id.clone() });
        }
    }

    fn forgive(&mut self, id: &StepId) {
        if self.failure.as_ref().is_some_and(|failure| failure.step_id == *id) {
            self.failure = None;
        }
    }
}

impl Closing {
    /// The code that a run fails with when a lease that ended so was the step's last.
    pub(super) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Failed(code) => code.clone(),
            Self::TimedOut => ErrorCode::lenient(ErrorCode::TIMEOUT),
            Self::Expired => ErrorCode::lenient(ErrorCode::LEASE_EXPIRED),
            Self::Succeeded | Self::Cancelled => ErrorCode::lenient("UNEXPECTED"),
        }
    }
}
