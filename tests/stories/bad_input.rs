//! What comes in wrong gets a clear answer, and leaves no trace in the ledger.

use harness::server::TestServer;
use serde_json::{Value, json};

fn strict() -> Value {
    json!({
        "id": "strict",
        "inputs": {
            "type": "object",
            "properties": { "name": { "type": "string" }, "n": { "type": "integer" } },
            "required": ["name", "n"],
            "additionalProperties": false,
        },
        "steps": [{"id": "a", "plugin": "core", "action": "noop"}],
    })
}

/// A body, and the status and code that it is answered with.
const BODIES: &[(&str, u16, &str)] = &[
    ("", 400, "MALFORMED_JSON"),
    ("{", 400, "MALFORMED_JSON"),
    ("{} {}", 400, "MALFORMED_JSON"),
    ("[]", 400, "INVALID_BODY"),
    (r#"{"dagId": 7}"#, 400, "INVALID_BODY"),
    (r#"{"dagId": "strict", "input": {}}"#, 400, "INVALID_BODY"),
    (r#"{"dagId": "not a name"}"#, 400, "INVALID_BODY"),
    (r#"{"dagId": "strict", "runToken": ""}"#, 400, "INVALID_BODY"),
    (r#"{"dagId": "strict", "inputs": {"n": 9007199254740992}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "inputs": {"n": -9007199254740992}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "inputs": {"n": 1e400}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "inputs": {"n": 1, "n": 2}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "dagId": "strict"}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "inputs": {"name": "\u0000"}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "strict", "inputs": {"name": "\ud800"}}"#, 400, "MALFORMED_JSON"),
    (r#"{"dagId": "nothing"}"#, 404, "DAG_NOT_FOUND"),
    (r#"{"dagId": "strict", "dagVersion": 7}"#, 404, "DAG_VERSION_NOT_FOUND"),
];

/// Paths that are asked for, and the status and code that each is answered with.
const PATHS: &[(&str, u16, &str)] = &[
    ("/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "RUN_NOT_FOUND"),
    ("/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/steps", 404, "RUN_NOT_FOUND"),
    ("/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV/ledger", 404, "RUN_NOT_FOUND"),
    ("/runs/nonsense", 400, "INVALID_PATH"),
    ("/runs?status=nonsense", 400, "INVALID_QUERY"),
    ("/runs?pageSize=0", 400, "INVALID_QUERY"),
    ("/runs?pageToken=x", 400, "INVALID_QUERY"),
    ("/runs?unknown=1", 400, "INVALID_QUERY"),
    ("/runs?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", 400, "WINDOW_INVALID"),
    ("/dags/nothing", 404, "DAG_NOT_FOUND"),
    ("/dags/strict/versions/2", 404, "DAG_VERSION_NOT_FOUND"),
    ("/ledger/export?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", 400, "WINDOW_INVALID"),
    ("/ledger/export?to=2999-01-01T00:00:00Z", 409, "WINDOW_OPEN"),
    ("/ledger/export?to=yesterday", 400, "INVALID_QUERY"),
    ("/ledger/proofs/window", 400, "INVALID_QUERY"),
    (
        "/ledger/proofs/window?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z",
        400,
        "WINDOW_INVALID",
    ),
    ("/ledger/proofs/window?to=2026-11-01T00:00:00Z&since=-1", 400, "INVALID_QUERY"),
    ("/nothing", 404, "ROUTE_NOT_FOUND"),
];

#[tokio::test]
async fn bad_requests_are_refused_and_leave_no_trace() {
    let server = TestServer::start().await;
    let client = &server.client;
    client.register(&strict()).await;
    let head = client.get("/ledger/head").await.ok();
    let last = head["size"].as_u64().unwrap() - 1;
    client.get(&format!("/runs?minSeq={last}")).await.ok();
    for (body, status, code) in BODIES {
        client.post_text("/runs", "application/json", *body).await.problem(*status, code);
    }
    for (path, status, code) in PATHS {
        client.get(path).await.problem(*status, code);
    }
    let bytes = vec![b'"', 0xff, b'"'];
    client.post_text("/runs", "application/json", bytes).await.problem(400, "MALFORMED_TEXT");
    client.post_text("/runs", "text/plain", "{}").await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let cancel = "/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV:cancel";
    client.post_empty(cancel).await.problem(404, "RUN_NOT_FOUND");

    let large = "x".repeat(1024 * 1024);
    let body = json!({"dagId": "strict", "inputs": {"name": large}});
    client.post("/runs", &body).await.problem(413, "BODY_TOO_LARGE");
    let many: serde_json::Map<_, _> = (0..20_000).map(|i| (i.to_string(), json!(i))).collect();
    let body = json!({"dagId": "strict", "inputs": many});
    let problem = client.post("/runs", &body).await.problem(422, "EVENT_TOO_LARGE");
    assert!(problem["detail"].as_str().unwrap().contains("61440"), "{problem}");
    // One large member would be an artifact; this one is none, because its run is refused.
    let large = "x".repeat(65 * 1024);
    let body = json!({"dagId": "strict", "inputs": {"name": large, "n": "no number"}});
    client.post("/runs", &body).await.problem(422, "INPUTS_INVALID");
    let kept = server.data_dir().join("artifacts/stella.local/main");
    let kept: usize = std::fs::read_dir(kept)
        .into_iter()
        .flatten()
        .flatten()
        .map(|run| std::fs::read_dir(run.path()).unwrap().count())
        .sum();
    assert_eq!(kept, 0, "nothing of it was kept");
    assert_eq!(client.get("/ledger/head").await.ok(), head, "nothing of it was recorded");

    let largest =
        json!({"dagId": "strict", "inputs": {"name": "x", "n": 9_007_199_254_740_991_u64}});
    assert_eq!(client.run(&largest).await["status"], "succeeded");
}

#[tokio::test]
async fn every_violation_of_an_input_schema_is_listed() {
    let server = TestServer::start().await;
    server.client.register(&strict()).await;
    let body = json!({"dagId": "strict", "inputs": {"n": "one", "more": true}});
    let problem = server.client.post("/runs", &body).await.problem(422, "INPUTS_INVALID");
    let errors = problem["errors"].as_array().unwrap();
    for says in ["name", "integer", "more"] {
        let said = |e: &Value| e["message"].as_str().unwrap().contains(says);
        assert!(errors.iter().any(said), "nothing about {says}: {problem}");
    }
}

#[tokio::test]
async fn every_error_of_a_spec_is_listed_with_its_path() {
    let server = TestServer::start().await;
    let client = &server.client;
    let yaml = "\
id: broken
colour: blue
steps:
  - { id: a, plugin: core, action: noop, needs: [b] }
  - { id: b, plugin: core, action: noop, needs: [a, nobody] }
  - { id: b, plugin: core, action: dance }
  - { id: c, plugin: absent, action: go, with: { x: '${steps.zzz.outputs.y}' } }
";
    let problem = client.post_text("/dags:validate", "application/yaml", yaml).await;
    let problem = problem.problem(422, "SPEC_INVALID");
    let paths: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    for path in ["colour", "steps[1].needs[1]", "steps[2].id", "steps[2].action", "steps[3].plugin"]
    {
        assert!(paths.contains(&path), "nothing about {path}: {problem}");
    }
    assert!(problem.to_string().contains("cycle"), "{problem}");
    client.post_text("/dags", "application/yaml", yaml).await.problem(422, "SPEC_INVALID");
    client.post_text("/dags", "application/yaml", "a: [").await.problem(422, "SPEC_INVALID");
    assert_eq!(client.get("/dags").await.ok()["items"], json!([]));

    let yaml = "id: fine\nsteps:\n  - { id: a, plugin: core, action: noop }\n";
    let valid = client.post_text("/dags:validate", "application/yaml", yaml).await.ok();
    assert_eq!((&valid["dagId"], &valid["steps"]), (&json!("fine"), &json!(1)));
    assert_eq!(client.get("/dags").await.ok()["items"], json!([]), "validating registers nothing");
}

#[tokio::test]
async fn only_who_holds_the_token_is_let_in() {
    let server = TestServer::start().await;
    let stranger = harness::client::Client::new(server.client.server(), &"0".repeat(64));
    stranger.get("/runs").await.problem(401, "UNAUTHORIZED");
    stranger.post("/runs", &json!({"dagId": "x"})).await.problem(401, "UNAUTHORIZED");
    let everywhere = ["serve", "--listen", "0.0.0.0:0", "--data-dir", &server.scratch("other")];
    harness::stella::run(&everywhere, 2).await;
}

/// What chooses among many runs has no sense beside the one that is named: above all not a dry run.
#[tokio::test]
async fn a_rerun_of_one_run_takes_nothing_that_chooses_among_many() {
    let rerun = ["run", "rerun", "0RQ9CWTXP9BPJR3KTYEG0MB9FF"];
    for choosing in ["--dry-run", "--cap=5", "--dag=d", "--error-code=E", "--status=failed"] {
        harness::stella::run(&[&rerun[..], &[choosing]].concat(), 2).await;
    }
    harness::stella::run(&["run", "rerun", "--from", "2026-11-29", "--cap", "0"], 2).await;
    harness::stella::run(&["run", "stream", "--type", "RunFaild"], 2).await;
}
