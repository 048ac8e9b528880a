//! What is known of runs that have not ended: just enough to say of each event which DAG it belongs to,
//! where its run stands, and what an attempt took.

use std::collections::{BTreeMap, HashMap};

use stella_domain::{
    aggregate::RunStatus,
    event::{ErrorCode, Event, RunCreated, RunEvent},
    ids::{DagId, PluginName, RunId, StepId, StreamId, WorkerId},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;

/// Runs that have not ended.
#[derive(Debug, Clone, Default)]
pub struct Runs(HashMap<RunId, OpenRun>);

/// A run that has not ended, or did so just now.
#[derive(Debug, Clone, Default)]
pub struct OpenRun {
    /// Its DAG, where its beginning was seen or is known from elsewhere.
    pub dag_id: Option<DagId>,
    /// Its beginning, where that was seen.
    pub(super) created: Option<(Timestamp, Box<RunCreated>)>,
    pub(super) steps: BTreeMap<StepId, OpenStep>,
    failed: Option<(StepId, ErrorCode)>,
    stopping: bool,
    ended: Option<RunStatus>,
}

/// A step that may go on.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenStep {
    pub(super) plugin: Option<PluginName>,
    pub(super) queued_at: Option<Timestamp>,
    pub(super) begun: Option<Begun>,
}

/// An attempt that goes on, or the wait for an operator.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) at: Timestamp,
    /// Of the event by which it began.
    pub(super) stream_version: u64,
    pub(super) worker_id: Option<WorkerId>,
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) step_id: StepId,
    /// `None` where the beginning was not seen.
    pub(super) begun: Option<Begun>,
    pub(super) plugin: Option<PluginName>,
    pub(super) queued_at: Option<Timestamp>,
    pub(super) attempt: Option<u32>,
    pub(super) status: &'static str,
    pub(super) error_code: Option<ErrorCode>,
}

impl Runs {
    /// The run that these events are of, where they are not its first and nothing is known of it yet: it
    /// began before whoever follows did, and [`catch_up`](Self::catch_up) has to come first.
    pub fn unknown<'a>(&self, recorded: &'a Recorded) -> Option<&'a RunId> {
        match &recorded.commit.stream {
            StreamId::Run(run_id) if recorded.commit.stream_version > 1 => {
                (!self.0.contains_key(run_id)).then_some(run_id)
            }
            _ => None,
        }
    }

    /// Take account of what happened to a run before.
    pub fn catch_up(&mut self, run_id: &RunId, before: &[Recorded]) {
        for recorded in before {
            let commit = &recorded.commit;
            for (version, event) in (commit.stream_version..).zip(&recorded.events) {
                if let Event::Run(event) = event {
                    self.run(run_id).apply(event, commit.recorded_at, version);
                }
            }
        }
    }

    /// Take account of a commit; the answer is the run after it, if it is of one.
    pub fn follow(&mut self, recorded: &Recorded) -> Option<OpenRun> {
        let StreamId::Run(run_id) = &recorded.commit.stream else { return None };
        self.catch_up(run_id, std::slice::from_ref(recorded));
        Some(self.settle(run_id))
    }

    /// The run, as far as it is known.
    pub(super) fn run(&mut self, run_id: &RunId) -> &mut OpenRun {
        self.0.entry(run_id.clone()).or_default()
    }

    /// The run as it is now; one that has ended is forgotten.
    pub(super) fn settle(&mut self, run_id: &RunId) -> OpenRun {
        let ended = self.0.get(run_id).is_none_or(|run| run.ended.is_some());
        let run =
            if ended { self.0.remove(run_id) } else { self.0.get(run_id).map(OpenRun::outline) };
        run.unwrap_or_default()
    }
}

impl OpenRun {
    /// Where it stands; `None` while nothing was seen that says so.
    pub fn status(&self) -> Option<RunStatus> {
        let open = match (self.stopping, &self.failed) {
            (true, _) => Some(RunStatus::Cancelling),
            (false, Some(_)) => Some(RunStatus::Failing),
            (false, None) => self.created.as_ref().map(|_| RunStatus::Running),
        };
        self.ended.or(open)
    }

    /// When it began, where that was seen.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.created.as_ref().map(|(at, _)| *at)
    }

    /// The code that it fails or failed with.
    pub fn error_code(&self) -> Option<&ErrorCode> {
        self.failed.as_ref().map(|(_, code)| code)
    }

    /// All but its steps.
    fn outline(&self) -> Self {
        let Self { dag_id, created, failed, stopping, ended, .. } = self;
        let (dag_id, created, failed) = (dag_id.clone(), created.clone(), failed.clone());
        Self { dag_id, created, failed, stopping: *stopping, ended: *ended, steps: BTreeMap::new() }
    }

    /// Take account of an event; the answer is the attempt that it ends, if it ends one.
    pub(super) fn apply(
        &mut self,
        event: &RunEvent,
        at: Timestamp,
        stream_version: u64,
    ) -> Option<Ended> {
        match event {
            RunEvent::RunCreated(created, _) => {
                self.dag_id = Some(created.dag_id.clone());
                self.created = Some((at, created.clone()));
                None
            }
            RunEvent::StepQueued(data) => {
                self.forgive(&data.step_id);
                let step = self.steps.entry(data.step_id.clone()).or_default();
                (step.plugin, step.queued_at) = (Some(data.plugin.clone()), Some(at));
                step.begun = None;
                None
            }
            RunEvent::StepStarted(data) => {
                let worker_id = Some(data.worker_id.clone());
                self.begin(&data.step_id, Begun { at, stream_version, worker_id });
                None
            }
            RunEvent::ApprovalRequested(data, _) => {
                self.begin(&data.step_id, Begun { at, stream_version, worker_id: None });
                None
            }
            RunEvent::StepSucceeded(data, _) => {
                let ended = self.end(&data.step_id, Some(data.attempt), "succeeded", None);
                self.steps.remove(&data.step_id);
                ended
            }
            RunEvent::StepApproved(data, _) => self.end(&data.step_id, None, "approved", None),
            RunEvent::StepCancelled(data, _) => {
                self.end(&data.step_id, Some(data.attempt), "cancelled", None)
            }
            RunEvent::StepFailed(data, _) => {
                let code = Some(data.error_code.clone());
                self.end(&data.step_id, Some(data.attempt), "failed", code)
            }
            RunEvent::StepTimedOut(data, _) => {
                let code = Some(ErrorCode::lenient(ErrorCode::TIMEOUT));
                self.end(&data.step_id, Some(data.attempt), "timedOut", code)
            }
            RunEvent::StepLeaseExpired(data, _) => {
                let code = Some(ErrorCode::lenient(ErrorCode::LEASE_EXPIRED));
                self.end(&data.step_id, Some(data.attempt), "leaseExpired", code)
            }
            RunEvent::StepLeaseReturned(data, _) => {
                let code = Some(ErrorCode::lenient(ErrorCode::LEASE_RETURNED));
                self.end(&data.step_id, Some(data.attempt), "leaseReturned", code)
            }
            RunEvent::StepRejected(data, _) => {
                let code = Some(ErrorCode::lenient(ErrorCode::REJECTED));
                self.end(&data.step_id, None, "rejected", code)
            }
            RunEvent::StepRetryScheduled(data) => {
                self.forgive(&data.step_id);
                None
            }
            RunEvent::StepFailureTolerated(data) => {
                self.forgive(&data.step_id);
                None
            }
            RunEvent::StepSkipped(_) | RunEvent::StepExpanded(_) => None,
            RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_) => {
                self.stopping = true;
                None
            }
            RunEvent::RunCancelled(_) => self.is_over(RunStatus::Cancelled),
            RunEvent::RunSucceeded(..) => self.is_over(RunStatus::Succeeded),
            RunEvent::RunTimedOut(_) => self.is_over(RunStatus::TimedOut),
            RunEvent::RunFailed(data) => {
                self.failed = Some((data.step_id.clone(), data.error_code.clone()));
                self.is_over(RunStatus::Failed)
            }
        }
    }

    fn is_over(&mut self, status: RunStatus) -> Option<Ended> {
        self.ended = Some(status);
        None
    }

    fn begin(&mut self, step_id: &StepId, begun: Begun) {
        self.steps.entry(step_id.clone()).or_default().begun = Some(begun);
    }

    /// Another attempt follows, or the run goes on without the step.
    fn forgive(&mut self, step_id: &StepId) {
        self.failed.take_if(|(failed, _)| failed == step_id);
    }

    fn end(
        &mut self,
        step_id: &StepId,
        attempt: Option<u32>,
        status: &'static str,
        error_code: Option<ErrorCode>,
    ) -> Option<Ended> {
        if let Some(code) = &error_code {
            self.failed.get_or_insert_with(|| (step_id.clone(), code.clone()));
        }
        let step = self.steps.get_mut(step_id);
        let begun = step.as_ref().and_then(|step| step.begun.clone());
        // Of a run that was seen from its beginning, what did not begin was never carried out.
        if begun.is_none() && self.created.is_some() {
            return None;
        }
        let (plugin, queued_at) = match step {
            Some(step) => {
                step.begun = None;
                (step.plugin.clone(), step.queued_at.take())
            }
            None => (None, None),
        };
        let step_id = step_id.clone();
        Some(Ended { step_id, begun, plugin, queued_at, attempt, status, error_code })
    }
}
