//! Runs: start, look at, cancel, compare.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use stella_api::types::{
    CompareVerdict, EventView, OutputsComparison, Page, RunComparison, RunView, StartedRun,
    StepPhaseView, StepView,
};

use crate::support::{Answer, Api, ECHO, PREFIX, SLOW};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_and_waited_for() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let body = json!({"dagId": "echo", "inputs": {"n": 7}, "labels": {"team": "search"},
        "priority": 3});
    let answer = api.post("/runs?wait=30s", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let started: StartedRun = serde_json::from_value(answer.body.clone()).unwrap();
    assert_eq!((started.status.as_str(), started.replayed), ("succeeded", false));
    let path = format!("/runs/{}", started.run_id);
    assert!(answer.header("location").ends_with(&path), "{answer:?}");

    let run = api.get(&format!("{path}?minSeq={}", started.seq)).await.body;
    let run: RunView = serde_json::from_value(run).unwrap();
    assert_eq!(run.status.as_str(), "succeeded");
    assert_eq!((run.priority, run.last_seq, run.steps_succeeded), (3, started.seq, 1));
    assert_eq!(run.labels["team"], "search");
    assert_eq!(run.ended_at, started.ended_at);

    let steps = api.get(&format!("{path}/steps")).await.body;
    let steps: Page<StepView> = serde_json::from_value(steps).unwrap();
    assert_eq!(steps.items.len(), 1);
    assert_eq!(steps.items[0].phase, StepPhaseView::Succeeded);
    let outputs = steps.items[0].outputs.as_ref().unwrap();
    assert!(outputs.as_str().contains(r#""n":7"#), "{outputs}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_token_gives_the_same_run() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let body = json!({"dagId": "echo", "inputs": {"n": 1}, "runToken": "once"});
    let first = api.post("/runs?wait=30s", &body).await;
    let size = api.get("/ledger/head").await.body["size"].clone();
    let again = api.post("/runs?wait=30s", &body).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 200));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.body["runId"], first.body["runId"]);
    assert_eq!(again.body["status"], "succeeded");
    assert_eq!(again.body["replayed"], true);
    assert_eq!(api.get("/ledger/head").await.body["size"], size, "something ran twice");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_runs_out_says_where_the_run_stands() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let answer = api.post("/runs?wait=1s", &json!({"dagId": "echo"})).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (201, &json!("running")));
    let path = format!("/runs/{}", answer.body["runId"].as_str().unwrap());
    let run = api.get(&format!("{path}?wait=1s&minSeq={}", answer.body["seq"])).await;
    assert_eq!((run.status.as_u16(), &run.body["status"]), (200, &json!("running")));
    let behind = api.get(&format!("{path}?minSeq=1000000")).await;
    behind.is_problem(503, "PROJECTION_BEHIND");
    assert_eq!(behind.header("retry-after"), "1");
    api.stop().await;
}

/// It says where the run stands, as when its time is over: nobody is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_server() {
    let api = Api::start().await;
    api.register(SLOW).await;
    let run = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let path = format!("{PREFIX}/runs/{}?wait=60s", run["runId"].as_str().unwrap());
    let authorised = |request: RequestBuilder| request.header("authorization", api.bearer());
    let get = authorised(api.bare(Method::GET, &path));
    let start = authorised(api.bare(Method::POST, &format!("{PREFIX}/runs?wait=60s")));
    let start = start.header("content-type", "application/json").body(r#"{"dagId":"slow"}"#);
    let get = tokio::spawn(async { Answer::of(get.send().await.unwrap()).await });
    let start = tokio::spawn(async { Answer::of(start.send().await.unwrap()).await });
    // Both wait once the second run is there.
    let there =
        async { while api.get("/runs").await.body["items"].as_array().unwrap().len() < 2 {} };
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap();
    api.stop().await;
    let (got, begun) = (get.await.unwrap(), start.await.unwrap());
    assert_eq!((got.status.as_u16(), &got.body["status"]), (200, &json!("running")), "{got:?}");
    assert_eq!((begun.status.as_u16(), &begun.body["status"]), (201, &json!("running")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_while_it_runs() {
    let api = Api::start().await;
    api.register(SLOW).await;
    let started = api.post("/runs", &json!({"dagId": "slow"})).await;
    let path = format!("/runs/{}", started.body["runId"].as_str().unwrap());
    let cancelled =
        api.post(&format!("{path}:cancel"), &json!({"reason": "changed my mind"})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let run = api.get(&format!("{path}?wait=30s&minSeq={}", cancelled.body["seq"])).await.body;
    assert_eq!(run["status"], "cancelled");
    assert_eq!(run["cancel"]["reason"], "changed my mind");
    assert_eq!(run["cancel"]["actor"], run["startedBy"]);
    let then = api.get(&format!("{path}?asOf={}", run["lastSeq"])).await.body;
    assert_eq!(then["cancel"], run["cancel"], "as the ledger has it");
    let size = api.get("/ledger/head").await.body["size"].clone();
    let again = api.post_nothing(&format!("{path}:cancel")).await;
    assert_eq!((again.status.as_u16(), &again.body["status"]), (200, &json!("cancelled")));
    assert_eq!(api.get("/ledger/head").await.body["size"], size, "cancelling is idempotent");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_folded_from_the_ledger() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({})).await;
    let path = format!("/runs/{}", run["runId"].as_str().unwrap());
    let now = api.get(&format!("{path}?minSeq={}", run["seq"])).await.body;
    let created = now["createdSeq"].as_u64().unwrap();
    let then = api.get(&format!("{path}?asOf={created}")).await.body;
    assert_eq!((&then["status"], &then["stepsSucceeded"]), (&json!("running"), &json!(0)));
    assert_eq!(then["lastSeq"], created);
    assert_eq!(api.get(&format!("{path}?asOf={}", run["seq"])).await.body, now);
    let before = api.get(&format!("{path}?asOf={}", created - 1)).await;
    before.is_problem(404, "RUN_NOT_FOUND").detail_has(&format!("begins with event {created}"));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_paged() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let mut seq = 0;
    for n in 0..5 {
        let team = if n < 2 { "a" } else { "b" };
        let body = json!({"dagId": "echo", "inputs": {"n": n}, "labels": {"team": team}});
        seq = api.post("/runs?wait=30s", &body).await.body["seq"].as_u64().unwrap();
    }
    let all = api.get(&format!("/runs?minSeq={seq}")).await.body;
    assert_eq!(all["items"].as_array().unwrap().len(), 5);
    assert_eq!(all["nextPageToken"], Value::Null);
    let (mut walked, mut token) = (vec![], String::new());
    loop {
        let page = api.get(&format!("/runs?pageSize=2{token}")).await.body;
        walked.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["nextPageToken"].as_str() else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(json!(walked), all["items"]);
    let hash = all["items"][0]["inputsHash"].as_str().unwrap();
    for (filter, count) in [
        ("status=succeeded", 5),
        ("status=failed", 0),
        ("dagId=echo", 5),
        ("dagId=other", 0),
        ("label=team%3Da", 2),
        ("label=team%3Db&status=succeeded", 3),
        ("errorCode=TIMEOUT", 0),
        (&format!("inputsHash={hash}"), 1),
        ("from=2020-01-01T00:00:00Z&to=2999-01-01T00:00:00Z", 5),
        ("to=2020-01-01T00:00:00Z", 0),
    ] {
        let found = api.get(&format!("/runs?{filter}")).await.body;
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{filter}");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_events_come_with_their_headers() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({"who": "me"})).await;
    let path = format!("/runs/{}/ledger", run["runId"].as_str().unwrap());
    let all: Page<EventView> = serde_json::from_value(api.get(&path).await.body).unwrap();
    let types: Vec<_> = all.items.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!((types[0], *types.last().unwrap()), ("RunCreated", "RunSucceeded"));
    assert_eq!(all.items.last().unwrap().seq, run["seq"].as_u64().unwrap());
    let versions: Vec<_> = all.items.iter().map(|event| event.stream_version).collect();
    assert_eq!(versions, (1..=all.items.len() as u64).collect::<Vec<_>>());
    assert_eq!(all.items[0].ledger, "stella.test/acme");
    assert!(all.items[0].payload.as_ref().unwrap().as_str().contains("me"));
    for pair in all.items.windows(2).filter(|pair| pair[0].seq + 1 == pair[1].seq) {
        assert_eq!(pair[1].prev, pair[0].hash);
    }
    let (mut walked, mut token) = (vec![], String::new());
    loop {
        let page = api.get(&format!("{path}?pageSize=2{token}")).await.body;
        let page: Page<EventView> = serde_json::from_value(page).unwrap();
        walked.extend(page.items);
        let Some(next) = page.next_page_token else { break };
        token = format!("&pageToken={next}");
    }
    assert_eq!(walked, all.items);
    api.stop().await;
}

/// A DAG whose second step depends on what it is given.
const TWO: &str = "\
id: two
inputs: {type: object, properties: {n: {type: integer}, code: {type: string}}}
steps:
  - {id: first, plugin: core, action: noop}
  - {id: second, plugin: core, action: echo, needs: [first], with: {list: [1, '${inputs.n}']}}
  - {id: third, plugin: core, action: noop, needs: [second]}
";

/// Each item of a list is a step, and what comes after a long list counts as well.
#[tokio::test(flavor = "multi_thread")]
async fn runs_with_long_lists_are_compared_to_their_ends() {
    const LONG: &str = "\
id: long
inputs: {type: object, properties: {items: {type: array}, end: {type: integer}}}
steps:
  - {id: each, plugin: core, action: noop, forEach: '${inputs.items}'}
  - {id: last, plugin: core, action: echo, needs: [each], with: {end: '${inputs.end}'}}
";
    let api = Api::start().await;
    api.register(LONG).await;
    let items: Vec<u32> = (0..1_100).collect();
    let mut ids = vec![];
    for end in [1, 2, 2] {
        let run = api.finished("long", &json!({"items": items, "end": end})).await;
        assert_eq!(run["status"], "succeeded", "{run}");
        ids.push(run["runId"].as_str().unwrap().to_owned());
    }
    let compare = async |a: &str, b: &str| -> RunComparison {
        let answer = api.get(&format!("/runs:compare?a={a}&b={b}")).await;
        serde_json::from_value(answer.body).unwrap()
    };
    let other = compare(&ids[0], &ids[1]).await;
    assert_eq!((other.steps_compared, other.whole), (1_102, true));
    let differing: Vec<_> = other.steps.iter().map(|step| step.step_id.as_str()).collect();
    assert_eq!(differing, ["last"], "of many steps those that differ");
    let same = compare(&ids[1], &ids[2]).await;
    assert_eq!((same.verdict, same.steps.len()), (CompareVerdict::Same, 0));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_compared_step_by_step() {
    let api = Api::start().await;
    api.register(TWO).await;
    api.register(SLOW).await;
    let mut ids = vec![];
    let mut seq = json!(0);
    for n in [1, 1, 2] {
        let run = api.finished("two", &json!({"n": n})).await;
        (ids, seq) =
            ([ids, vec![run["runId"].as_str().unwrap().to_owned()]].concat(), run["seq"].clone());
    }
    let compare = async |a: &str, b: &str| -> RunComparison {
        let answer = api.get(&format!("/runs:compare?a={a}&b={b}&minSeq={seq}")).await;
        serde_json::from_value(answer.body).unwrap()
    };
    let same = compare(&ids[0], &ids[1]).await;
    assert_eq!((same.verdict, same.first_difference), (CompareVerdict::Same, None));
    let names: Vec<_> = same.steps.iter().map(|step| step.step_id.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
    assert!(same.steps.iter().all(|s| s.outputs == OutputsComparison::Same && s.a.is_some()));
    assert!(same.steps[0].a.as_ref().unwrap().took_ms.is_some());

    // The inputs are the cause, and what first came of it is a step's output.
    let other = compare(&ids[1], &ids[2]).await;
    assert_eq!(other.verdict, CompareVerdict::Different);
    assert_eq!(other.first_difference.unwrap().what, "inputsHash");
    let differing: Vec<_> = other.steps.iter().filter(|s| !s.differs.is_empty()).collect();
    assert_eq!(differing.len(), 1);
    assert_eq!(
        (&*differing[0].step_id.to_string(), &*differing[0].differs[0]),
        ("second", "outputs")
    );
    let at = differing[0].outputs_differ.as_ref().unwrap();
    assert_eq!((&*at.path, at.a.as_deref(), at.b.as_deref()), ("/list/1", Some("1"), Some("2")));

    // One that goes on, of another DAG.
    let slow = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let slow_id = slow["runId"].as_str().unwrap();
    let query = format!("a={}&b={slow_id}&minSeq={}", ids[0], slow["seq"]);
    let answer = api.get(&format!("/runs:compare?{query}")).await.body;
    let mixed: RunComparison = serde_json::from_value(answer).unwrap();
    assert_eq!(mixed.first_difference.unwrap().what, "dagId");
    assert_eq!(mixed.steps.len(), 4);
    assert!(mixed.steps.iter().all(|step| step.differs == ["queued"]));

    // What was erased is not compared, and that is said.
    let body = json!({"runId": ids[1], "reason": "asked for"});
    let erased = api.post("/ledger:erase", &body).await.body;
    api.get(&format!("/runs?minSeq={}", erased["seq"])).await;
    let kept = compare(&ids[0], &ids[1]).await;
    assert_eq!((kept.verdict, kept.first_difference), (CompareVerdict::SameAsFarAsKept, None));
    assert_eq!(kept.b.erased_seq, erased["seq"].as_u64());
    assert!(kept.steps.iter().all(|step| step.outputs == OutputsComparison::Erased));
    api.get("/runs:compare?a=x").await.is_problem(400, "INVALID_QUERY");
    api.stop().await;
}
