//! Telemetry as it follows from the ledger: events → logs, metrics and traces of OpenTelemetry.
//!
//! Pure: the same events give the same records, ids included, so that whoever exports a window again, or
//! sends it twice, repeats itself instead of telling something else. What is told of a window follows
//! from the events in it alone.

mod directory;
mod manifest;
pub mod otlp;
mod runs;
mod source;
mod tally;

use std::sync::Arc;

use serde_json::Value;
use stella_domain::{
    aggregate::RunStatus,
    event::{ErrorCode, Event, RunEvent, ScheduleEvent},
    hash,
    ids::{LedgerId, RunId, StreamId},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;

pub use self::{
    directory::{TelemetryError, TelemetryWriter, check_free},
    manifest::{CheckError, FileFacts, Files, Manifest, TELEMETRY_FORMAT, check},
    runs::{OpenRun, Runs},
};
use self::{
    otlp::{
        AnyValue, Attributes, ERROR, INFO, INTERNAL, Link, LogRecord, Metric, Span, Status, WARN,
    },
    runs::Ended,
    tally::Tally,
};

/// Turns events into telemetry, commit by commit and in order.
#[derive(Debug, Clone)]
pub struct Mapper {
    ledger: Arc<LedgerId>,
    /// What began before is said to have begun then.
    from: Timestamp,
    with_payloads: bool,
    runs: Runs,
    tally: Tally,
}

/// What a commit gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// A record for each of its events.
    pub logs: Vec<LogRecord>,
    /// Runs and attempts that ended with it.
    pub spans: Vec<Span>,
}

impl Mapper {
    /// Begin with events recorded at `from` or later. `with_payloads`: logs carry what people and plugins
    /// wrote, where it is not erased.
    pub fn new(ledger: Arc<LedgerId>, from: Timestamp, with_payloads: bool) -> Self {
        Self { ledger, from, with_payloads, runs: Runs::default(), tally: Tally::new(from) }
    }

    /// What is known of runs.
    pub fn runs(&mut self) -> &mut Runs {
        &mut self.runs
    }

    /// Take account of a commit.
    pub fn told(&mut self, recorded: &Recorded) -> Told {
        let commit = &*recorded.commit;
        self.tally.reached(commit.last_seq() + 1);
        let mut told = Told::default();
        let mut of_run = None;
        if let StreamId::Run(run_id) = &commit.stream {
            of_run = Some((run_id.clone(), self.run_events(run_id, recorded, &mut told)));
        }
        for (i, event) in (0..).zip(&recorded.events) {
            let (seq, stream_version) = (commit.seq + i, commit.stream_version + i);
            let stored = &commit.events[i as usize];
            let mut attributes = Attributes::default();
            scalars(&mut attributes, stored.data.as_str());
            attributes.put("hash", stored.hash.to_string());
            attributes.put("seq", seq);
            attributes.put("stream", commit.stream.to_string());
            attributes.put("streamVersion", stream_version);
            attributes.put("actor", commit.actor.to_string());
            attributes.put("tenant", self.ledger.tenant.as_str());
            match &commit.stream {
                StreamId::Dag(id) => attributes.put("dagId", id.as_str()),
                StreamId::Schedule(id) => attributes.put("scheduleId", id.as_str()),
                StreamId::Ledger(_)
                | StreamId::Run(_)
                | StreamId::Control(_)
                | StreamId::Plugin(_) => {}
            }
            let (mut trace_id, mut span_id) = (None, None);
            if let Some((run_id, (run, spans))) = &of_run {
                attributes.put("runId", run_id.as_str());
                attributes.put_some("dagId", run.dag_id.as_ref());
                attributes.put_some("status", run.status().map(|status| status.as_str()));
                trace_id = Some(self.trace_id(run_id));
                span_id = spans.get(i as usize).cloned();
            }
            let payload = stored.payload.json().filter(|_| self.with_payloads);
            attributes.put_some("payload", payload);
            let (severity_number, severity_text) = severity(event);
            told.logs.push(LogRecord {
                time_unix_nano: commit.recorded_at,
                observed_time_unix_nano: commit.recorded_at,
                severity_number,
                severity_text,
                event_name: event.event_type(),
                body: event.event_type().into(),
                attributes,
                trace_id,
                span_id,
            });
        }
        told
    }

    /// The counters as they are, at `at`.
    pub fn metrics(&self, at: Timestamp) -> Vec<Metric> {
        self.tally.metrics(at)
    }

    /// The run after a commit of it, and for each of the events the span that it belongs to.
    fn run_events(
        &mut self,
        run_id: &RunId,
        recorded: &Recorded,
        told: &mut Told,
    ) -> (OpenRun, Vec<String>) {
        let commit = &*recorded.commit;
        let (at, mut spans) = (commit.recorded_at, vec![]);
        for (i, event) in (0..).zip(&recorded.events) {
            let Event::Run(event) = event else { continue };
            let version = commit.stream_version + i;
            let run = self.runs.run(run_id);
            let ended = run.apply(event, at, version);
            let dag_id = run.dag_id.clone();
            match event {
                RunEvent::RunCreated(..) => self.tally.started(&dag_id),
                RunEvent::StepRetryScheduled(data) => {
                    let step = run.steps.get(&data.step_id);
                    let plugin = step.and_then(|step| step.plugin.as_ref());
                    self.tally.retries(&dag_id, plugin);
                }
                RunEvent::StepLeaseExpired(data, _) => {
                    let step = run.steps.get(&data.step_id);
                    let plugin = step.and_then(|step| step.plugin.as_ref());
                    self.tally.lease_expired(&dag_id, plugin);
                }
                _ => {}
            }
            let span = match (&ended, event) {
                (Some(ended), _) => {
                    ended.begun.as_ref().map_or(version, |begun| begun.stream_version)
                }
                (None, RunEvent::StepStarted(_) | RunEvent::ApprovalRequested(..)) => version,
                (None, _) => 1,
            };
            spans.push(self.span_id(run_id, span));
            if let Some(ended) = ended {
                told.spans.push(self.attempt(run_id, version, at, ended));
            }
        }
        let run = self.runs.settle(run_id);
        if let Some(status) = run.status().filter(|status| status.is_ended()) {
            self.tally.ended(&run.dag_id, status);
            if let Some(created_at) = run.created_at() {
                self.tally.took(&run.dag_id, at.ms_since(created_at));
            }
            told.spans.push(self.run_span(run_id, &run, at));
        }
        (run, spans)
    }

    fn run_span(&self, run_id: &RunId, run: &OpenRun, at: Timestamp) -> Span {
        let mut attributes = self.of_run(run_id, run);
        let mut links = vec![];
        if let Some((_, created)) = &run.created {
            attributes.put("dagVersion", u64::from(created.dag_version));
            attributes.put("dagDigest", &*created.dag_digest);
            attributes.put("attempt", u64::from(created.attempt));
            if let Some(first) = &created.rerun_of {
                attributes.put("rerunOf", first.as_str());
                links
                    .push(Link { trace_id: self.trace_id(first), span_id: self.span_id(first, 1) });
            }
            if let Some(fire) = &created.schedule {
                attributes.put("scheduleId", fire.schedule_id.as_str());
                attributes.put("fireTime", fire.fire_time.to_string());
            }
        }
        attributes.put_some("errorCode", run.error_code());
        let timed_out = run.status() == Some(RunStatus::TimedOut);
        let status = match run.error_code() {
            Some(code) => Status::error(code),
            None if timed_out => Status::error(ErrorCode::TIMEOUT),
            None => Status::default(),
        };
        let name = run.dag_id.as_ref().map_or_else(|| "run".to_owned(), ToString::to_string);
        let span_id = self.span_id(run_id, 1);
        let span = self.span(run_id, span_id, name, run.created_at(), at, attributes);
        Span { parent_span_id: None, links, status, ..span }
    }

    fn attempt(&self, run_id: &RunId, version: u64, at: Timestamp, ended: Ended) -> Span {
        let Ended { step_id, begun, plugin, queued_at, attempt, status, error_code } = ended;
        let mut attributes = Attributes::default();
        attributes.put("tenant", self.ledger.tenant.as_str());
        attributes.put("runId", run_id.as_str());
        attributes.put("stepId", step_id.as_str());
        attributes.put("status", status);
        attributes.put_some("plugin", plugin);
        attributes.put_some("errorCode", error_code.as_ref());
        if let Some(attempt) = attempt {
            attributes.put("attempt", u64::from(attempt));
        }
        let worker_id = begun.as_ref().and_then(|begun| begun.worker_id.as_ref());
        attributes.put_some("workerId", worker_id);
        if let (Some(begun), Some(queued_at)) = (&begun, queued_at) {
            attributes.put("waitedMs", begun.at.ms_since(queued_at));
        }
        // The beginning's version is that of the fencing token: workers can name their own span.
        let begun_by = begun.as_ref().map_or(version, |begun| begun.stream_version);
        let span_id = self.span_id(run_id, begun_by);
        let begun_at = begun.map(|begun| begun.at);
        let status = error_code.map_or_else(Status::default, Status::error);
        Span { status, ..self.span(run_id, span_id, step_id.to_string(), begun_at, at, attributes) }
    }

    fn span(
        &self,
        run_id: &RunId,
        span_id: String,
        name: String,
        begun_at: Option<Timestamp>,
        at: Timestamp,
        mut attributes: Attributes,
    ) -> Span {
        if begun_at.is_none() {
            attributes.put("begunBefore", true);
        }
        Span {
            trace_id: self.trace_id(run_id),
            span_id,
            parent_span_id: Some(self.span_id(run_id, 1)),
            name,
            kind: INTERNAL,
            start_time_unix_nano: begun_at.unwrap_or_else(|| self.from.min(at)),
            end_time_unix_nano: at,
            attributes,
            links: vec![],
            status: Status::default(),
        }
    }

    fn of_run(&self, run_id: &RunId, run: &OpenRun) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.put("tenant", self.ledger.tenant.as_str());
        attributes.put("runId", run_id.as_str());
        attributes.put_some("dagId", run.dag_id.as_ref());
        attributes.put_some("status", run.status().map(|status| status.as_str()));
        attributes
    }

    fn trace_id(&self, run_id: &RunId) -> String {
        hash::trace_id(&self.ledger, run_id)
    }

    fn span_id(&self, run_id: &RunId, stream_version: u64) -> String {
        hash::span_id(&self.ledger, run_id, stream_version)
    }
}

/// The text, numbers and flags that an event's data holds: ids, attempts, codes. What is nested, such as
/// specs, is left out.
fn scalars(attributes: &mut Attributes, data: &str) {
    let Ok(Value::Object(members)) = serde_json::from_str(data) else { return };
    for (name, value) in members {
        let value: AnyValue = match value {
            Value::String(text) => text.into(),
            Value::Bool(yes) => yes.into(),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => AnyValue::IntValue(integer.to_string()),
                None => AnyValue::DoubleValue(number.as_f64().unwrap_or_default()),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        attributes.put(&name, value);
    }
}

/// How bad news is.
fn severity(event: &Event) -> (u8, &'static str) {
    match event {
        Event::Run(RunEvent::RunFailed(_) | RunEvent::RunTimedOut(_)) => (ERROR, "ERROR"),
        Event::Run(
            RunEvent::StepFailed(..)
            | RunEvent::StepTimedOut(..)
            | RunEvent::StepLeaseExpired(..)
            | RunEvent::StepRejected(..)
            | RunEvent::RunDeadlinePassed(_),
        )
        | Event::Schedule(ScheduleEvent::ScheduleMissed(_)) => (WARN, "WARN"),
        Event::Run(_)
        | Event::Schedule(_)
        | Event::Dag(_)
        | Event::Control(_)
        | Event::Ledger(_) => (INFO, "INFO"),
    }
}
