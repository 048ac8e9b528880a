//! What each event changes. Every transition costs the step and its dependents, never the size of
//! the run.

use super::{
    Closing, LeaseRecord, Run, RunStatus, StepPhase, StepRecord,
    items::{ItemPlace, Items},
};
use crate::{
    dag::Step,
    event::{ErrorCode, RunCreated, RunEvent, RunFailed, RunRequest, StepQueued, StepStarted},
    ids::StepId,
    json::CanonicalJson,
};

impl Run {
    pub(super) fn fold(&mut self, event: &RunEvent) {
        self.version += 1;
        match event {
            RunEvent::RunCreated(created, request) => self.create(created, request.as_deref()),
            RunEvent::StepQueued(data) => self.queue(data),
            RunEvent::StepStarted(data) => self.start(data),
            RunEvent::StepSucceeded(data, payload) => {
                let outputs = payload.as_ref().map(|payload| payload.outputs.clone());
                self.succeed(&data.step_id, outputs);
            }
            RunEvent::StepFailed(data, _) => {
                self.fail(&data.step_id, Closing::Failed(data.error_code.clone()));
            }
            RunEvent::StepTimedOut(data, _) => self.fail(&data.step_id, Closing::TimedOut),
            RunEvent::StepLeaseExpired(data, _) => {
                self.fail(&data.step_id, Closing::Expired);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].expiries += 1;
                }
            }
            RunEvent::StepLeaseReturned(data, _) => {
                self.fail(&data.step_id, Closing::Returned);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].returns += 1;
                }
            }
            RunEvent::StepRetryScheduled(data) => {
                self.forgive(&data.step_id);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].phase = StepPhase::BackingOff { not_before: data.not_before };
                }
            }
            RunEvent::StepCancelled(data, _) => {
                if let Some(i) = self.close(&data.step_id, Closing::Cancelled) {
                    self.steps[i].phase = StepPhase::Cancelled;
                }
            }
            RunEvent::StepSkipped(data) => self.decided(&data.step_id, StepPhase::Skipped),
            RunEvent::StepFailureTolerated(data) => {
                self.forgive(&data.step_id);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.settle(i);
                }
            }
            RunEvent::StepExpanded(data) => self.expand(&data.step_id, data.count),
            RunEvent::ApprovalRequested(data, _) => {
                self.decided(&data.step_id, StepPhase::AwaitingApproval);
                if let Some(i) = self.index_of(&data.step_id) {
                    self.steps[i].deadline = data.deadline;
                }
            }
            RunEvent::StepApproved(data, _) => self.succeed(&data.step_id, None),
            RunEvent::StepRejected(data, _) => {
                self.fail(&data.step_id, Closing::Failed(ErrorCode::lenient(ErrorCode::REJECTED)));
            }
            RunEvent::RunCancelRequested(..) => self.cancel_requested = true,
            RunEvent::RunDeadlinePassed(_) => self.deadline_passed = true,
            RunEvent::RunCancelled(_) => self.ended = Some(RunStatus::Cancelled),
            RunEvent::RunSucceeded(_, payload) => {
                self.ended = Some(RunStatus::Succeeded);
                self.outputs = payload.as_ref().map(|payload| payload.outputs.clone());
            }
            RunEvent::RunFailed(failure) => {
                self.ended = Some(RunStatus::Failed);
                self.failure.get_or_insert_with(|| failure.clone());
            }
            RunEvent::RunTimedOut(_) => self.ended = Some(RunStatus::TimedOut),
        }
    }

    fn create(&mut self, created: &RunCreated, request: Option<&RunRequest>) {
        self.created = Some(created.clone());
        self.request = request.cloned();
        let Some(spec) = &created.spec else { return };
        let unmet = |step: &Step| u32::try_from(step.needs.len()).unwrap_or(u32::MAX);
        self.steps = spec.steps().iter().map(|step| StepRecord::new(unmet(step), None)).collect();
        self.ready = (0..self.steps.len()).filter(|i| self.steps[*i].unmet_needs == 0).collect();
    }

    fn queue(&mut self, data: &StepQueued) {
        self.forgive(&data.step_id);
        let i = self.index_of(&data.step_id).or_else(|| self.next_item(&data.step_id));
        let Some(i) = i else { return };
        self.ready.remove(&i);
        let step = &mut self.steps[i];
        step.phase = StepPhase::Queued;
        step.attempt = data.attempt;
        step.deadline = data.deadline.or(step.deadline);
        self.queued += 1;
    }

    /// The place of an item that is queued for the first time.
    fn next_item(&mut self, id: &StepId) -> Option<usize> {
        let (parent, index) = id.as_item()?;
        let parent = self.spec()?.index_of(&parent)?.get();
        let place = self.steps.len();
        let items = self.steps[parent].items.as_mut()?;
        if index != items.queued_ever() {
            return None;
        }
        items.started.push(place);
        self.steps.push(StepRecord::new(0, Some(ItemPlace { parent, index })));
        self.note_expandable(parent);
        Some(place)
    }

    fn start(&mut self, data: &StepStarted) {
        let Some(i) = self.index_of(&data.step_id) else { return };
        self.steps[i].phase = StepPhase::Running;
        self.steps[i].lease = Some(LeaseRecord {
            stream_version: self.version,
            worker_id: data.worker_id.clone(),
            timeout_ms: data.timeout_ms,
            closing: None,
        });
        self.leases.insert(self.version, i);
        self.queued -= 1;
        self.running += 1;
    }

    /// What the step was doing has ended: its open lease is closed, if it has one.
    fn close(&mut self, id: &StepId, closing: Closing) -> Option<usize> {
        let i = self.index_of(id)?;
        self.ready.remove(&i);
        let step = &mut self.steps[i];
        match step.phase {
            StepPhase::Running => {
                if let Some(lease) = &mut step.lease {
                    lease.closing = Some(closing);
                }
                self.running -= 1;
            }
            // Failed before it was leased: its `with` could not be resolved, or it was too late.
            StepPhase::Queued => self.queued -= 1,
            // Never queued: a condition or a list without an answer, an operator's decision.
            StepPhase::Waiting
            | StepPhase::AwaitingApproval
            | StepPhase::Expanded
            | StepPhase::BackingOff { .. }
            | StepPhase::Succeeded
            | StepPhase::Failed
            | StepPhase::Cancelled
            | StepPhase::Skipped => {}
        }
        Some(i)
    }

    fn succeed(&mut self, id: &StepId, outputs: Option<CanonicalJson>) {
        let Some(i) = self.close(id, Closing::Succeeded) else { return };
        self.steps[i].phase = StepPhase::Succeeded;
        self.steps[i].outputs = outputs;
        self.settle(i);
    }

    /// The step's needs are met, and what becomes of it was decided.
    fn decided(&mut self, id: &StepId, phase: StepPhase) {
        let Some(i) = self.index_of(id) else { return };
        self.ready.remove(&i);
        self.steps[i].phase = phase;
        if phase == StepPhase::Skipped {
            self.settle(i);
        }
    }

    fn expand(&mut self, id: &StepId, count: u32) {
        let Some(i) = self.index_of(id) else { return };
        // Carried along for those who read it, while the payloads are there.
        let values = self.items_of(i).and_then(Result::ok).unwrap_or_default();
        self.steps[i].items = Some(Items::new(count, values));
        self.decided(id, StepPhase::Expanded);
        self.note_expandable(i);
    }

    /// The step is done, in one way or another: what needs it comes nearer.
    fn settle(&mut self, i: usize) {
        if let Some(ItemPlace { parent, .. }) = self.steps[i].item {
            if let Some(items) = &mut self.steps[parent].items {
                items.done += 1;
            }
            self.note_expandable(parent);
            return;
        }
        self.settled += 1;
        let Some(spec) = self.spec().cloned() else { return };
        for dependent in &spec.steps()[i].dependents {
            let d = dependent.get();
            self.steps[d].unmet_needs -= 1;
            if self.steps[d].unmet_needs == 0 {
                self.ready.insert(d);
            }
        }
    }

    fn note_expandable(&mut self, parent: usize) {
        let Some(spec) = self.spec() else { return };
        let parallelism = spec.steps()[parent].for_each().map_or(0, |list| list.parallelism);
        let more = self.steps[parent]
            .items
            .as_ref()
            .is_some_and(|items| items.queued_ever() < items.count && items.active() < parallelism);
        if more {
            self.expandable.insert(parent);
        } else {
            self.expandable.remove(&parent);
        }
    }

    /// Failed for good, unless a retry follows in the same commit, or the failure is tolerated.
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
