//! The main job through the front door: register, start, look at, cancel, export, verify.

use std::fs;

use harness::{
    bundle::{ShellBundle, is_running},
    history::History,
    mongo::Database,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

/// Three steps; the last puts together what the first two gave.
fn greet() -> Value {
    json!({
        "id": "greet",
        "inputs": {
            "type": "object",
            "properties": { "name": { "type": "string" }, "times": { "type": "integer", "minimum": 1 } },
            "required": ["name"],
            "additionalProperties": false,
        },
        "steps": [
            {"id": "hello", "plugin": "core", "action": "echo", "with": {"text": "hello ${inputs.name}"}},
            {"id": "wait", "plugin": "core", "action": "sleep", "with": {"ms": 1}},
            {"id": "both", "plugin": "core", "action": "echo", "needs": ["hello", "wait"],
                "with": {"said": "${steps.hello.outputs.text}!"}},
        ],
    })
}

#[rstest]
#[tokio::test]
async fn a_run_succeeds_and_every_view_of_it_agrees(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.start().await;
    let client = &server.client;
    assert_eq!(client.register(&greet()).await, 1);
    assert_eq!(client.register(&greet()).await, 1, "a digest that is known is the same version");

    let body = json!({"dagId": "greet", "inputs": {"name": "Ann"}, "labels": {"team": "search"}});
    let started = client.post("/runs?wait=30s", &body).await;
    assert_eq!(started.status, 201, "{started:?}");
    let run = started.ok();
    assert_eq!((&run["status"], &run["replayed"]), (&json!("succeeded"), &json!(false)));
    let run_id = run["runId"].as_str().unwrap();
    assert!(started.header("location").unwrap().ends_with(run_id));

    let seen = client.get(&format!("/runs/{run_id}?minSeq={}", run["seq"])).await.ok();
    assert_eq!((&seen["status"], &seen["stepsSucceeded"]), (&json!("succeeded"), &json!(3)));
    assert_eq!(client.step(&run, "both").await["outputs"], json!({"said": "hello Ann!"}));
    let labelled = client.get("/runs?label=team%3Dsearch&status=succeeded").await.ok();
    assert_eq!(labelled["items"][0]["runId"], run["runId"]);
    assert!(
        client.get("/runs?label=team%3Dother").await.ok()["items"].as_array().unwrap().is_empty()
    );

    let events = client.get(&format!("/runs/{run_id}/ledger")).await.ok();
    let types: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[types.len() - 1]), ("RunCreated", "RunSucceeded"), "{types:?}");
    assert_eq!(types.iter().filter(|t| **t == "StepSucceeded").count(), 3);
    for (event, version) in events["items"].as_array().unwrap().iter().zip(1..) {
        assert_eq!(event["streamVersion"], version);
    }
    let queue = client.get("/queue").await.ok();
    assert_eq!(queue["total"]["queued"], 0);
    let metrics = client.get("metrics").await;
    assert!(metrics.text.contains("orchestrator_runs_total"), "{}", metrics.text);
    let openapi = client.get("openapi.json").await.ok();
    assert!(openapi["paths"].as_object().unwrap().len() > 15);
}

#[rstest]
#[tokio::test]
async fn a_run_token_starts_one_run(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.start().await;
    let client = &server.client;
    client.register(&greet()).await;
    let with_token = |inputs: Value| json!({"dagId": "greet", "runToken": "t-1", "inputs": inputs});
    let first = client.run(&with_token(json!({"name": "Ann"}))).await;

    let repeat = client.post("/runs?wait=30s", &with_token(json!({"name": "Ann"}))).await;
    assert_eq!((repeat.status, repeat.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(repeat.json()["runId"], first["runId"]);

    // A newer version does not move a run that is there already.
    let mut newer = greet();
    newer["description"] = json!("another one");
    assert_eq!(client.register(&newer).await, 2);
    let repeat = client.post("/runs", &with_token(json!({"name": "Ann"}))).await;
    assert_eq!((repeat.status, &repeat.json()["dagVersion"]), (200, &json!(1)));

    let other_inputs = client.post("/runs", &with_token(json!({"name": "Bob"}))).await;
    let problem = other_inputs.problem(409, "RUN_TOKEN_CONFLICT");
    assert!(
        problem["detail"].as_str().unwrap().matches("b3:").count() >= 2,
        "names both: {problem}"
    );
    let mut other_version = with_token(json!({"name": "Ann"}));
    other_version["dagVersion"] = json!(2);
    let problem = client.post("/runs", &other_version).await.problem(409, "RUN_TOKEN_CONFLICT");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains('1') && detail.contains('2'), "names both: {problem}");
    let mut dag = greet();
    dag["id"] = json!("other");
    client.register(&dag).await;
    let mut other_dag = with_token(json!({"name": "Ann"}));
    other_dag["dagId"] = json!("other");
    let problem = client.post("/runs", &other_dag).await.problem(409, "RUN_TOKEN_CONFLICT");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("greet") && detail.contains("other"), "names both: {problem}");
}

#[rstest]
#[tokio::test]
async fn cancelling_ends_the_processes_of_running_steps(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let out = tempfile::tempdir().unwrap();
    let pids = out.path().join("pids");
    // A child that would outlive its parent, were it not for the process group.
    let script =
        format!("sleep 600 & echo \"$$ $!\" > {0}.new; mv {0}.new {0}; wait", pids.display());
    let bundle = ShellBundle::new("slow", &["go"], &script);
    let server = TestServer::on(on).await.plugin(bundle.dir()).start().await;
    let client = &server.client;
    let spec = json!({"id": "slow", "steps": [
        {"id": "a", "plugin": "slow", "action": "go"},
        {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
    ]});
    client.register(&spec).await;
    let run = client.post("/runs", &json!({"dagId": "slow"})).await.ok();
    let run_id = run["runId"].as_str().unwrap();
    let pids: Vec<u32> = until("the step runs", async || {
        let text = fs::read_to_string(&pids).ok()?;
        Some(text.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    })
    .await;
    assert!(pids.len() == 2 && pids.iter().all(|pid| is_running(*pid)));

    let reason = json!({"reason": "no longer needed"});
    client.post(&format!("/runs/{run_id}:cancel"), &reason).await.ok();
    let ended = client.ended(run_id).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    until("its process group is gone", async || {
        (!pids.iter().any(|pid| is_running(*pid))).then_some(())
    })
    .await;
    let again = client.post_empty(&format!("/runs/{run_id}:cancel")).await.ok();
    assert_eq!(again["status"], "cancelled", "cancelling is idempotent");
    let head = client.get("/ledger/head").await.ok();
    client.post_empty(&format!("/runs/{run_id}:cancel")).await.ok();
    assert_eq!(client.get("/ledger/head").await.ok(), head, "and appends nothing");
}

#[rstest]
#[tokio::test]
async fn retries_back_off_and_then_succeed(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.start().await;
    let spec = json!({"id": "flaky", "steps": [{
        "id": "a", "plugin": "core", "action": "fail", "with": {"untilAttempt": 3},
        "retries": {"max": 3, "backoff": "10ms"},
    }]});
    server.client.register(&spec).await;
    let run = server.client.run(&json!({"dagId": "flaky"})).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let step = server.client.step(&run, "a").await;
    assert_eq!((&step["attempt"], &step["retries"]), (&json!(3), &json!(2)), "{step}");
}

#[tokio::test]
async fn the_embedded_ledger_moves_to_mongodb_unchanged() {
    let mut server = TestServer::start().await;
    server.client.register(&greet()).await;
    for name in ["Ann", "Bob"] {
        server.client.run(&json!({"dagId": "greet", "inputs": {"name": name}})).await;
    }
    let head = server.client.get("/ledger/head").await.ok();
    server.stop().await;
    let database = Database::new().await;
    let copy = ["ledger", "copy", "--from", &server.ledger(), "--to", &database.uri, "-o", "json"];
    server.stella(&copy, 0).await;
    server.stella(&copy, 0).await;

    let (from, to) =
        (History::read(&server.ledger(), "main").await, History::read(&database.uri, "main").await);
    assert_eq!(from.head(), to.head());
    assert_eq!(to.head().hash.to_string(), head["hash"].as_str().unwrap());
    // A node goes on where the other one stopped.
    let moved = TestServer::builder().ledger(&database.uri).start().await;
    assert_eq!(moved.client.get("/ledger/head").await.ok()["hash"], head["hash"]);
    let run = moved.client.run(&json!({"dagId": "greet", "inputs": {"name": "Cid"}})).await;
    assert_eq!(run["status"], "succeeded");
    let runs = moved.client.get(&format!("/runs?minSeq={}", run["seq"])).await.ok();
    assert_eq!(runs["items"].as_array().unwrap().len(), 3);
}

#[rstest]
#[tokio::test]
async fn a_closed_window_is_the_same_bytes_for_ever(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.start().await;
    server.client.register(&greet()).await;
    server.client.run(&json!({"dagId": "greet", "inputs": {"name": "Ann"}})).await;
    let head = server.client.get("/ledger/head").await.ok();
    let to = head["recordedAt"].as_str().unwrap();
    let window = format!("/ledger/export?to={to}");
    let first = server.client.get(&window).await;
    assert_eq!(first.status, 200, "{first:?}");
    server.client.run(&json!({"dagId": "greet", "inputs": {"name": "Bob"}})).await;
    assert_eq!(server.client.get(&window).await.text, first.text);

    let file = server.scratch("events.ndjson");
    fs::write(&file, &first.text).unwrap();
    server.stella(&["ledger", "verify", &file], 0).await;
    let forged = first.text.replacen("Ann", "Eve", 1);
    assert_ne!(forged, first.text);
    fs::write(&file, forged).unwrap();
    server.stella(&["ledger", "verify", &file], 4).await;
}
