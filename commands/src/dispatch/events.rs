//! What committed events change.

use stella_domain::{
    aggregate::{Aggregate as _, Run},
    event::{ControlEvent, DagEvent, RunEvent, StepStarted},
    ids::{DagId, FencingToken, RunId},
    time::Timestamp,
};

use super::{
    queue::QueueKey,
    work::{NewLease, StepKind, WorkOf},
};

impl WorkOf<'_> {
    pub(super) fn run_event(
        &mut self,
        seq: u64,
        token: FencingToken,
        event: &RunEvent,
        now: Timestamp,
        run: Option<&Run>,
    ) {
        let run_id = token.run_id.clone();
        match event {
            RunEvent::RunCreated(data, _) => {
                self.fire_started(&run_id);
                if let Some(at) = data.deadline {
                    self.set_deadline(&run_id, at);
                }
                self.work.runs.entry(run_id).or_default().dag_id = Some(data.dag_id.clone());
            }
            RunEvent::StepQueued(data) => {
                let key = QueueKey::new(data.priority, seq);
                let (plugin, concurrency) = (data.plugin.clone(), data.concurrency.clone());
                let dag_id = self.dag_of(&run_id, run);
                let kind = StepKind { plugin, dag_id, concurrency };
                self.insert_queued(run_id, data.step_id.clone(), kind, key);
            }
            RunEvent::StepStarted(StepStarted {
                step_id, worker_id, lease_ms, timeout_ms, ..
            }) => {
                let step = run.and_then(|run| run.step_spec(step_id));
                let new = NewLease {
                    token,
                    step_id: step_id.clone(),
                    worker_id: worker_id.clone(),
                    lease_ms: *lease_ms,
                    timeout_ms: timeout_ms.or(step.map(|step| step.timeout_ms)),
                    kind: None,
                };
                self.insert_lease(new, now);
            }
            RunEvent::StepRetryScheduled(data) => {
                self.insert_retry(run_id, data.step_id.clone(), data.not_before);
            }
            RunEvent::ApprovalRequested(data, _) => {
                if let Some(deadline) = data.deadline {
                    self.insert_approval(run_id, data.step_id.clone(), deadline);
                }
            }
            RunEvent::StepApproved(data, _) | RunEvent::StepRejected(data, _) => {
                self.remove(&run_id, &data.step_id);
            }
            RunEvent::StepFailed(data, _) => self.remove(&run_id, &data.step_id),
            RunEvent::StepSucceeded(data, _)
            | RunEvent::StepTimedOut(data, _)
            | RunEvent::StepLeaseExpired(data, _)
            | RunEvent::StepLeaseReturned(data, _)
            | RunEvent::StepCancelled(data, _) => self.remove(&run_id, &data.step_id),
            RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_) => {
                self.clear_deadline(&run_id);
                self.cancel(&run_id);
            }
            RunEvent::RunCancelled(_)
            | RunEvent::RunSucceeded(..)
            | RunEvent::RunFailed(_)
            | RunEvent::RunTimedOut(_) => {
                self.clear_deadline(&run_id);
                self.end(&run_id);
                self.fire_run_ended(&run_id, now);
                self.look_whether_drained(now);
            }
            // No worker waits for these, and none holds them.
            RunEvent::StepSkipped(_)
            | RunEvent::StepFailureTolerated(_)
            | RunEvent::StepExpanded(_) => {}
        }
    }

    pub(super) fn dag_event(
        &mut self,
        dag_id: &DagId,
        event: &DagEvent,
        at: Timestamp,
        now: Timestamp,
    ) {
        match event {
            DagEvent::DagPaused(..) => {
                self.work.holds.paused_dags.insert(dag_id.clone());
            }
            DagEvent::DagResumed(..) => {
                self.work.holds.paused_dags.remove(dag_id);
                self.free_dag(dag_id, at, now);
            }
            // What was refused for its version may start now.
            DagEvent::DagVersionRegistered(_)
            | DagEvent::DagVersionActivated(..)
            | DagEvent::DagVersionEnabled(..)
            | DagEvent::DagRolledBack(..) => self.attend_all(now),
            DagEvent::DagVersionDisabled(..) => {}
        }
    }

    pub(super) fn control_event(&mut self, event: &ControlEvent, at: Timestamp, now: Timestamp) {
        self.work.holds.control.evolve(event);
        match event {
            ControlEvent::DrainStarted(..) => {
                self.work.set_draining(true);
                self.look_whether_drained(now);
            }
            ControlEvent::DrainEnded(..) => {
                self.work.set_draining(false);
                self.free_all(at, now);
            }
            ControlEvent::SchedulersResumed(..) => self.free_all(at, now),
            ControlEvent::SchedulersPaused(..)
            | ControlEvent::DispatchPaused(..)
            | ControlEvent::DispatchResumed(..)
            | ControlEvent::ConcurrencyLimitSet(..)
            | ControlEvent::WorkersWarmed(..) => {}
        }
    }

    fn dag_of(&self, run_id: &RunId, run: Option<&Run>) -> Option<DagId> {
        let known = self.work.runs.get(run_id).and_then(|run| run.dag_id.clone());
        known.or_else(|| Some(run?.created.as_ref()?.dag_id.clone()))
    }
}
