//! What waits for an operator.

use serde_json::{Value, json};
use stella_api::types::ApprovalView;

use crate::support::{Api, GATED};

const TIMED: &str = "id: timed
steps:
  - {id: gate, approval: {message: 'Ship it?', timeout: 2d}}
";

fn items(page: &Value) -> Vec<ApprovalView> {
    serde_json::from_value(page["items"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_approvals_of_all_runs_come_in_pages_oldest_first() {
    let api = Api::without_worker().await;
    api.register(GATED).await;
    api.register(TIMED).await;
    let (mut started, mut seq) = (vec![], json!(0));
    for i in 0..7 {
        let dag = if i % 2 == 0 { "gated" } else { "timed" };
        let run = api.post("/runs", &json!({"dagId": dag})).await.body;
        (seq, _) = (run["seq"].clone(), started.push(run["runId"].clone()));
    }
    let (mut seen, mut path) = (vec![], format!("/approvals?pageSize=3&minSeq={seq}"));
    loop {
        let page = api.get(&path).await.body;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["runId"].clone()));
        let Some(token) = page["nextPageToken"].as_str() else { break };
        path = format!("/approvals?pageSize=3&pageToken={token}");
    }
    assert_eq!(seen, started);

    let timed = items(&api.get("/approvals?dagId=timed").await.body);
    assert_eq!(timed.len(), 3);
    let ApprovalView { step_id, message, asked_at, deadline, .. } = &timed[0];
    assert_eq!((step_id.as_str(), message.as_deref()), ("gate", Some("Ship it?")));
    assert_eq!(*deadline, Some(asked_at.plus_ms(2 * 86_400_000)));

    // What is decided, and what can no longer be, is not asked for any more.
    let first = started[0].as_str().unwrap();
    api.post(&format!("/runs/{first}/steps/first:approve"), &json!({})).await;
    let second = started[1].as_str().unwrap();
    let cancelled = api.post(&format!("/runs/{second}:cancel"), &json!({})).await.body;
    let late = api.post(&format!("/runs/{second}/steps/gate:approve"), &json!({})).await;
    late.is_problem(409, "STEP_NOT_AWAITING_APPROVAL").detail_has("in a run that is cancelled");
    let steps = format!("/runs/{first}/steps?minSeq={}", cancelled["seq"]);
    let decided = &api.get(&steps).await.body["items"][0]["decidedBy"];
    assert!(decided.as_str().unwrap().starts_with("user:"), "{decided}");
    let left = items(&api.get(&format!("/approvals?minSeq={}", cancelled["seq"])).await.body);
    assert_eq!(left.len(), 6);
    let last = left.last().unwrap();
    assert_eq!((last.run_id.to_string(), last.step_id.as_str()), (first.to_owned(), "second"));
    assert!(left.iter().all(|approval| approval.run_id.to_string() != second));
    api.stop().await;
}
