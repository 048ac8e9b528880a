//! What may happen next in a run. One decision yields one commit: a step's success, the steps that
//! it makes ready, and the run's end if it was the last.

use super::{
    Closing, Outcome, Run, RunCommand, RunRefusal, RunStatus, StepPhase, advance::Advance,
};
use crate::{
    aggregate::Aggregate,
    artifact::Artifact,
    dag::Step,
    event::{
        ErrorCode, Message, NoData, Reason, RunEvent, StepAttempt, StepFailed, StepFailure,
        StepLogged, StepOutputs, StepRetryScheduled, StepStarted,
    },
    ids::{RunId, StepId, WorkerId},
    limits::{LEASE_EXPIRIES, LEASE_RETURNS, MESSAGE_BYTES},
    plugin::PluginBuild,
    time::Timestamp,
};

/// When, and in which run, something is decided.
struct Moment<'a> {
    run_id: &'a RunId,
    now: Timestamp,
    /// What the plugin of the attempt that ends wrote.
    log: Option<Artifact>,
}

impl Aggregate for Run {
    type Command = RunCommand;
    type Event = RunEvent;
    type Error = RunRefusal;

    fn decide(&self, command: RunCommand) -> Result<Vec<RunEvent>, RunRefusal> {
        match command {
            RunCommand::Start(start) => self.decide_start(start),
            RunCommand::GrantLease { step_id, worker_id, plugin, lease_ms, now } => {
                self.decide_grant(step_id, worker_id, plugin, lease_ms, now)
            }
            RunCommand::Complete { token, worker_id, outcome, log, run_id, now } => {
                let moment = Moment { run_id: &run_id, now, log };
                self.decide_complete(token, &worker_id, outcome, &moment)
            }
            RunCommand::ExpireLease { token, log, now } => {
                let i = self.lease_step(token)?;
                if self.is_open(i, token) { self.decide_expired(i, log, now) } else { Ok(vec![]) }
            }
            RunCommand::ReturnLease { token, now } => {
                let i = self.lease_step(token)?;
                if self.is_open(i, token) { self.decide_returned(i, None, now) } else { Ok(vec![]) }
            }
            RunCommand::TimeOut { token, log, run_id, now } => {
                let i = self.lease_step(token)?;
                let moment = Moment { run_id: &run_id, now, log };
                if self.is_open(i, token) {
                    self.decide_outcome(i, Outcome::TimedOut, &moment)
                } else {
                    Ok(vec![])
                }
            }
            RunCommand::QueueRetry { step_id, now } => self.decide_queue_retry(&step_id, now),
            RunCommand::Cancel { reason } => self.decide_cancel(reason),
            RunCommand::Decide { step_id, verdict, reason, now } => {
                self.decide_verdict(step_id, verdict, reason, now)
            }
            RunCommand::PassApproval { step_id, now } => self.decide_unanswered(step_id, now),
            RunCommand::PassDeadline { now } => self.decide_deadline(now),
        }
    }

    fn evolve(&mut self, event: &RunEvent) {
        self.fold(event);
    }
}

impl Run {
    fn decide_grant(
        &self,
        step_id: StepId,
        worker_id: WorkerId,
        plugin: PluginBuild,
        lease_ms: u64,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let i = self.waiting_step(&step_id)?;
        let record = &self.steps[i];
        if record.phase != StepPhase::Queued || self.status() != Some(RunStatus::Running) {
            return Err(RunRefusal::NotQueued(step_id));
        }
        let attempt = record.attempt;
        let left_ms = record.deadline.map(|deadline| deadline.ms_since(now));
        let mut advance = Advance::new(self, now)?;
        // It waited so long for a worker that there is no time left to do it in.
        if left_ms == Some(0) {
            advance.push(RunEvent::StepTimedOut(StepAttempt { attempt, step_id }, None));
            advance.fail(i, Closing::TimedOut.error_code());
            return Ok(advance.finish());
        }
        if let Err(error) = self.render_with(&step_id) {
            let error_code = ErrorCode::lenient(ErrorCode::EXPRESSION);
            let data = StepFailed { attempt, error_code: error_code.clone(), step_id };
            advance.push(RunEvent::StepFailed(data, failure(&error.to_string(), None)));
            advance.fail(i, error_code);
            return Ok(advance.finish());
        }
        let whole_ms = self.spec_step(i)?.timeout_ms;
        let timeout_ms = left_ms.filter(|left_ms| *left_ms < whole_ms);
        advance.start(StepStarted {
            attempt,
            lease_ms,
            plugin_digest: plugin.digest,
            plugin_version: plugin.version,
            step_id,
            timeout_ms,
            worker_id,
        });
        Ok(advance.finish())
    }

    fn decide_complete(
        &self,
        token: u64,
        worker_id: &WorkerId,
        outcome: Outcome,
        moment: &Moment<'_>,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let i = self.lease_step(token)?;
        let step = &self.steps[i];
        let lease = step.lease.as_ref().ok_or(RunRefusal::UnknownLease(token))?;
        if lease.stream_version != token {
            let newest = lease.stream_version;
            return Err(RunRefusal::StaleToken { presented: token, newest });
        }
        if lease.worker_id != *worker_id {
            let (holder, presented) = (lease.worker_id.clone(), worker_id.clone());
            return Err(RunRefusal::NotHolder { holder, presented });
        }
        match (&lease.closing, outcome) {
            (None, outcome) => self.decide_outcome(i, outcome, moment),
            // The worker missed our answer and says it again; the fact is already recorded.
            (Some(Closing::Succeeded), Outcome::Succeeded { outputs })
                // Where they were erased there is nothing to compare with, and nothing to record.
                if step.outputs.as_ref().is_none_or(|given| *given == outputs) =>
            {
                Ok(vec![])
            }
            (Some(Closing::Failed(have)), Outcome::Failed { code, .. }) if *have == code => {
                Ok(vec![])
            }
            (Some(Closing::TimedOut), Outcome::TimedOut)
            // Who lost the lease and gives it back wants no more.
            | (
                Some(Closing::Cancelled | Closing::Expired | Closing::Returned),
                Outcome::Cancelled,
            ) => Ok(vec![]),
            (Some(Closing::Succeeded), Outcome::Succeeded { .. }) => {
                Err(RunRefusal::AlreadyClosed("it succeeded, with other outputs".to_owned()))
            }
            (Some(closing), _) => Err(RunRefusal::AlreadyClosed(closing.to_string())),
        }
    }

    /// What follows when the open lease of step `i` ends with `outcome`.
    fn decide_outcome(
        &self,
        i: usize,
        outcome: Outcome,
        moment: &Moment<'_>,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let at = self.attempt(i)?;
        let log = moment.log.clone();
        match outcome {
            Outcome::Succeeded { outputs } => {
                let mut advance = Advance::new(self, moment.now)?;
                let payload = StepOutputs { log, outputs: outputs.clone() };
                advance.push(RunEvent::StepSucceeded(at, Some(payload)));
                advance.succeed(i, Some(outputs));
                Ok(advance.finish())
            }
            Outcome::Failed { code, message: text, retryable } => {
                let closing = Closing::Failed(code.clone());
                let data =
                    StepFailed { attempt: at.attempt, error_code: code, step_id: at.step_id };
                let failed = RunEvent::StepFailed(data, failure(&text, log));
                self.decide_unsuccessful(i, failed, &closing, retryable, moment)
            }
            Outcome::TimedOut => {
                let timed_out = RunEvent::StepTimedOut(at, logged(log));
                self.decide_unsuccessful(i, timed_out, &Closing::TimedOut, true, moment)
            }
            // Not asked for: the worker gives the lease back.
            Outcome::Cancelled if self.status() == Some(RunStatus::Running) => {
                self.decide_returned(i, log, moment.now)
            }
            Outcome::Cancelled => {
                let mut advance = Advance::new(self, moment.now)?;
                advance.push(RunEvent::StepCancelled(at, logged(log)));
                advance.fail(i, Closing::Cancelled.error_code());
                Ok(advance.finish())
            }
        }
    }

    fn decide_unsuccessful(
        &self,
        i: usize,
        ended: RunEvent,
        closing: &Closing,
        retryable: bool,
        moment: &Moment<'_>,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let (step, record) = (self.spec_step(i)?, &self.steps[i]);
        let code = closing.error_code();
        let mut advance = Advance::new(self, moment.now)?;
        advance.push(ended);
        let retryable = retryable && !step.retry.non_retryable.contains(&code);
        match self.retry_at(i, moment)?.filter(|_| retryable) {
            Some(not_before) => advance.retry(StepRetryScheduled {
                attempt: record.attempt + 1,
                not_before,
                step_id: self.attempt(i)?.step_id,
            }),
            None => advance.fail(i, code),
        }
        Ok(advance.finish())
    }

    /// When step `i` is tried again, if it has a try left and may begin it before its time is over.
    fn retry_at(&self, i: usize, moment: &Moment<'_>) -> Result<Option<Timestamp>, RunRefusal> {
        let (step, record) = (self.spec_step(i)?, &self.steps[i]);
        // Leases that expired or were given back are attempts too, but not failures of the step.
        let failures = record.attempt.saturating_sub(record.expiries + record.returns);
        if self.status() != Some(RunStatus::Running) || failures > step.retry.max {
            return Ok(None);
        }
        let (step_id, next) = (self.attempt(i)?.step_id, record.attempt + 1);
        let wait_ms = step.retry.wait_ms(failures, moment.run_id, &step_id, next);
        let at = moment.now.plus_ms(wait_ms);
        Ok(Some(at).filter(|at| record.deadline.is_none_or(|deadline| *at < deadline)))
    }

    fn decide_expired(
        &self,
        i: usize,
        log: Option<Artifact>,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let expired = RunEvent::StepLeaseExpired(self.attempt(i)?, logged(log));
        let may = self.steps[i].expiries < LEASE_EXPIRIES;
        self.decide_unfinished(i, expired, &Closing::Expired, may, now)
    }

    fn decide_returned(
        &self,
        i: usize,
        log: Option<Artifact>,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let returned = RunEvent::StepLeaseReturned(self.attempt(i)?, logged(log));
        let may = self.steps[i].returns < LEASE_RETURNS;
        self.decide_unfinished(i, returned, &Closing::Returned, may, now)
    }

    /// The attempt ended without an outcome: if the step may, it is queued again at once.
    fn decide_unfinished(
        &self,
        i: usize,
        ended: RunEvent,
        closing: &Closing,
        may: bool,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let running = self.status() == Some(RunStatus::Running);
        let in_time = self.steps[i].deadline.is_none_or(|deadline| now < deadline);
        let mut advance = Advance::new(self, now)?;
        advance.push(ended);
        if running && in_time && may {
            advance.queue_again(i);
        } else {
            advance.fail(i, closing.error_code());
        }
        Ok(advance.finish())
    }

    fn decide_queue_retry(
        &self,
        step_id: &StepId,
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let i = self.waiting_step(step_id)?;
        let record = &self.steps[i];
        let due = matches!(record.phase, StepPhase::BackingOff { not_before } if not_before <= now);
        if !due || self.status() != Some(RunStatus::Running) {
            return Ok(vec![]);
        }
        let mut advance = Advance::new(self, now)?;
        advance.queue_again(i);
        Ok(advance.finish())
    }

    fn decide_cancel(&self, reason: String) -> Result<Vec<RunEvent>, RunRefusal> {
        match self.status().ok_or(RunRefusal::Unknown)? {
            RunStatus::Running | RunStatus::Failing => {
                let mut events =
                    vec![RunEvent::RunCancelRequested(NoData {}, Some(Reason { reason }))];
                if self.running == 0 {
                    events.push(RunEvent::RunCancelled(NoData {}));
                }
                Ok(events)
            }
            RunStatus::Cancelling
            | RunStatus::Succeeded
            | RunStatus::Failed
            | RunStatus::Cancelled
            | RunStatus::TimedOut => Ok(vec![]),
        }
    }

    /// The run is timed out as it is cancelled: what runs is being ended, nothing new starts.
    fn decide_deadline(&self, now: Timestamp) -> Result<Vec<RunEvent>, RunRefusal> {
        let status = self.status().ok_or(RunRefusal::Unknown)?;
        let deadline = self.created.as_ref().and_then(|created| created.deadline);
        let passed = deadline.is_some_and(|deadline| deadline <= now);
        if !passed || !matches!(status, RunStatus::Running | RunStatus::Failing) {
            return Ok(vec![]);
        }
        let mut events = vec![RunEvent::RunDeadlinePassed(NoData {})];
        if self.running == 0 {
            events.push(RunEvent::RunTimedOut(NoData {}));
        }
        Ok(events)
    }

    pub(super) fn waiting_step(&self, id: &StepId) -> Result<usize, RunRefusal> {
        self.readable()?;
        self.index_of(id).ok_or_else(|| RunRefusal::NotQueued(id.clone()))
    }

    fn lease_step(&self, token: u64) -> Result<usize, RunRefusal> {
        self.readable()?;
        self.leases.get(&token).copied().ok_or(RunRefusal::UnknownLease(token))
    }

    fn is_open(&self, i: usize, token: u64) -> bool {
        let lease = self.steps[i].lease.as_ref();
        lease.is_some_and(|lease| lease.stream_version == token && lease.closing.is_none())
    }

    pub(super) fn readable(&self) -> Result<(), RunRefusal> {
        let created = self.created.as_ref().ok_or(RunRefusal::Unknown)?;
        if created.spec.is_some() { Ok(()) } else { Err(RunRefusal::SpecMissing) }
    }

    /// What the spec says of step `i`, or of the step that it is an item of.
    pub(super) fn spec_step(&self, i: usize) -> Result<&Step, RunRefusal> {
        let steps = self.spec().ok_or(RunRefusal::SpecMissing)?.steps();
        Ok(&steps[self.steps[i].item.map_or(i, |item| item.parent)])
    }

    /// The newest attempt of step `i`.
    pub(super) fn attempt(&self, i: usize) -> Result<StepAttempt, RunRefusal> {
        let (step, record) = (self.spec_step(i)?, &self.steps[i]);
        let step_id = match record.item {
            Some(item) => step.id.item(item.index).ok_or(RunRefusal::SpecMissing)?,
            None => step.id.clone(),
        };
        // What fails before it was ever queued fails at its first attempt.
        Ok(StepAttempt { attempt: record.attempt.max(1), step_id })
    }

    pub(super) fn priority(&self) -> i32 {
        self.created.as_ref().map_or(0, |created| created.priority)
    }
}

/// What an author says about an approval.
pub(super) fn message(text: &str) -> Option<Message> {
    Some(Message { message: kept(text) })
}

/// What a plugin or a worker says about a failure.
pub(super) fn failure(text: &str, log: Option<Artifact>) -> Option<StepFailure> {
    Some(StepFailure { log, message: kept(text) })
}

fn kept(text: &str) -> String {
    // U+0000 cannot stand in canonical JSON; a plugin's words are kept otherwise as they are.
    text[..text.floor_char_boundary(MESSAGE_BYTES)].replace('\0', "\u{fffd}")
}

fn logged(log: Option<Artifact>) -> Option<StepLogged> {
    log.map(|log| StepLogged { log })
}

impl std::fmt::Display for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Succeeded => f.write_str("it succeeded"),
            Self::Failed(code) => write!(f, "it failed with {code}"),
            Self::TimedOut => f.write_str("it timed out"),
            Self::Expired => f.write_str("it expired"),
            Self::Returned => f.write_str("it was given back"),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}
