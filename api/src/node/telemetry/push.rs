//! OpenTelemetry over HTTP, as JSON: traces and logs of what is recorded, and counters, to the one
//! endpoint that was named. Off unless it was.
//!
//! What waits to be sent is bounded, and what finds no room is counted and left out: nothing here may hold
//! up who records. `stella orch telemetry export` has everything.

use std::{str::FromStr, sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, Url, header, redirect};
use stella_domain::{ids::LedgerId, time::Timestamp};
use stella_ledger::clock::{Clock as _, SystemClock};
use stella_replay::telemetry::{
    Mapper,
    otlp::{Batch, Signal},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use super::Committed;

/// Requests that wait to be sent.
const WAITING_REQUESTS: usize = 64;
/// A request is made when it has so many records, or bytes; or when it has waited so long.
const REQUEST_RECORDS: usize = 1_000;
const REQUEST_BYTES: usize = 1024 * 1024;
const REQUEST_EVERY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// How often a request is tried, with pauses that double: half a minute together.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Where telemetry is sent, and how often.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    /// Where to.
    pub endpoint: OtlpEndpoint,
    /// Between two times that counters are sent.
    pub metrics_every: Duration,
}

/// An OTLP/HTTP endpoint: `/v1/traces`, `/v1/logs` and `/v1/metrics` are below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(Url);

/// Why a text is no such endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No URL.
    #[error("{0}: write it like http://127.0.0.1:4318")]
    Url(String),
    /// Of another kind.
    #[error("{0}:// is not spoken: write it like http://127.0.0.1:4318")]
    Scheme(String),
}

impl FromStr for OtlpEndpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|error| EndpointError::Url(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            other => Err(EndpointError::Scheme(other.to_owned())),
        }
    }
}

impl OtlpEndpoint {
    fn of(&self, signal: Signal) -> Url {
        let mut url = self.0.clone();
        let prefix = self.0.path().trim_end_matches('/');
        url.set_path(&format!("{prefix}/v1/{}", signal.as_str()));
        url
    }
}

/// A request that waits to be sent.
struct Request {
    signal: Signal,
    body: String,
    records: usize,
}

/// Send what is recorded, until nothing more comes.
pub(super) async fn push(config: OtlpConfig, committed: Committed) {
    let http = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWERS_WITHIN)
        .build();
    let http = match http {
        Ok(http) => http,
        Err(error) => {
            return tracing::error!(%error, "telemetry is not sent: no HTTP can be spoken");
        }
    };
    let (sender, receiver) = mpsc::channel(WAITING_REQUESTS);
    let sending = tokio::spawn(send_each(http, config.endpoint.clone(), receiver));
    let sending = AbortOnDropHandle::new(sending);
    let mut collect = Collect::new(&committed.name, sender);
    collect.all(committed, config.metrics_every).await;
    // Nothing more comes: it ends with what waits.
    drop(collect);
    let _ = sending.await;
}

/// Turns what is recorded into requests.
struct Collect {
    mapper: Mapper,
    logs: Batch,
    metrics: Batch,
    traces: Batch,
    sender: Sender<Request>,
    /// Records that found no room since that was told.
    left_out: usize,
}

impl Collect {
    fn new(name: &LedgerId, sender: Sender<Request>) -> Self {
        let batch = |signal| Batch::new(signal, name);
        let mapper = Mapper::new(Arc::new(name.clone()), SystemClock.now(), false);
        let (logs, metrics, traces) =
            (batch(Signal::Logs), batch(Signal::Metrics), batch(Signal::Traces));
        Self { mapper, logs, metrics, traces, sender, left_out: 0 }
    }

    async fn all(&mut self, mut committed: Committed, every: Duration) {
        let mut flush = tokio::time::interval(REQUEST_EVERY);
        let mut measure = tokio::time::interval_at(Instant::now() + every, every);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                recorded = committed.next(self.mapper.runs()) => {
                    let Some(recorded) = recorded else { break };
                    let told = self.mapper.told(&recorded);
                    told.logs.iter().for_each(|record| self.logs.push(record));
                    told.spans.iter().for_each(|span| self.traces.push(span));
                    self.request_full();
                }
                _ = flush.tick() => self.request_all(),
                _ = measure.tick() => self.measure(SystemClock.now()),
            }
        }
        self.measure(SystemClock.now());
        self.request_all();
    }

    fn measure(&mut self, at: Timestamp) {
        self.mapper.metrics(at).iter().for_each(|metric| self.metrics.push(metric));
        request(&mut self.metrics, Signal::Metrics, &self.sender, &mut self.left_out);
    }

    fn request_full(&mut self) {
        let Self { logs, traces, sender, left_out, .. } = self;
        for (batch, signal) in [(logs, Signal::Logs), (traces, Signal::Traces)] {
            if batch.records() >= REQUEST_RECORDS || batch.bytes() >= REQUEST_BYTES {
                request(batch, signal, sender, left_out);
            }
        }
    }

    fn request_all(&mut self) {
        let Self { logs, traces, sender, left_out, .. } = self;
        request(logs, Signal::Logs, sender, left_out);
        request(traces, Signal::Traces, sender, left_out);
        if *left_out > 0 && sender.capacity() > 0 {
            let records = std::mem::take(left_out);
            tracing::warn!(records, "telemetry was left out: the collector does not keep up");
        }
    }
}

/// What the batch holds, as a request, if there is room for one.
fn request(batch: &mut Batch, signal: Signal, sender: &Sender<Request>, left_out: &mut usize) {
    let Some((body, records)) = batch.take() else { return };
    if sender.try_send(Request { signal, body, records }).is_err() {
        *left_out += records;
    }
}

async fn send_each(http: Client, endpoint: OtlpEndpoint, mut requests: Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        let (signal, records) = (request.signal.as_str(), request.records);
        if let Err(reason) = send(&http, &endpoint, request).await {
            tracing::warn!(signal, records, %reason, "telemetry was left out");
        }
    }
}

/// Send it, again where that may help.
async fn send(http: &Client, endpoint: &OtlpEndpoint, request: Request) -> Result<(), String> {
    let Request { signal, body, .. } = request;
    let body = bytes::Bytes::from(body);
    let url = endpoint.of(signal);
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let sent = http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.clone())
            .send()
            .await;
        let (reason, may_pass) = match sent {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                (format!("{url} answers {status}"), may_pass(status))
            }
            // Its own text names the URL, and what reqwest found out.
            Err(error) => (error.to_string(), true),
        };
        if !may_pass || attempt == ATTEMPTS {
            return Err(reason);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// What the protocol says to try again.
fn may_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
