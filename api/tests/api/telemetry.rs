//! Telemetry that is sent: what comes, that it comes in spite of trouble, and that nobody waits for it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Api, ECHO};

const PATIENCE: Duration = Duration::from_secs(30);

/// An endpoint that keeps what comes.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    /// Requests: of which signal, and what they held.
    taken: Vec<(String, Value)>,
    /// Requests that are still refused.
    busy: usize,
}

impl Collector {
    /// One that is busy for the first `busy` requests; the answer is its endpoint, too.
    async fn start(busy: usize) -> (Self, String) {
        let collector = Self::default();
        collector.0.lock().unwrap().busy = busy;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/otlp", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/otlp/v1/{signal}", post(Self::take))
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, endpoint)
    }

    async fn take(
        State(this): State<Self>,
        uri: Uri,
        headers: HeaderMap,
        body: String,
    ) -> StatusCode {
        assert_eq!(headers["content-type"], "application/json");
        let Collected { taken, busy } = &mut *this.0.lock().unwrap();
        if *busy > 0 {
            *busy -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let signal = uri.path().rsplit('/').next().unwrap().to_owned();
        taken.push((signal, serde_json::from_str(&body).unwrap()));
        StatusCode::OK
    }

    /// Wait until something of this signal has this text in it.
    async fn has(&self, signal: &str, text: &str) {
        let came = async {
            loop {
                let has =
                    |(of, body): &(String, Value)| of == signal && body.to_string().contains(text);
                if self.0.lock().unwrap().taken.iter().any(has) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, came).await;
        came.unwrap_or_else(|_| {
            panic!("no {signal} with {text}: {:?}", self.0.lock().unwrap().taken)
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_arrives_as_trace_logs_and_counters_after_the_collector_was_busy() {
    let (collector, endpoint) = Collector::start(2).await;
    let api = Api::telling(&endpoint).await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({"who": "s3cr3t"})).await;
    let run_id = run["runId"].as_str().unwrap();
    collector.has("traces", run_id).await;
    collector.has("logs", "RunSucceeded").await;
    collector.has("metrics", "orchestrator.run.duration").await;
    let taken = collector.0.lock().unwrap().taken.clone();
    let all = Value::from(taken.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>());
    assert!(!all.to_string().contains("s3cr3t"), "what people write is not sent");
    let traces = taken.iter().find(|(signal, _)| signal == "traces").unwrap();
    let spans = &traces.1["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let names: Vec<_> = spans.as_array().unwrap().iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["say", "echo"]);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_a_stop_is_sent_before_it_ends() {
    let (collector, endpoint) = Collector::start(0).await;
    let api = Api::telling(&endpoint).await;
    api.register(ECHO).await;
    let inputs = json!({});
    let finished = (0..20).map(|_| api.finished("echo", &inputs));
    let runs = futures::future::join_all(finished).await;
    api.stop().await;
    let taken = collector.0.lock().unwrap().taken.clone();
    let traces: Vec<_> = taken.iter().filter(|(of, _)| of == "traces").collect();
    let traces = traces.iter().map(|(_, body)| body.to_string()).collect::<String>();
    for run in runs {
        let run_id = run["runId"].as_str().unwrap();
        assert!(traces.contains(run_id), "{run_id} is missing in {traces}");
    }
}

/// It takes connections and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = Api::telling(&format!("http://{}", listener.local_addr().unwrap())).await;
    api.register(ECHO).await;
    for _ in 0..20 {
        let run = api.finished("echo", &json!({})).await;
        assert_eq!(run["status"], "succeeded");
    }
    api.stop().await;
}
