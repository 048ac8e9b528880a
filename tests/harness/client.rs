//! An HTTP client that is strict about answers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// Where every route of the orchestrator begins.
pub const BASE: &str = "/api/v1/orchestrator";
/// More than the longest `wait`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// A client of a server that may be restarted at another address; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Arc<Mutex<SocketAddr>>,
    token: Arc<str>,
}

/// An answer, whatever it is.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub asked: String,
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Client {
    /// A client that presents `token`.
    pub fn new(server: SocketAddr, token: &str) -> Self {
        let http = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build().unwrap();
        Self { http, server: Arc::new(Mutex::new(server)), token: token.into() }
    }

    /// The server has come back somewhere else.
    pub(crate) fn moved(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    /// Where the server listens.
    pub fn server(&self) -> SocketAddr {
        *self.server.lock().unwrap()
    }

    /// What it presents.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ask, and take any answer; `Err` when there is none.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer, reqwest::Error> {
        let path = if path.starts_with('/') { format!("{BASE}{path}") } else { format!("/{path}") };
        let url = format!("http://{}{path}", self.server());
        let mut request = self.http.request(method.clone(), url).bearer_auth(&self.token);
        if let Some((media_type, body)) = body {
            request = request.header("content-type", media_type).body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        Ok(Answer { asked: format!("{method} {path}"), status, headers, text })
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&str, Vec<u8>)>) -> Answer {
        let answer = self.try_send(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: no answer: {error}"))
    }

    /// GET a path below [`BASE`]; one without a leading `/` stands at the root.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// POST a JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, "application/json", body.to_string()).await
    }

    /// POST any text.
    pub async fn post_text(
        &self,
        path: &str,
        media_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        self.send(Method::POST, path, Some((media_type, body.into()))).await
    }

    /// POST nothing.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.send(Method::POST, path, None).await
    }

    /// Register a DAG, and answer its version.
    #[track_caller]
    pub fn register(&self, spec: &Value) -> impl Future<Output = u64> {
        let at = std::panic::Location::caller();
        async move {
            let answer = self.post("/dags", spec).await;
            assert!(answer.is_success(), "at {at}: {answer:?}");
            answer.json()["version"].as_u64().unwrap()
        }
    }

    /// Start a run, wait for its end, and answer how it stands.
    pub async fn run(&self, body: &Value) -> Value {
        self.post("/runs?wait=30s", body).await.ok()
    }

    /// Wait for a run's end, and answer how it stands.
    pub async fn ended(&self, run_id: &str) -> Value {
        self.get(&format!("/runs/{run_id}?wait=30s")).await.ok()
    }

    /// A step of a run, as of the seq that an answer about the run gave.
    pub async fn step(&self, run: &Value, step_id: &str) -> Value {
        let (run_id, seq) = (run["runId"].as_str().unwrap(), &run["seq"]);
        let steps = self.get(&format!("/runs/{run_id}/steps?minSeq={seq}")).await.ok();
        let steps = steps["items"].as_array().unwrap().clone();
        steps.into_iter().find(|step| step["stepId"] == step_id).expect("the step is listed")
    }
}

impl Answer {
    /// Whether the status says success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.asked, self.text))
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.is_success(), "{}: {} {}", self.asked, self.status, self.text);
        self.json()
    }

    /// The problem of a refusal, as RFC 9457 has it, of this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let said = || format!("{}: {} {}", self.asked, self.status, self.text);
        assert_eq!(self.status, status, "{}", said());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", said());
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()));
        assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 10), "{}", said());
        problem
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
