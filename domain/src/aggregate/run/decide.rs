//! What may happen next in a run. One decision yields one commit: a step's success, the steps that
//! it makes ready, and the run's end if it was the last.

use std::sync::Arc;

use super::{Closing, Run, RunStatus, StepPhase};
use crate::{
    aggregate::Aggregate,
    dag::{DagSpec, InputViolation, RenderError, Scope, Step, StepIndex},
    event::{
        ErrorCode, Labels, Message, NoData, Reason, RunCreated, RunEvent, RunRequest, ScheduleFire,
        StepAttempt, StepFailed, StepOutputs, StepQueued, StepRetryScheduled, StepStarted,
    },
    hash,
    ids::{DagId, RunToken, StepId, WorkerId},
    json::CanonicalJson,
    limits::{LABELS, LEASE_EXPIRIES, MESSAGE_BYTES, QUEUE_WAVE},
    time::Timestamp,
};

/// A run to be started.
#[derive(Debug, Clone)]
pub struct StartRun {
    /// The spec that it follows, already resolved.
    pub spec: Arc<DagSpec>,
    /// The version of that spec.
    pub dag_version: u32,
    /// Whether the caller named the version, so that a repeat has to name the same.
    pub version_is_explicit: bool,
    /// The inputs.
    pub inputs: CanonicalJson,
    /// Labels.
    pub labels: Labels,
    /// Higher is dispatched first.
    pub priority: i32,
    /// The caller's idempotency key.
    pub run_token: Option<RunToken>,
    /// 0 for a first run.
    pub attempt: u32,
    /// The fire of a schedule that it is started for.
    pub schedule: Option<ScheduleFire>,
}

/// How a worker's attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With outputs, an object.
    Succeeded {
        /// What the step gives to those that need it.
        outputs: CanonicalJson,
    },
    /// With an error.
    Failed {
        /// Stable code.
        code: ErrorCode,
        /// For people.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The step's time ran out.
    TimedOut,
    /// The worker ended it on request, or because it is shutting down.
    Cancelled,
}

/// What can be asked of a run.
#[derive(Debug, Clone)]
pub enum RunCommand {
    /// Create it, or recognise that it is there already.
    Start(StartRun),
    /// Lease a queued step to a worker.
    GrantLease {
        /// The step.
        step_id: StepId,
        /// Who asked for work.
        worker_id: WorkerId,
        /// Milliseconds that the lease holds without a heartbeat.
        lease_ms: u64,
    },
    /// Record how a leased step ended.
    Complete {
        /// Stream version in the fencing token.
        token: u64,
        /// Who presents the token; must be who holds it.
        worker_id: WorkerId,
        /// How it ended.
        outcome: Outcome,
        /// Now: retries are scheduled from here.
        now: Timestamp,
    },
    /// The worker stopped answering.
    ExpireLease {
        /// Stream version in the fencing token.
        token: u64,
    },
    /// The step's time ran out and its worker did not say so.
    TimeOut {
        /// Stream version in the fencing token.
        token: u64,
        /// Now.
        now: Timestamp,
    },
    /// A retry is due.
    QueueRetry {
        /// The step.
        step_id: StepId,
        /// Now.
        now: Timestamp,
    },
    /// End the run as soon as what runs has stopped.
    Cancel {
        /// In the operator's words.
        reason: String,
    },
}

/// Why a run refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// There is no such run.
    #[error("there is no such run")]
    Unknown,
    /// The run token was used for another start.
    #[error(
        "this runToken already started a run of {have}, and this request asks for {asked}: \
         use another runToken, or ask for the same"
    )]
    TokenConflict {
        /// What the recorded run is of.
        have: String,
        /// What was asked for.
        asked: String,
    },
    /// The inputs do not fit the DAG's schema.
    #[error("the inputs do not fit the schema of DAG {dag_id}: {} violation(s)", violations.len())]
    InputsInvalid {
        /// The DAG.
        dag_id: DagId,
        /// Every violation.
        violations: Vec<InputViolation>,
    },
    /// The labels do not keep the rules.
    #[error(
        "label {0:?} is not allowed: at most {LABELS} labels, each name 1 to 64 of \
         A-Z a-z 0-9 . _ / -"
    )]
    LabelRefused(String),
    /// The run's version of the DAG cannot be read by this build.
    #[error("the DAG version that this run follows cannot be read by this release")]
    SpecMissing,
    /// The step does not wait for a worker.
    #[error("step {0} is not queued")]
    NotQueued(StepId),
    /// No lease of this run carries that token.
    #[error("no lease of this run has fencing token version {0}")]
    UnknownLease(u64),
    /// A newer lease was granted since.
    #[error("fencing token version {presented} is stale: the step's newest lease has {newest}")]
    StaleToken {
        /// As presented.
        presented: u64,
        /// The newest lease's.
        newest: u64,
    },
    /// The lease is not this worker's.
    #[error("this lease is held by worker {holder}, not by {presented}")]
    NotHolder {
        /// Who holds it.
        holder: WorkerId,
        /// Who presented the token.
        presented: WorkerId,
    },
    /// The lease has ended already, in another way.
    #[error("this lease has already ended: {0}")]
    AlreadyClosed(String),
}

impl Aggregate for Run {
    type Command = RunCommand;
    type Event = RunEvent;
    type Error = RunRefusal;

    fn decide(&self, command: RunCommand) -> Result<Vec<RunEvent>, RunRefusal> {
        match command {
            RunCommand::Start(start) => self.decide_start(start),
            RunCommand::GrantLease { step_id, worker_id, lease_ms } => {
                self.decide_grant(step_id, worker_id, lease_ms)
            }
            RunCommand::Complete { token, worker_id, outcome, now } => {
                self.decide_complete(token, &worker_id, outcome, now)
            }
            RunCommand::ExpireLease { token } => {
                let i = self.lease_step(token)?;
                Ok(if self.is_open(i, token) { self.decide_expired(i) } else { vec![] })
            }
            RunCommand::TimeOut { token, now } => {
                let i = self.lease_step(token)?;
                let ended = Outcome::TimedOut;
                if self.is_open(i, token) { self.decide_outcome(i, ended, now) } else { Ok(vec![]) }
            }
            RunCommand::QueueRetry { step_id, now } => self.decide_queue_retry(&step_id, now),
            RunCommand::Cancel { reason } => self.decide_cancel(reason),
        }
    }

    fn evolve(&mut self, event: &RunEvent) {
        self.fold(event);
    }
}

impl Run {
    /// The step's `with`, its expressions resolved: what a worker is given.
    ///
    /// # Errors
    /// [`RenderError`] names the expression that refers to something which is not there.
    pub fn render_with(&self, step: &Step) -> Result<CanonicalJson, RenderError> {
        let nothing = CanonicalJson::empty_object();
        let outputs = |step: StepIndex| self.steps.get(step.get())?.outputs.as_ref();
        let inputs = self.request.as_ref().map_or(&nothing, |request| &request.inputs);
        step.with.render(&Scope { inputs, outputs: &outputs })
    }

    fn decide_start(&self, start: StartRun) -> Result<Vec<RunEvent>, RunRefusal> {
        let inputs_hash = hash::inputs_hash(&start.inputs);
        if let Some(have) = &self.created {
            let same = have.dag_id == *start.spec.id()
                && have.inputs_hash == inputs_hash
                && (!start.version_is_explicit || have.dag_version == start.dag_version);
            return if same { Ok(vec![]) } else { Err(token_conflict(have, &start, &inputs_hash)) };
        }
        check_labels(&start.labels)?;
        start.spec.check_inputs(&start.inputs).map_err(|violations| RunRefusal::InputsInvalid {
            dag_id: start.spec.id().clone(),
            violations,
        })?;
        let dag_id = start.spec.id();
        let concurrency = start.spec.concurrency();
        let concurrency =
            concurrency.map(|concurrency| concurrency.of_run(dag_id, &start.inputs)).transpose();
        let concurrency = concurrency.map_err(|violation| RunRefusal::InputsInvalid {
            dag_id: dag_id.clone(),
            violations: vec![violation],
        })?;
        let created = RunCreated {
            attempt: start.attempt,
            concurrency,
            dag_digest: start.spec.digest().to_owned(),
            dag_id: start.spec.id().clone(),
            dag_version: start.dag_version,
            inputs_hash,
            priority: start.priority,
            schedule: start.schedule,
            spec: Some(Arc::clone(&start.spec)),
        };
        let request = RunRequest {
            inputs: start.inputs,
            labels: start.labels,
            run_token: start.run_token.map(|token| token.to_string()),
        };
        let roots = start.spec.steps().iter().filter(|step| step.needs.is_empty());
        let mut events = vec![];
        events.extend(roots.take(QUEUE_WAVE).map(|step| queued(step, 1, &created)));
        events.insert(0, RunEvent::RunCreated(created, Some(request)));
        Ok(events)
    }

    fn decide_grant(
        &self,
        step_id: StepId,
        worker_id: WorkerId,
        lease_ms: u64,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let i = self.waiting_step(&step_id)?;
        let (step, record) = (self.spec_step(i)?, &self.steps[i]);
        if record.phase != StepPhase::Queued || self.status() != Some(RunStatus::Running) {
            return Err(RunRefusal::NotQueued(step_id));
        }
        let attempt = record.attempt;
        if let Err(error) = self.render_with(step) {
            let data = StepFailed {
                attempt,
                error_code: ErrorCode::lenient(ErrorCode::EXPRESSION),
                step_id,
            };
            let closing = Closing::Failed(data.error_code.clone());
            let mut events = vec![RunEvent::StepFailed(data, message(&error.to_string()))];
            events.extend(self.end_after(i, &closing, self.running));
            return Ok(events);
        }
        let started = StepStarted { attempt, lease_ms, step_id, worker_id };
        let mut events = vec![RunEvent::StepStarted(started)];
        self.queue_ready(&mut events, &[], self.queued - 1);
        Ok(events)
    }

    fn decide_complete(
        &self,
        token: u64,
        worker_id: &WorkerId,
        outcome: Outcome,
        now: Timestamp,
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
            (None, outcome) => self.decide_outcome(i, outcome, now),
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
            // Given back counts as expired; who lost the lease and gives it back wants no more.
            | (Some(Closing::Cancelled | Closing::Expired), Outcome::Cancelled) => Ok(vec![]),
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
        now: Timestamp,
    ) -> Result<Vec<RunEvent>, RunRefusal> {
        let step = self.spec_step(i)?;
        let at = StepAttempt { attempt: self.steps[i].attempt, step_id: step.id.clone() };
        Ok(match outcome {
            Outcome::Succeeded { outputs } => self.decide_succeeded(i, at, outputs),
            Outcome::Failed { code, message: text, retryable } => {
                let closing = Closing::Failed(code.clone());
                let data =
                    StepFailed { attempt: at.attempt, error_code: code, step_id: at.step_id };
                let failed = RunEvent::StepFailed(data, message(&text));
                self.decide_unsuccessful(i, failed, &closing, retryable, now)
            }
            Outcome::TimedOut => {
                let timed_out = RunEvent::StepTimedOut(at);
                self.decide_unsuccessful(i, timed_out, &Closing::TimedOut, true, now)
            }
            // Not asked for: the worker gives the lease back.
            Outcome::Cancelled if self.status() == Some(RunStatus::Running) => {
                self.decide_expired(i)
            }
            Outcome::Cancelled => {
                let mut events = vec![RunEvent::StepCancelled(at)];
                events.extend(self.end_after(i, &Closing::Cancelled, self.running - 1));
                events
            }
        })
    }

    fn decide_succeeded(&self, i: usize, at: StepAttempt, outputs: CanonicalJson) -> Vec<RunEvent> {
        let mut events = vec![RunEvent::StepSucceeded(at, Some(StepOutputs { outputs }))];
        if self.status() != Some(RunStatus::Running) {
            events.extend(self.end_after(i, &Closing::Succeeded, self.running - 1));
        } else if self.succeeded + 1 == self.steps.len() {
            events.push(RunEvent::RunSucceeded(NoData {}));
        } else {
            let dependents = self.spec().map_or(&[][..], |spec| &spec.steps()[i].dependents);
            let newly_ready: Vec<usize> = dependents
                .iter()
                .map(|dependent| dependent.get())
                .filter(|d| self.steps[*d].unmet_needs == 1)
                .collect();
            self.queue_ready(&mut events, &newly_ready, self.queued);
        }
        events
    }

    fn decide_unsuccessful(
        &self,
        i: usize,
        ended: RunEvent,
        closing: &Closing,
        retryable: bool,
        now: Timestamp,
    ) -> Vec<RunEvent> {
        let mut events = vec![ended];
        let record = &self.steps[i];
        // Expired leases are attempts too, but not failures of the step.
        let failures = record.attempt.saturating_sub(record.expiries);
        let retry = self.spec().map(|spec| &spec.steps()[i]).filter(|step| {
            let running = self.status() == Some(RunStatus::Running);
            running && retryable && failures <= step.retry.max
        });
        match retry {
            Some(step) => {
                events.push(RunEvent::StepRetryScheduled(StepRetryScheduled {
                    attempt: record.attempt + 1,
                    not_before: now.plus_ms(step.retry.delay_ms(failures)),
                    step_id: step.id.clone(),
                }));
            }
            None => events.extend(self.end_after(i, closing, self.running - 1)),
        }
        events
    }

    fn decide_expired(&self, i: usize) -> Vec<RunEvent> {
        let record = &self.steps[i];
        let Some(step) = self.spec().map(|spec| &spec.steps()[i]) else { return vec![] };
        let at = StepAttempt { attempt: record.attempt, step_id: step.id.clone() };
        let mut events = vec![RunEvent::StepLeaseExpired(at)];
        let running = self.status() == Some(RunStatus::Running);
        if running && record.expiries < LEASE_EXPIRIES {
            events.extend(self.queued(step, record.attempt + 1));
        } else {
            events.extend(self.end_after(i, &Closing::Expired, self.running - 1));
        }
        events
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
        Ok(self.queued(self.spec_step(i)?, record.attempt + 1).into_iter().collect())
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
            | RunStatus::Cancelled => Ok(vec![]),
        }
    }

    /// The run's end, if after step `i` ended so for good only `running` steps still run.
    fn end_after(&self, i: usize, closing: &Closing, running: usize) -> Option<RunEvent> {
        if running > 0 {
            return None;
        }
        if self.cancel_requested {
            return Some(RunEvent::RunCancelled(NoData {}));
        }
        let failure = self.failure.clone().or_else(|| {
            let step_id = self.spec()?.steps()[i].id.clone();
            Some(crate::event::RunFailed { error_code: closing.error_code(), step_id })
        });
        failure.map(RunEvent::RunFailed)
    }

    /// Queue what is ready, as far as the wave goes: `queued` steps stand in it already.
    fn queue_ready(&self, events: &mut Vec<RunEvent>, newly_ready: &[usize], queued_now: usize) {
        let Some(spec) = self.spec() else { return };
        let room = QUEUE_WAVE.saturating_sub(queued_now);
        let ready = self.ready.iter().chain(newly_ready).take(room);
        events.extend(ready.filter_map(|i| self.queued(&spec.steps()[*i], 1)));
    }

    fn waiting_step(&self, id: &StepId) -> Result<usize, RunRefusal> {
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

    fn readable(&self) -> Result<(), RunRefusal> {
        let created = self.created.as_ref().ok_or(RunRefusal::Unknown)?;
        if created.spec.is_some() { Ok(()) } else { Err(RunRefusal::SpecMissing) }
    }

    fn spec_step(&self, i: usize) -> Result<&Step, RunRefusal> {
        Ok(&self.spec().ok_or(RunRefusal::SpecMissing)?.steps()[i])
    }

    /// The step's wait for a worker.
    fn queued(&self, step: &Step, attempt: u32) -> Option<RunEvent> {
        Some(queued(step, attempt, self.created.as_ref()?))
    }
}

/// Names stay within ASCII also because canonical JSON sorts members by UTF-16 units and a map of
/// Rust strings by bytes, which is the same order only there.
fn check_labels(labels: &Labels) -> Result<(), RunRefusal> {
    let fits = |name: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
        (1..=64).contains(&name.len()) && name.bytes().all(allowed)
    };
    let surplus = labels.keys().nth(LABELS);
    match labels.keys().find(|name| !fits(name)).or(surplus) {
        Some(name) => Err(RunRefusal::LabelRefused(name.chars().take(80).collect())),
        None => Ok(()),
    }
}

fn queued(step: &Step, attempt: u32, run: &RunCreated) -> RunEvent {
    RunEvent::StepQueued(StepQueued {
        attempt,
        concurrency: run.concurrency.clone(),
        plugin: step.plugin.clone(),
        priority: run.priority,
        step_id: step.id.clone(),
    })
}

fn message(text: &str) -> Option<Message> {
    let mut end = text.len().min(MESSAGE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // U+0000 cannot stand in canonical JSON; a plugin's words are kept otherwise as they are.
    Some(Message { message: text[..end].replace('\0', "\u{fffd}") })
}

fn token_conflict(have: &RunCreated, start: &StartRun, inputs_hash: &str) -> RunRefusal {
    let say = |dag: &DagId, version: u32, inputs: &str| {
        format!("DAG {dag} version {version} with inputs {inputs}")
    };
    RunRefusal::TokenConflict {
        have: say(&have.dag_id, have.dag_version, &have.inputs_hash),
        asked: say(start.spec.id(), start.dag_version, inputs_hash),
    }
}

impl std::fmt::Display for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Succeeded => f.write_str("it succeeded"),
            Self::Failed(code) => write!(f, "it failed with {code}"),
            Self::TimedOut => f.write_str("it timed out"),
            Self::Expired => f.write_str("it expired"),
            Self::Cancelled => f.write_str("it was cancelled"),
        }
    }
}
