//! What a run is, as far as its events tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::items::{ItemPlace, Items};
use crate::{
    dag::{DagSpec, Step, StepIndex},
    event::{ErrorCode, RunCreated, RunFailed, RunRequest},
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
    /// Cancellation was asked for, or the run's time is over; what runs is being ended, nothing new
    /// starts.
    Cancelling,
    /// Ended: every step is done.
    Succeeded,
    /// Ended: a step failed for good.
    Failed,
    /// Ended because somebody wanted it to.
    Cancelled,
    /// Ended because its time was over.
    TimedOut,
}

impl RunStatus {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Failing,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// Whether nothing more will happen to the run.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Running | Self::Failing | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut => true,
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
            Self::TimedOut => "timedOut",
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
    /// Not carried out: its condition did not hold, or it needs a step that was skipped.
    Skipped,
    /// Waits for an operator.
    AwaitingApproval,
    /// Carried out for each item of a list, as steps of their own.
    Expanded,
}

impl StepPhase {
    /// The phase by name, as answers have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::BackingOff { .. } => "backingOff",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::AwaitingApproval => "awaitingApproval",
            Self::Expanded => "expanded",
        }
    }

    /// How the step ended, as conditions name it; `None` while it goes on.
    pub fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Succeeded => Some("succeeded"),
            Self::Failed => Some("failed"),
            Self::Cancelled => Some("cancelled"),
            Self::Skipped => Some("skipped"),
            Self::Waiting
            | Self::Queued
            | Self::Running
            | Self::BackingOff { .. }
            | Self::AwaitingApproval
            | Self::Expanded => None,
        }
    }
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
    /// The worker gave it back, or never got it.
    Returned,
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
    /// Milliseconds that the attempt may take, where that is less than the step's timeout.
    pub timeout_ms: Option<u64>,
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
    /// Leases of it that were given back.
    pub returns: u32,
    /// The newest lease.
    pub lease: Option<LeaseRecord>,
    /// What it gave, while that is not erased.
    pub outputs: Option<CanonicalJson>,
    /// Needs that are not met yet.
    pub unmet_needs: u32,
    /// When its total timeout is over, once it was queued; of an approval with a timeout, when it is
    /// decided without an operator.
    pub deadline: Option<Timestamp>,
    /// Its items, once it was expanded.
    pub items: Option<Items>,
    /// Which item it is, if it is one.
    pub item: Option<ItemPlace>,
}

impl StepRecord {
    pub(super) fn new(unmet_needs: u32, item: Option<ItemPlace>) -> Self {
        Self {
            phase: StepPhase::Waiting,
            attempt: 0,
            expiries: 0,
            returns: 0,
            lease: None,
            outputs: None,
            unmet_needs,
            deadline: None,
            items: None,
            item,
        }
    }
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
    /// What it gave, if its DAG says what, while that is not erased.
    pub outputs: Option<CanonicalJson>,
    /// Steps in the order of the spec; after them, items of lists in the order in which they were
    /// first queued.
    pub steps: Vec<StepRecord>,
    /// The step that each lease was for, by the stream version in its token.
    pub(super) leases: BTreeMap<u64, usize>,
    /// Steps whose needs are met and that are not queued yet, in the order of the spec.
    pub(super) ready: BTreeSet<usize>,
    /// Expanded steps of which another item may be queued.
    pub(super) expandable: BTreeSet<usize>,
    pub(super) queued: usize,
    pub(super) running: usize,
    /// Steps of the spec that are done in one way or another.
    pub(super) settled: usize,
    pub(super) cancel_requested: bool,
    pub(super) deadline_passed: bool,
    pub(super) ended: Option<RunStatus>,
}

impl Run {
    /// Where the run stands; `None` before it exists.
    pub fn status(&self) -> Option<RunStatus> {
        self.created.as_ref()?;
        Some(match self.ended {
            Some(status) => status,
            None if self.cancel_requested || self.deadline_passed => RunStatus::Cancelling,
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

    /// What the spec says of a step, or of the step that an item is of.
    pub fn step_spec(&self, id: &StepId) -> Option<&Step> {
        let spec = self.spec()?;
        let index = spec.index_of(id).or_else(|| {
            let (parent, _) = id.as_item()?;
            spec.index_of(&parent).filter(|index| spec.step(*index).for_each().is_some())
        })?;
        Some(spec.step(index))
    }

    /// Every step with its id: those of the spec, then the items that were ever queued.
    pub fn records(&self) -> impl Iterator<Item = (StepId, &StepRecord)> {
        let spec = self.spec();
        self.steps.iter().enumerate().filter_map(move |(i, record)| {
            let steps = spec?.steps();
            let id = match record.item {
                Some(ItemPlace { parent, index }) => steps.get(parent)?.id.item(index)?,
                None => steps.get(i)?.id.clone(),
            };
            Some((id, record))
        })
    }

    pub(super) fn index_of(&self, id: &StepId) -> Option<usize> {
        if let Some(index) = self.spec()?.index_of(id) {
            return Some(index.get());
        }
        let (parent, index) = id.as_item()?;
        let parent = self.spec()?.index_of(&parent)?.get();
        self.steps[parent].items.as_ref()?.started.get(index as usize).copied()
    }
}

impl Closing {
    /// The code that a run fails with when a lease that ended so was the step's last.
    pub(super) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Failed(code) => code.clone(),
            Self::TimedOut => ErrorCode::lenient(ErrorCode::TIMEOUT),
            Self::Expired => ErrorCode::lenient(ErrorCode::LEASE_EXPIRED),
            Self::Returned => ErrorCode::lenient(ErrorCode::LEASE_RETURNED),
            Self::Succeeded | Self::Cancelled => ErrorCode::lenient("UNEXPECTED"),
        }
    }
}
