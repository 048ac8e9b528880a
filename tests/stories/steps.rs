//! What a DAG may ask of its steps, carried out by workers in processes of their own.

use harness::{
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

/// Every member of a spec at once: conditions, lists, retries, failures that are borne, an approval.
const RELEASE: &str = include_str!("../../fixtures/dags/release.yaml");

async fn workerless(on: On) -> TestServer {
    TestServer::on(on).await.concurrency(0).start().await
}

async fn register(server: &TestServer, yaml: &str) {
    let answer = server.client.post_text("/dags", "application/yaml", yaml).await;
    assert!(answer.is_success(), "{answer:?}");
}

/// The run whose step has asked for an operator.
async fn asked(server: &TestServer) -> String {
    until("an operator is asked", async || {
        let asked = server.client.get("/approvals").await.ok();
        asked["items"][0]["runId"].as_str().map(str::to_owned)
    })
    .await
}

#[rstest]
#[tokio::test]
async fn a_release_is_approved_and_ships(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = workerless(on).await;
    register(&server, RELEASE).await;
    let _workers = (server.worker("one").await, server.worker("two").await);
    let parts: Vec<String> = (0..40).map(|n| format!("part {n}")).collect();
    let start = json!({"dagId": "release", "inputs": {"parts": parts}});
    let run = server.client.post("/runs", &start).await.ok();
    let run_id = asked(&server).await;
    assert_eq!(run["runId"], run_id);
    server.stella(&["run", "approve", &run_id, "confirm", "--reason", "seen to"], 0).await;
    server.stella(&["run", "approve", &run_id, "confirm", "--reason", "again"], 0).await;
    server.stella(&["run", "reject", &run_id, "confirm"], 1).await;
    let run = server.client.ended(&run_id).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let checked: Vec<Value> =
        parts.iter().zip(0..).map(|(part, n)| json!({"part": part, "place": n})).collect();
    let note = "shipped part 0 and what came with it";
    assert_eq!(run["outputs"], json!({"checked": checked, "lint": null, "note": note}));
    let counts = ["stepsSucceeded", "stepsFailed", "stepsSkipped", "retries"];
    // fetch, check, its items, confirm, ship; advisories; lint; and fetch once more.
    let expected = json!([44, 1, 1, 1]);
    assert_eq!(json!(counts.map(|count| &run[count])), expected, "{run}");
    let at = json!({"runId": run_id, "seq": run["lastSeq"]});
    let skipped = server.client.step(&at, "lint").await;
    assert_eq!(skipped["phase"], "skipped", "{skipped}");
    let decided = server.deeds(&["StepApproved", "StepRejected"]).await;
    let once = ("StepApproved".to_owned(), "user:local".to_owned(), "seen to".to_owned());
    assert_eq!(decided, [once]);
    let started = server.events().await;
    let by = |worker: &str| started.iter().any(|event| event["data"]["workerId"] == worker);
    assert!(by("one") && by("two"), "both have worked");
}

#[rstest]
#[tokio::test]
async fn a_release_is_rejected_and_does_not_ship(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = workerless(on).await;
    register(&server, RELEASE).await;
    let _worker = server.worker("one").await;
    let start = json!({"dagId": "release", "inputs": {"parts": ["a"]}});
    server.client.post("/runs", &start).await.ok();
    let run_id = asked(&server).await;
    server.stella(&["run", "reject", &run_id, "confirm", "--reason", "too late"], 0).await;
    let run = server.client.ended(&run_id).await;
    assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("REJECTED")));
    let at = json!({"runId": run_id, "seq": run["lastSeq"]});
    assert_eq!(server.client.step(&at, "confirm").await["phase"], "failed");
    let decided = server.deeds(&["StepApproved", "StepRejected"]).await;
    let once = ("StepRejected".to_owned(), "user:local".to_owned(), "too late".to_owned());
    assert_eq!(decided, [once]);
}

/// A step, how its run ends, with which code, and in which attempt the step was.
const ENDS: &[(&str, &str, &str, u64)] = &[
    (
        "{action: fail, with: {untilAttempt: 3}, retries: {max: 5, backoff: 1ms}}",
        "succeeded",
        "",
        3,
    ),
    ("{action: fail, with: {code: BUSY}, retries: {max: 2, backoff: 1ms}}", "failed", "BUSY", 3),
    ("{action: fail, with: {code: NO}, retries: {max: 2, nonRetryable: [NO]}}", "failed", "NO", 1),
    ("{action: fail, with: {code: NO, retryable: false}, retries: 2}", "failed", "NO", 1),
    ("{action: sleep, with: {ms: 600000}, timeout: 50ms}", "failed", "TIMEOUT", 1),
    (
        "{action: sleep, with: {ms: 600000}, timeout: 50ms, retries: {max: 2, backoff: 1ms}}",
        "failed",
        "TIMEOUT",
        3,
    ),
    ("{action: sleep, with: {ms: 600000}, totalTimeout: 50ms, retries: 2}", "failed", "TIMEOUT", 1),
    (
        "{action: echo, with: {x: '${steps.none.outputs.x}'}, needs: [none]}",
        "failed",
        "EXPRESSION",
        1,
    ),
    ("{action: noop, when: 'steps.none.status == \"failed\"', needs: [none]}", "succeeded", "", 1),
    ("{action: noop, when: 'steps.none.outputs.x > 1', needs: [none]}", "failed", "EXPRESSION", 0),
];

#[rstest]
#[tokio::test]
async fn steps_end_as_their_spec_says(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = workerless(on).await;
    let _worker = server.worker_with("one", &["--concurrency", "4"]).await;
    for (number, (step, status, code, attempt)) in ENDS.iter().enumerate() {
        let step = step.replacen('{', "{id: a, plugin: core, ", 1);
        let none = "{id: none, plugin: core, action: fail, with: {retryable: false}, continueOnFailure: true}";
        register(&server, &format!("id: d{number}\nsteps:\n  - {none}\n  - {step}\n")).await;
        let run = server.client.run(&json!({"dagId": format!("d{number}")})).await;
        let run_id = run["runId"].as_str().unwrap();
        let run = server.client.ended(run_id).await;
        let found = (run["status"].as_str().unwrap(), run["errorCode"].as_str().unwrap_or(""));
        assert_eq!(found, (*status, *code), "{step}: {run}");
        let step_of = json!({"runId": run_id, "seq": run["lastSeq"]});
        assert_eq!(server.client.step(&step_of, "a").await["attempt"], *attempt, "{step}");
    }
}

#[rstest]
#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_on_its_worker(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let server = workerless(on).await;
    let _worker = server.worker("one").await;
    let nap = "{id: nap, plugin: core, action: sleep, with: {ms: 600000}}";
    register(&server, &format!("id: short\ntimeout: 100ms\nsteps:\n  - {nap}\n")).await;
    let run = server.client.run(&json!({"dagId": "short"})).await;
    assert_eq!(run["status"], "timedOut", "{run}");
    // With one place, it can work only if it has let go of the nap.
    register(&server, "id: next\nsteps:\n  - {id: a, plugin: core, action: noop}\n").await;
    assert_eq!(server.client.run(&json!({"dagId": "next"})).await["status"], "succeeded");
}

/// As many as one list may have, and what comes after them.
#[rstest]
#[tokio::test]
async fn ten_thousand_steps_in_one_run_work(#[values(On::Sqlite, On::MongoDb)] on: On) {
    const ITEMS: u64 = 10_000;
    let server = workerless(on).await;
    let _worker = server.worker_with("many", &["--concurrency", "64"]).await;
    let each =
        "{id: each, plugin: core, action: noop, forEach: '${inputs.items}', parallelism: 256}";
    let last =
        "{id: last, plugin: core, action: echo, needs: [each], with: {n: '${inputs.items[9999]}'}}";
    register(&server, &format!("id: many\nsteps:\n  - {each}\n  - {last}\n")).await;
    let items: Vec<u64> = (0..ITEMS).collect();
    let start = json!({"dagId": "many", "inputs": {"items": items}});
    let run = server.client.post("/runs", &start).await.ok();
    let run_id = run["runId"].as_str().unwrap();
    let mut done = 0;
    let run = loop {
        let run = server.client.ended(run_id).await;
        if run["status"] != "running" {
            break run;
        }
        // However slow the machine, it goes on.
        let now = run["stepsSucceeded"].as_u64().unwrap();
        assert!(now > done, "nothing was done in half a minute: {run}");
        done = now;
    };
    assert_eq!((&run["status"], &run["stepsSucceeded"]), (&json!("succeeded"), &json!(ITEMS + 2)));
    let same = server.client.get(&format!("/runs:compare?a={run_id}&b={run_id}")).await.ok();
    assert_eq!((&same["stepsCompared"], &same["whole"]), (&json!(ITEMS + 2), &json!(true)));
}
