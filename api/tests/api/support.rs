//! A node to speak to, and the shortest way to speak to it.

use std::{path::PathBuf, time::Duration};

use reqwest::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Value, json};
use stella_api::{
    node::{Node, NodeConfig, OtlpConfig, checkpoints::CheckpointsConfig},
    slo::SloTargets,
};
use stella_ledger::uri::LedgerUri;

pub(crate) const PREFIX: &str = "/api/v1/orchestrator";

/// A DAG of one step that takes any inputs and gives them back.
pub(crate) const ECHO: &str = "\
id: echo
inputs: {type: object, properties: {n: {type: integer}, who: {type: string}}}
steps:
  - {id: say, plugin: core, action: echo, with: {said: '${inputs}'}}
";

/// A DAG whose step goes on until it is cancelled.
pub(crate) const SLOW: &str = "\
id: slow
steps:
  - {id: nap, plugin: core, action: sleep, with: {ms: 600000}}
";

/// A DAG that waits for an operator, twice.
pub(crate) const GATED: &str = "\
id: gated
steps:
  - {id: first, approval: {message: 'well?'}}
  - {id: second, needs: [first], approval: {}}
";

/// A running node; its files go with it.
pub(crate) struct Api {
    node: Option<Node>,
    client: reqwest::Client,
    token: String,
    base: String,
    dir: tempfile::TempDir,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with_concurrency(4).await
    }

    /// Without a worker, steps stay in the queue.
    pub(crate) async fn without_worker() -> Self {
        Self::with_concurrency(0).await
    }

    /// Another node on the same ledger, with a key of its own, that may not erase.
    pub(crate) async fn beside(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(self.dir.path().join("ledger.sqlite"), dir, 0, false, None).await
    }

    /// One that sends telemetry there.
    pub(crate) async fn telling(endpoint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics_every = Duration::from_millis(200);
        let otlp = OtlpConfig { endpoint: endpoint.parse().unwrap(), metrics_every };
        Self::on(dir.path().join("ledger.sqlite"), dir, 4, true, Some(otlp)).await
    }

    async fn with_concurrency(concurrency: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(dir.path().join("ledger.sqlite"), dir, concurrency, true, None).await
    }

    async fn on(
        ledger: PathBuf,
        dir: tempfile::TempDir,
        concurrency: u32,
        may_erase: bool,
        otlp: Option<OtlpConfig>,
    ) -> Self {
        let ledger = LedgerUri::Sqlite(ledger);
        let erasure = may_erase.then(|| ledger.clone());
        let node = Node::start(NodeConfig {
            ledger,
            data_dir: dir.path().into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            origin: "stella.test".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            plugins: vec![],
            plugin_keys: vec![],
            remote_plugins: vec![],
            concurrency,
            lease_ms: 30_000,
            strict: false,
            slo: SloTargets { duration_ms: 60_000, ..SloTargets::default() },
            artifacts: None,
            checkpoints: CheckpointsConfig::default(),
            erasure,
            otlp,
        })
        .await
        .unwrap();
        let token = std::fs::read_to_string(&node.token_path).unwrap().trim().to_owned();
        let base = format!("http://{}", node.addr);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { node: Some(node), client, token, base, dir }
    }

    pub(crate) async fn stop(mut self) {
        self.node.take().unwrap().stop().await;
    }

    /// Stop it; its files stay for as long as the answer is held.
    pub(crate) async fn stop_keeping_files(mut self) -> tempfile::TempDir {
        self.node.take().unwrap().stop().await;
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.dir.path())
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.node.as_ref().unwrap().addr
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// A request without credentials, to a path from the root.
    pub(crate) fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A request with credentials, to a path below the prefix.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.bare(method, &format!("{PREFIX}{path}")).header(AUTHORIZATION, self.bearer())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, "application/json", body.to_string()).await
    }

    pub(crate) async fn post_text(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, content_type);
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    pub(crate) async fn post_nothing(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::POST, path).send().await.unwrap()).await
    }

    pub(crate) async fn register(&self, yaml: &'static str) {
        let answer = self.post_text("/dags", "application/yaml", yaml).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Start a run and wait for its end.
    pub(crate) async fn finished(&self, dag_id: &str, inputs: &Value) -> Value {
        let body = json!({"dagId": dag_id, "inputs": inputs});
        let answer = self.post("/runs?wait=30s", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.body
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, body, text }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Check that this is a problem of this status and code, with a detail for people.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status.as_u16(), &self.body["code"]), (status, &json!(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], "about:blank");
        assert_eq!(self.body["title"], self.status.canonical_reason().unwrap());
        assert!(self.body["detail"].as_str().is_some_and(|text| text.len() > 10), "{self:?}");
        self
    }

    /// What is not as it should be, if anything.
    pub(crate) fn mismatch(&self, status: u16, code: &str, names: &str) -> Option<String> {
        let detail = self.body["detail"].as_str().unwrap_or_default();
        let fits = self.status.as_u16() == status
            && self.body["code"] == code
            && detail.contains(names)
            && self.header("content-type") == "application/problem+json";
        (!fits).then(|| format!("expected {status} {code} naming {names:?}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn detail_has(&self, part: &str) {
        let detail = self.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(part), "{part:?} is not in {detail:?}");
    }
}
