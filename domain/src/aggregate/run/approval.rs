//! What becomes of an approval: an operator decides, or its time is over.

use super::{Run, RunRefusal, RunStatus, StepPhase, StepRecord, Verdict, advance::Advance};
use crate::{
    dag::{Approval, Work, spell_ms},
    event::{ErrorCode, Reason, RunEvent, StepNamed},
    ids::StepId,
    time::Timestamp,
};

impl Run {
    pub(super) fn decide_verdict(
        &self,
        step_id: StepId,
        verdict: Verdict,
        reason: String,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        self.readable()?;
        let i = self.index_of(&step_id).ok_or_else(|| RunRefusal::NoSuchStep(step_id.clone()))?;
        let phase = self.steps[i].phase;
        let is_approval = matches!(self.spec_step(i)?.work, Work::Approval(_));
        match (phase, verdict) {
            (StepPhase::AwaitingApproval, _) if self.status() == Some(RunStatus::Running) => {}
            // Said twice; the fact is already recorded.
            (StepPhase::Succeeded, Verdict::Approved) if is_approval => return Ok(vec![]),
            (StepPhase::Failed, Verdict::Rejected) if is_approval => return Ok(vec![]),
            (StepPhase::Succeeded, Verdict::Rejected) if is_approval => {
                return Err(RunRefusal::AlreadyDecided { step_id, decided: "approved" });
            }
            (StepPhase::Failed, Verdict::Approved) if is_approval => {
                return Err(RunRefusal::AlreadyDecided { step_id, decided: "rejected" });
            }
            _ => {
                let (phase, status) =
                    (phase.as_str(), self.status().map_or("-", RunStatus::as_str));
                return Err(RunRefusal::NotAwaitingApproval { step_id, phase, status });
            }
        }
        self.conclude(i, step_id, verdict, reason, now)
    }

    /// No operator decided in time.
    pub(super) fn decide_unanswered(
        &self,
        step_id: StepId,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let i = self.waiting_step(&step_id)?;
        let StepRecord { phase, deadline, .. } = &self.steps[i];
        let due = *phase == StepPhase::AwaitingApproval
            && self.status() == Some(RunStatus::Running)
            && deadline.is_some_and(|deadline| deadline <= now);
        let Work::Approval(Approval { timeout: Some(timeout), .. }) = &self.spec_step(i)?.work
        else {
            return Ok(vec![]);
        };
        let verdict = if timeout.approves { Verdict::Approved } else { Verdict::Rejected };
        let waited = spell_ms(timeout.after_ms);
        let reason = format!("nobody decided within {waited}, the timeout of this approval");
        if due { self.conclude(i, step_id, verdict, reason, now) } else { Ok(vec![]) }
    }

    fn conclude(
        &self,
        i: usize,
        step_id: StepId,
        verdict: Verdict,
        reason: String,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let (data, reason) = (StepNamed { step_id }, Some(Reason { reason }));
        let mut advance = Advance::new(self, now)?;
        match verdict {
            Verdict::Approved => {
                advance.push(RunEvent::StepApproved(data, reason));
                advance.succeed(i, None);
            }
            Verdict::Rejected => {
                advance.push(RunEvent::StepRejected(data, reason));
                advance.fail(i, ErrorCode::lenient(ErrorCode::REJECTED));
            }
        }
        Ok(advance.finish())
    }
}
