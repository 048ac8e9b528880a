//! Workers over HTTP: poll, heartbeat, complete, fail, and what is refused.

use serde_json::{Value, json};
use stella_api::types::{LeaseView, LeasesView};

use crate::support::{Answer, Api, ECHO, SLOW};

/// The lease of a run's only step, once there is one.
async fn lease(api: &Api, worker: &str) -> LeaseView {
    let poll = json!({"workerId": worker, "plugins": ["core"], "waitMs": 30_000});
    let answer = api.post("/workers:poll", &poll).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let leases: LeasesView = serde_json::from_value(answer.body).unwrap();
    leases.leases.into_iter().next().expect("a lease")
}

async fn report(api: &Api, lease: &LeaseView, verb: &str, body: &Value) -> Answer {
    api.post(&format!("/leases/{}:{verb}", lease.token), body).await
}

async fn events(api: &Api, run: &Value) -> Vec<String> {
    let (run_id, seq) = (run["runId"].as_str().unwrap(), &run["seq"]);
    api.get(&format!("/runs/{run_id}?minSeq={seq}")).await;
    let events = api.get(&format!("/runs/{run_id}/ledger")).await.body;
    let events = events["items"].as_array().unwrap();
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_worked_off_and_recorded_once() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let run = api.post("/runs", &json!({"dagId": "echo", "inputs": {"n": 1}})).await.body;
    let held = lease(&api, "w1").await;
    assert_eq!((held.plugin.as_str(), held.action.as_str(), held.attempt), ("core", "echo", 1));
    assert_eq!(held.with.as_str(), r#"{"said":{"n":1}}"#);
    let none = json!({"workerId": "w2", "plugins": ["core"], "waitMs": 0});
    assert_eq!(api.post("/workers:poll", &none).await.body, json!({"leases": []}));

    let verdict = async |worker: &str| {
        report(&api, &held, "heartbeat", &json!({"workerId": worker})).await.body["verdict"].clone()
    };
    assert_eq!((verdict("w1").await, verdict("w2").await), (json!("continue"), json!("lost")));

    let body = |worker: &str, said: &str| json!({"workerId": worker, "outputs": {"said": said}});
    let many: serde_json::Map<_, _> = (0..20_000).map(|i| (i.to_string(), json!(i))).collect();
    let many = json!({"workerId": "w1", "outputs": many});
    let too_large = report(&api, &held, "complete", &many).await;
    too_large.is_problem(422, "EVENT_TOO_LARGE");
    let other = report(&api, &held, "complete", &body("w2", "hello")).await;
    other.is_problem(409, "LEASE_NOT_HELD");
    let not_an_object = json!({"workerId": "w1", "outputs": 1});
    report(&api, &held, "complete", &not_an_object).await.is_problem(400, "INVALID_BODY");
    for _ in 0..2 {
        let done = report(&api, &held, "complete", &body("w1", "hello")).await;
        assert_eq!((done.status.as_u16(), &done.body), (200, &json!({"leases": []})), "{done:?}");
    }
    report(&api, &held, "complete", &body("w1", "bye")).await.is_problem(409, "LEASE_ENDED");
    let fail = json!({"workerId": "w1", "code": "NO"});
    report(&api, &held, "fail", &fail).await.is_problem(409, "LEASE_ENDED");
    let ended = api.get(&format!("/runs/{}?wait=30s", run["runId"].as_str().unwrap())).await.body;
    assert_eq!(ended["status"], "succeeded");
    let run = json!({"runId": run["runId"], "seq": ended["lastSeq"]});
    let expected = ["RunCreated", "StepQueued", "StepStarted", "StepSucceeded", "RunSucceeded"];
    assert_eq!(events(&api, &run).await, expected);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_recorded_and_the_next_step_comes_with_the_answer() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    for token in ["a", "b"] {
        api.post("/runs", &json!({"dagId": "echo", "runToken": token})).await;
    }
    let first = lease(&api, "w").await;
    let fail = json!({"workerId": "w", "code": "DISK_FULL", "message": "no room",
        "retryable": false, "andPoll": {"plugins": ["core"]}});
    let answer = report(&api, &first, "fail", &fail).await;
    let next: LeasesView = serde_json::from_value(answer.body).unwrap();
    assert_eq!(next.leases.len(), 1, "the other run's step");
    let run = api.get(&format!("/runs/{}?wait=30s", first.run_id)).await.body;
    assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("DISK_FULL")));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_says_so_in_the_heartbeat() {
    let api = Api::without_worker().await;
    api.register(SLOW).await;
    api.post("/runs", &json!({"dagId": "slow"})).await;
    let held = lease(&api, "w").await;
    api.post(&format!("/runs/{}:cancel", held.run_id), &json!({})).await;
    let beat = report(&api, &held, "heartbeat", &json!({"workerId": "w"})).await;
    assert_eq!(beat.body["verdict"], "cancel", "{beat:?}");
    let stopped = json!({"workerId": "w", "kind": "cancelled"});
    assert_eq!(report(&api, &held, "fail", &stopped).await.status, 200);
    let run = api.get(&format!("/runs/{}?wait=30s", held.run_id)).await.body;
    assert_eq!(run["status"], "cancelled");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_poll_is_refused() {
    let api = Api::without_worker().await;
    let names: Vec<String> = (0..257).map(|n| format!("p{n}")).collect();
    for body in [
        json!({"workerId": "w"}),
        json!({"workerId": "w", "plugins": []}),
        json!({"workerId": "w", "plugins": names}),
        json!({"workerId": "w", "plugins": ["core"], "max": 0}),
        json!({"workerId": "w", "plugins": ["core"], "max": 257}),
        json!({"workerId": "w", "plugins": ["core"], "waitMs": 60_001}),
        json!({"workerId": "", "plugins": ["core"]}),
        json!({"workerId": "w", "plugins": ["core"], "colour": "red"}),
    ] {
        api.post("/workers:poll", &body).await.is_problem(400, "INVALID_BODY");
    }
    let body = json!({"workerId": "w"});
    api.post("/leases/nothing:complete", &body).await.is_problem(400, "INVALID_PATH");
    let none = "/leases/00000000000000000000000000.1";
    api.post(&format!("{none}:complete"), &body).await.is_problem(404, "RUN_NOT_FOUND");
    api.post(&format!("{none}:eat"), &body).await.is_problem(404, "ROUTE_NOT_FOUND");
    api.stop().await;
}
