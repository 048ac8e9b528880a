//! Bulk reruns over HTTP.

use serde_json::{Value, json};
use stella_domain::time::Timestamp;
use stella_ledger::clock::{Clock as _, SystemClock};

use crate::support::{Api, ECHO};

const FLAKY: &str = "id: flaky
inputs: {type: object, properties: {code: {type: string}}}
steps:
  - {id: a, plugin: core, action: fail, with: {code: '${inputs.code}', message: no}}
";

/// Nobody carries it out in time.
const SHORT: &str = "id: short
timeout: 50ms
steps:
  - {id: a, plugin: core, action: noop}
";

/// Runs of one DAG that were cancelled, in the order in which they were created; they end in the
/// opposite one, and after the last was created.
async fn cancelled(api: &Api, n: usize) -> Vec<Value> {
    let mut runs = vec![];
    for _ in 0..n {
        let run = api.post("/runs", &json!({"dagId": "echo"})).await.body;
        runs.push(run["runId"].as_str().unwrap().to_owned());
    }
    for run_id in runs.iter().rev() {
        api.post(&format!("/runs/{run_id}:cancel"), &json!({})).await;
    }
    let ended = async |run_id: String| api.get(&format!("/runs/{run_id}?wait=30s")).await.body;
    let ended = futures::future::join_all(runs.into_iter().map(ended)).await;
    assert!(ended.iter().all(|run| run["status"] == "cancelled"), "{ended:?}");
    ended
}

/// A request for everything that ended so, until there are more members.
fn all(status: &str) -> Value {
    json!({"from": "2000-01-01T00:00:00Z", "to": SystemClock.now(), "status": status})
}

fn with(mut body: Value, members: &Value) -> Value {
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// A member of each run that the request is about.
async fn of_each(api: &Api, body: &Value, member: &str) -> Vec<Value> {
    let answer = api.post("/runs:rerun", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = answer.body["items"].as_array().unwrap();
    items.iter().map(|item| item[member].clone()).collect()
}

/// The rerun that comes of a request for one run.
async fn rerun(api: &Api, body: &Value) -> Value {
    let started = of_each(api, body, "rerunId").await;
    let [Value::String(id)] = &started[..] else { panic!("not one: {started:?}") };
    // The answer names a state that has it.
    let cancelled = api.post(&format!("/runs/{id}:cancel"), &json!({})).await.body;
    api.get(&format!("/runs/{id}?minSeq={}", cancelled["seq"])).await.body
}

async fn count(api: &Api) -> usize {
    api.get("/runs?pageSize=500").await.body["items"].as_array().unwrap().len()
}

/// By when they were created, not by when they ended: a window that is sent again means the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_has_its_beginning_and_not_its_end() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let runs = cancelled(&api, 3).await;
    let created: Vec<Timestamp> =
        runs.iter().map(|run| serde_json::from_value(run["createdAt"].clone()).unwrap()).collect();
    assert!(created.is_sorted_by(|a, b| a < b), "{created:?}");
    let near = |run: usize, micros: i64| Timestamp::from_micros(created[run].as_micros() + micros);
    for (from, to, expected) in [
        (near(0, 0), near(2, 0), &[1, 0][..]),
        (near(0, 0), near(2, 1), &[2, 1, 0]),
        (near(0, 1), near(2, 0), &[1]),
        (near(1, 0), near(1, 1), &[1]),
        (near(0, 1), near(1, 0), &[]),
        (near(0, -1), near(0, 0), &[]),
        (near(2, 1), near(2, 2), &[]),
    ] {
        let body = json!({"from": from, "to": to, "status": "cancelled", "dryRun": true});
        let expected: Vec<Value> = expected.iter().map(|run| runs[*run]["runId"].clone()).collect();
        assert_eq!(of_each(&api, &body, "runId").await, expected, "{from} to {to}");
    }
    for (from, to) in [(near(1, 0), near(1, 0)), (near(1, 1), near(1, 0))] {
        let body = json!({"from": from, "to": to, "status": "cancelled"});
        api.post("/runs:rerun", &body).await.is_problem(400, "WINDOW_INVALID").detail_has("swap");
    }
    assert_eq!(count(&api).await, 3);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_chosen_by_how_they_ended() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    api.register(SHORT).await;
    let cancelled = cancelled(&api, 1).await.remove(0);
    let timed_out = api.post("/runs?wait=30s", &json!({"dagId": "short"})).await.body;
    assert_eq!(timed_out["status"], "timedOut", "{timed_out}");
    let failed = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    let poll = json!({"workerId": "w", "plugins": ["core"], "waitMs": 30_000});
    let lease = api.post("/workers:poll", &poll).await.body["leases"][0].clone();
    let fail = json!({"workerId": "w", "code": "NO_SPACE", "retryable": false});
    api.post(&format!("/leases/{}:fail", lease["token"].as_str().unwrap()), &fail).await;
    let failed =
        api.get(&format!("/runs/{}?wait=30s", failed["runId"].as_str().unwrap())).await.body;
    assert_eq!(failed["status"], "failed", "{failed}");
    // It has not ended.
    api.post("/runs", &json!({"dagId": "echo"})).await;

    for (status, run) in [("failed", &failed), ("timedOut", &timed_out), ("cancelled", &cancelled)]
    {
        let listed = of_each(&api, &with(all(status), &json!({"dryRun": true})), "runId").await;
        assert_eq!(listed, [run["runId"].clone()], "{status}");
    }
    let mut unsaid = with(all("failed"), &json!({"dryRun": true}));
    unsaid.as_object_mut().unwrap().remove("status");
    assert_eq!(of_each(&api, &unsaid, "runId").await, [failed["runId"].clone()]);
    for status in ["running", "succeeded"] {
        let refused = api.post("/runs:rerun", &all(status)).await;
        refused.is_problem(400, "INVALID_BODY").detail_has("failed, timedOut, cancelled, not");
    }
    // What is started by it must not be among what it chooses when it is sent again.
    let ahead = with(all("failed"), &json!({"to": SystemClock.now().plus_ms(60_000)}));
    let refused = api.post("/runs:rerun", &ahead).await;
    refused.is_problem(400, "WINDOW_INVALID").detail_has("is to come");
    assert_eq!(count(&api).await, 4);

    // Those that did not fail run again just the same.
    for (status, run) in [("timedOut", &timed_out), ("cancelled", &cancelled)] {
        let before = with(all(status), &json!({"to": failed["endedAt"]}));
        let rerun = rerun(&api, &before).await;
        assert_eq!((&rerun["rerunOf"], &rerun["attempt"]), (&run["runId"], &json!(1)), "{rerun}");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_chosen_by_the_version_they_followed_and_follow_the_active_one() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let old = cancelled(&api, 1).await.remove(0);
    api.post_text("/dags", "application/yaml", ECHO.replace("say", "tell")).await;
    let new = cancelled(&api, 1).await.remove(0);
    assert_eq!((&old["dagVersion"], &new["dagVersion"]), (&json!(1), &json!(2)));
    for (version, expected) in
        [(1, vec![old["runId"].clone()]), (2, vec![new["runId"].clone()]), (3, vec![])]
    {
        // The cap counts what is chosen.
        let body = json!({"ofDagVersion": version, "cap": 1, "dryRun": true});
        assert_eq!(of_each(&api, &with(all("cancelled"), &body), "runId").await, expected);
    }
    let follows = async |run: &Value, members: Value| {
        let of = json!({"ofDagVersion": run["dagVersion"], "to": new["endedAt"]});
        let body = with(with(all("cancelled"), &of), &members);
        let rerun = rerun(&api, &body).await;
        assert_eq!(rerun["rerunOf"], run["runId"], "{rerun}");
        rerun["dagVersion"].clone()
    };
    assert_eq!(follows(&old, json!({})).await, 2);
    assert_eq!(follows(&new, json!({"dagVersion": 1})).await, 1);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_than_the_cap_are_refused_and_none_of_them_starts() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let runs = cancelled(&api, 3).await;
    let capped =
        |cap: u32, dry_run: bool| with(all("cancelled"), &json!({"cap": cap, "dryRun": dry_run}));
    for dry_run in [true, false] {
        let refused = api.post("/runs:rerun", &capped(2, dry_run)).await;
        refused.is_problem(422, "TOO_MANY_RUNS").detail_has("more than 2 runs");
    }
    for cap in [0, 1_001] {
        let refused = api.post("/runs:rerun", &capped(cap, true)).await;
        refused.is_problem(400, "INVALID_BODY").detail_has("cap is 1 to 1000");
    }
    // What was started before this would be seen with it.
    let later = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    api.get(&format!("/runs?minSeq={}", later["seq"])).await;
    assert_eq!(count(&api).await, 4);
    let started = of_each(&api, &capped(3, false), "runId").await;
    let expected: Vec<Value> = runs.iter().rev().map(|run| run["runId"].clone()).collect();
    assert_eq!(started, expected);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_so_in_a_window_is_run_again_once() {
    let api = Api::start().await;
    api.register(FLAKY).await;
    let mut runs = vec![];
    for (i, code) in ["NO_SPACE", "NO_SPACE", "BAD_INPUT"].iter().enumerate() {
        let body = json!({"dagId": "flaky", "inputs": {"code": code}, "runToken": format!("t{i}")});
        let run = api.post("/runs?wait=30s", &body).await.body;
        assert_eq!(run["status"], "failed", "{run}");
        runs.push(run);
    }
    let to = runs[2]["endedAt"].clone();
    api.get(&format!("/runs?minSeq={}", runs[2]["seq"])).await;
    let mut body = json!({"from": "2000-01-01T00:00:00Z", "to": to, "dagId": "flaky",
        "errorCode": "NO_SPACE", "plugin": "core", "reason": "the disk was full"});
    let ids = |answer: &Value, member: &str| -> Vec<Value> {
        let items = answer["items"].as_array().unwrap();
        items.iter().map(|item| item[member].clone()).collect()
    };
    body["dryRun"] = true.into();
    let listed = api.post("/runs:rerun", &body).await.body;
    assert_eq!(ids(&listed, "replayed"), [false, false], "{listed}");
    assert_eq!(ids(&listed, "runId"), [runs[1]["runId"].clone(), runs[0]["runId"].clone()]);
    assert_eq!(api.get("/runs").await.body["items"].as_array().unwrap().len(), 3);
    body["dryRun"] = false.into();
    let first = api.post("/runs:rerun", &body).await.body;
    assert_eq!(ids(&first, "replayed"), [false, false], "{first}");
    let again = api.post("/runs:rerun", &body).await.body;
    assert_eq!(ids(&again, "replayed"), [true, true], "{again}");
    assert_eq!(ids(&again, "rerunId"), ids(&first, "rerunId"));
    let first_runs = [runs[1]["runId"].clone(), runs[0]["runId"].clone()];
    for (id, of) in ids(&first, "rerunId").iter().zip(first_runs) {
        let run = api.get(&format!("/runs/{}?wait=30s", id.as_str().unwrap())).await.body;
        assert_eq!((&run["attempt"], &run["status"]), (&json!(1), &json!("failed")), "{run}");
        assert_eq!(run["rerunOf"], of);
    }
    body["dryRun"] = true.into();
    let listed = api.post("/runs:rerun", &body).await.body;
    assert_eq!(ids(&listed, "rerunId"), ids(&first, "rerunId"), "they have run");
    body["dryRun"] = false.into();
    assert_eq!(api.get("/runs").await.body["items"].as_array().unwrap().len(), 5);
    body["plugin"] = "other".into();
    let none = api.post("/runs:rerun", &body).await.body;
    assert!(none["items"].as_array().unwrap().is_empty());
    api.stop().await;
}
