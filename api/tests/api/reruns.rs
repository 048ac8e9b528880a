//! Bulk reruns over HTTP.

use serde_json::{Value, json};

use crate::support::Api;

const FLAKY: &str = "id: flaky
inputs: {type: object, properties: {code: {type: string}}}
steps:
  - {id: a, plugin: core, action: fail, with: {code: '${inputs.code}', message: no}}
";

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
