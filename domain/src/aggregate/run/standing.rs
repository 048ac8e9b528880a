//! Where a run stands, and nothing else of it: for those who follow many runs and know no specs.

use super::RunStatus;
use crate::{event::RunEvent, ids::StepId};

/// Where a run stands, as its events so far say.
///
/// The same as [`Run::status`](super::Run::status) between commits. Within one, a failure may be
/// followed by a retry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The first step that failed for good.
    failed: Option<StepId>,
    /// Cancelled, or out of time: it ends as soon as nothing of it runs.
    ending: bool,
    ended: Option<RunStatus>,
}

impl Standing {
    /// The next event of the run.
    pub fn see(&mut self, event: &RunEvent) {
        match event {
            RunEvent::StepQueued(data) => self.forgive(&data.step_id),
            RunEvent::StepRetryScheduled(data) => self.forgive(&data.step_id),
            RunEvent::StepFailed(data, _) => self.fail(&data.step_id),
            RunEvent::StepTimedOut(data, _)
            | RunEvent::StepLeaseExpired(data, _)
            | RunEvent::StepLeaseReturned(data, _) => self.fail(&data.step_id),
            RunEvent::StepFailureTolerated(data) => self.forgive(&data.step_id),
            RunEvent::StepRejected(data, _) => self.fail(&data.step_id),
            RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_) => {
                self.ending = true;
            }
            RunEvent::RunCancelled(_) => self.ended = Some(RunStatus::Cancelled),
            RunEvent::RunTimedOut(_) => self.ended = Some(RunStatus::TimedOut),
            RunEvent::RunSucceeded(..) => self.ended = Some(RunStatus::Succeeded),
            RunEvent::RunFailed(_) => self.ended = Some(RunStatus::Failed),
            RunEvent::RunCreated(..)
            | RunEvent::StepStarted(_)
            | RunEvent::StepSucceeded(..)
            | RunEvent::StepCancelled(..)
            | RunEvent::StepSkipped(_)
            | RunEvent::StepExpanded(_)
            | RunEvent::ApprovalRequested(..)
            | RunEvent::StepApproved(..) => {}
        }
    }

    /// Where it stands.
    pub fn status(&self) -> RunStatus {
        match self.ended {
            Some(status) => status,
            None if self.ending => RunStatus::Cancelling,
            None if self.failed.is_some() => RunStatus::Failing,
            None => RunStatus::Running,
        }
    }

    fn fail(&mut self, step_id: &StepId) {
        self.failed.get_or_insert_with(|| step_id.clone());
    }

    fn forgive(&mut self, step_id: &StepId) {
        self.failed.take_if(|failed| failed == step_id);
    }
}
