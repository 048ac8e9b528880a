//! What waits, why, and what operators hold back.

use std::time::Duration;

use serde_json::{Value, json};
use stella_api::types::{QueueView, WaitingStepView};

use crate::support::{Api, ECHO};

const CHAIN: &str = "id: chain
steps:
  - {id: a, plugin: core, action: noop}
  - {id: b, plugin: core, action: noop, needs: [a]}
";

fn code(waiting: &Value, step: &str) -> (String, String) {
    let items: Vec<WaitingStepView> = serde_json::from_value(waiting["items"].clone()).unwrap();
    let step = items.into_iter().find(|item| item.step_id.as_str() == step).unwrap();
    (step.why.code, step.why.detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_waiting_step_says_why() {
    let api = Api::without_worker().await;
    api.register(CHAIN).await;
    let run = api.post("/runs", &json!({"dagId": "chain"})).await.body;
    let waiting = format!("/runs/{}/waiting", run["runId"].as_str().unwrap());
    let of =
        async |answer: &Value| api.get(&format!("{waiting}?minSeq={}", answer["seq"])).await.body;
    let view = of(&run).await;
    assert_eq!(code(&view, "a").0, "NO_WORKER");
    assert_eq!(code(&view, "b"), ("NEEDS".to_owned(), "it needs a".to_owned()));
    let paused = api.post("/queue:pause", &json!({"reason": "maintenance"})).await.body;
    let (why, detail) = code(&of(&paused).await, "a");
    assert_eq!(why, "DISPATCH_PAUSED");
    assert!(detail.contains("user:") && detail.ends_with("maintenance"), "{detail}");
    let again = api.post("/queue:pause", &json!({"reason": "again"})).await.body;
    assert!(again["seq"].is_null(), "nothing to change: {again}");
    api.post("/queue:resume", &json!({})).await;
    let paused = api.post("/dags/chain:pause", &json!({"reason": "wrong data"})).await.body;
    assert_eq!(paused["paused"], true);
    let (why, detail) = code(&of(&paused).await, "a");
    assert!(why == "DAG_PAUSED" && detail.ends_with("wrong data"), "{why}: {detail}");
    let dag = api.get("/dags/chain").await.body;
    assert_eq!(dag["paused"]["reason"], "wrong data");
    let queue: QueueView = serde_json::from_value(api.get("/queue").await.body).unwrap();
    assert_eq!(queue.paused_dags[0].dag_id.as_str(), "chain");
    let health = api.get("/admin/health").await.body;
    let parts = health["components"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "queue").unwrap();
    let message = part["message"].as_str().unwrap();
    assert!(part["status"] == "yellow" && message.contains("DAG chain is paused"), "{part}");
    let listed = api.get("/queue/steps?dagId=chain").await.body;
    assert_eq!(code(&listed, "a").0, "DAG_PAUSED");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "what needs others is not queued");
    let nothing = api.get("/queue/steps?plugin=other").await.body;
    assert!(nothing["items"].as_array().unwrap().is_empty());
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_steps_come_in_pages_oldest_first() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    api.register(CHAIN).await;
    let (mut started, mut seq) = (vec![], json!(0));
    for i in 0..7 {
        let dag = if i % 2 == 0 { "echo" } else { "chain" };
        let run = api.post("/runs", &json!({"dagId": dag})).await.body;
        (seq, _) = (run["seq"].clone(), started.push(run["runId"].clone()));
    }
    let (mut seen, mut path) = (vec![], format!("/queue/steps?pageSize=3&minSeq={seq}"));
    loop {
        let page = api.get(&path).await.body;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["runId"].clone()));
        let Some(token) = page["nextPageToken"].as_str() else { break };
        path = format!("/queue/steps?pageSize=3&pageToken={token}");
    }
    assert_eq!(seen, started);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_shown_and_survives_a_rebuild() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.post("/queue:limit", &json!({"limit": 3, "plugin": "core", "reason": "licences"})).await;
    api.post("/queue:pause", &json!({"plugin": "other"})).await;
    let last = api.post("/schedulers:pause", &json!({"reason": "weekend"})).await.body;
    let queue = api.get(&format!("/queue?minSeq={}", last["seq"])).await.body;
    let queue: QueueView = serde_json::from_value(queue).unwrap();
    let control = queue.control.clone();
    assert_eq!(control.limits[0].limit.get(), 3);
    assert_eq!(control.limits[0].set.reason.as_deref(), Some("licences"));
    assert_eq!(control.plugins_paused[0].plugin.as_str(), "other");
    assert_eq!(control.schedulers_paused.unwrap().reason.as_deref(), Some("weekend"));
    api.post_nothing("/admin/projections:rebuild").await;
    let again: QueueView = serde_json::from_value(api.get("/queue").await.body).unwrap();
    assert_eq!(again.control, queue.control);
    // A drain of nothing ends at once, and says so.
    let drained = api.post("/queue:drain", &json!({"reason": "r"})).await.body;
    assert_eq!(drained["draining"], true);
    let ended = async {
        while api.get("/queue").await.body["control"]["drain"]["emptied"] != true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the drain ends");
    api.finished("echo", &json!({})).await;
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_a_disabled_version_cancels_its_runs_and_no_others() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let old = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    api.post_text("/dags", "application/yaml", ECHO.replace("say", "tell")).await;
    let new = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    api.post("/dags/echo/versions/1:disable", &json!({})).await;
    let cleared = api.post("/dags/echo/versions/1:clear", &json!({"reason": "bad"})).await.body;
    assert_eq!(cleared, json!({"cancelled": 1, "more": false}));
    let status = async |run: &Value| {
        let run_id = run["runId"].as_str().unwrap().to_owned();
        api.get(&format!("/runs/{run_id}?wait=1s")).await.body["status"].clone()
    };
    assert_eq!(status(&old).await, "cancelled");
    assert_eq!(status(&new).await, "running");
    let again = api.post("/dags/echo/versions/1:clear", &json!({})).await.body;
    assert_eq!(again["cancelled"], 0);
    api.stop().await;
}
