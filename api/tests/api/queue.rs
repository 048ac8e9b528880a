//! What waits, why, and what operators hold back.

use std::time::Duration;

use serde_json::{Value, json};
use stella_api::types::{LeaseView, LeasesView, MarkView, QueueView, WaitView, WaitingStepView};
use stella_domain::time::Timestamp;

use crate::support::{Api, ECHO, GATED};

const CHAIN: &str = "id: chain
steps:
  - {id: a, plugin: core, action: noop}
  - {id: b, plugin: core, action: noop, needs: [a]}
";

/// One step of the DAG runs at once, or of the runs that say the same.
const ONE: &str = "id: one
concurrency: {limit: 1}
steps:
  - {id: a, plugin: core, action: noop}
";
const KEYED: &str = "id: keyed
inputs: {type: object, properties: {who: {type: string}}}
concurrency: {limit: 1, key: '${inputs.who}'}
steps:
  - {id: a, plugin: core, action: noop}
";

const FLAKY: &str = "id: flaky
steps:
  - {id: a, plugin: core, action: noop, retries: {max: 2, backoff: 1h, maxBackoff: 1h}}
";

const BUSY: &str = "the workers with its plugin are busy, or older steps and steps of higher \
    priority go first";

async fn items(api: &Api, path: &str, seq: &Value) -> Vec<WaitingStepView> {
    let body = api.get(&format!("{path}?minSeq={seq}")).await.body;
    serde_json::from_value(body["items"].clone()).unwrap()
}

/// What the run's only step that waits for a worker or its next attempt waits for. The run says the
/// same as the queue.
async fn why(api: &Api, run: &Value, seq: &Value) -> WaitView {
    let run_id = run["runId"].as_str().unwrap();
    let mut of_run = items(api, &format!("/runs/{run_id}/waiting"), seq).await;
    let mut queue = items(api, "/queue/steps", seq).await;
    queue.retain(|step| step.run_id.to_string() == run_id);
    assert_eq!(of_run, queue);
    assert_eq!(of_run.len(), 1, "{of_run:?}");
    of_run.remove(0).why
}

/// The leases that there are for a worker with `core`, however many it is ready for.
async fn leased(api: &Api, wait_ms: u32) -> Vec<LeaseView> {
    let poll = json!({"workerId": "w", "plugins": ["core"], "max": 256, "waitMs": wait_ms});
    let answer = api.post("/workers:poll", &poll).await;
    serde_json::from_value::<LeasesView>(answer.body).unwrap().leases
}

async fn report(api: &Api, lease: &LeaseView, verb: &str, mut body: Value) {
    body["workerId"] = "w".into();
    let answer = api.post(&format!("/leases/{}:{verb}", lease.token), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// As it is said who holds something back.
fn by(MarkView { actor, at, reason, .. }: &MarkView) -> String {
    format!("by {actor} since {at}: {}", reason.as_deref().unwrap())
}

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

/// Who set it and why, as everything that operators hold back says.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_at_an_operators_limit_says_whose_limit_it_is() {
    for (of, scope) in [
        (json!({}), "tenant"),
        (json!({"dagId": "echo"}), "dag echo"),
        (json!({"plugin": "core"}), "plugin core"),
    ] {
        let api = Api::without_worker().await;
        api.register(ECHO).await;
        api.post("/runs", &json!({"dagId": "echo"})).await;
        let first = leased(&api, 30_000).await.remove(0);
        let mut limit = json!({"limit": 1, "reason": "one licence"});
        limit.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
        api.post("/queue:limit", &limit).await;
        let second = api.post("/runs", &json!({"dagId": "echo"})).await.body;
        assert_eq!(leased(&api, 0).await, []);
        let WaitView { code, detail, until } = why(&api, &second, &second["seq"]).await;
        let queue: QueueView = serde_json::from_value(api.get("/queue").await.body).unwrap();
        let set = by(&queue.control.limits[0].set);
        assert_eq!((code.as_str(), until), ("CONCURRENCY_LIMIT", None));
        assert_eq!(detail, format!("{scope} runs 1 at once at most, as set {set}"));
        assert!(set.starts_with("by user:") && set.ends_with(": one licence"), "{set}");
        report(&api, &first, "complete", json!({"outputs": {}})).await;
        assert_eq!(why(&api, &second, &json!(0)).await.code, "WORKERS_BUSY", "of {scope}");
        assert_eq!(leased(&api, 30_000).await[0].run_id.to_string(), second["runId"]);
        api.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_at_its_dags_limit_says_whether_a_key_shares_it() {
    let api = Api::without_worker().await;
    for (dag, yaml, of) in [
        ("one", ONE, "of its steps"),
        ("keyed", KEYED, "of its steps with the same concurrency key"),
    ] {
        api.register(yaml).await;
        let start = async |who: &str| {
            let inputs = if dag == "keyed" { json!({"who": who}) } else { json!({}) };
            api.post("/runs", &json!({"dagId": dag, "inputs": inputs})).await.body
        };
        start("ann").await;
        let first = leased(&api, 30_000).await.remove(0);
        let second = start("ann").await;
        let other = start("bob").await;
        let WaitView { code, detail, until } = why(&api, &second, &other["seq"]).await;
        assert_eq!((code.as_str(), until), ("CONCURRENCY_LIMIT", None), "{dag}");
        assert_eq!(detail, format!("its DAG lets 1 {of} run at once"));
        let (expected, free) =
            if dag == "keyed" { ("WORKERS_BUSY", 1) } else { ("CONCURRENCY_LIMIT", 0) };
        assert_eq!(why(&api, &other, &other["seq"]).await.code, expected, "{dag}");
        let mut held = leased(&api, 30_000 * free).await;
        assert_eq!(held.len(), free as usize, "{dag}");
        // What waited goes as soon as one less runs.
        held.push(first);
        let mut went = vec![];
        while let Some(lease) = held.pop() {
            report(&api, &lease, "complete", json!({"outputs": {}})).await;
            went.push(lease.run_id.to_string());
            if went.len() + held.len() < 3 {
                held.extend(leased(&api, 30_000).await);
            }
        }
        assert_eq!(went[1..], [&second, &other].map(|run| run["runId"].as_str().unwrap()), "{dag}");
    }
    api.stop().await;
}

/// Each time with a state that has seen the change which it follows from.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_limit_holds_back_waits_for_its_plugin_or_its_workers() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    assert_eq!(leased(&api, 0).await, []);
    let run = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    let busy = WaitView { code: "WORKERS_BUSY".into(), detail: BUSY.into(), until: None };
    assert_eq!(why(&api, &run, &run["seq"]).await, busy);

    let pause = json!({"plugin": "core", "reason": "a new version"});
    let paused = api.post("/queue:pause", &pause).await.body;
    let found = why(&api, &run, &paused["seq"]).await;
    let queue: QueueView = serde_json::from_value(api.get("/queue").await.body).unwrap();
    let mark = by(&queue.control.plugins_paused[0].paused);
    assert_eq!(found.code, "PLUGIN_PAUSED");
    assert_eq!(found.detail, format!("plugin core is paused {mark}"));
    assert!(mark.starts_with("by user:") && mark.ends_with(": a new version"), "{mark}");
    assert_eq!(leased(&api, 0).await, []);
    let other = api.post("/queue:resume", &json!({"plugin": "other"})).await.body;
    assert_eq!(other["pluginsPaused"], json!(["core"]));
    let resumed = api.post("/queue:resume", &json!({"plugin": "core"})).await.body;
    assert_eq!(why(&api, &run, &resumed["seq"]).await, busy);

    // Workers that have other plugins do not count, nor those that have left.
    api.post("/workers:leave", &json!({"workerId": "w"})).await;
    let poll = json!({"workerId": "v", "plugins": ["other"], "waitMs": 0});
    api.post("/workers:poll", &poll).await;
    let found = why(&api, &run, &resumed["seq"]).await;
    assert!(found.code == "NO_WORKER" && found.detail.contains("plugin core"), "{found:?}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_backs_off_says_when_it_is_queued_again() {
    let api = Api::without_worker().await;
    api.register(FLAKY).await;
    api.register(ECHO).await;
    let run = api.post("/runs", &json!({"dagId": "flaky"})).await.body;
    let lease = leased(&api, 30_000).await.remove(0);
    report(&api, &lease, "fail", json!({"code": "NO_SPACE"})).await;
    // A state that has seen this has seen the failure.
    let later = api.post("/runs", &json!({"dagId": "echo"})).await.body;
    let WaitView { code, detail, until } = why(&api, &run, &later["seq"]).await;
    let steps = api.get(&format!("/runs/{}/steps", run["runId"].as_str().unwrap())).await.body;
    let step = &steps["items"][0];
    let until = until.expect("a time");
    assert_eq!((code.as_str(), &step["notBefore"]), ("BACKING_OFF", &json!(until)), "{step}");
    assert_eq!(detail, format!("attempt 1 failed; the next is queued at {until}"));
    let started: Timestamp = serde_json::from_value(step["startedAt"].clone()).unwrap();
    assert!(until.ms_since(started) >= 1_800_000, "half of the backoff at least: {until}");
    let of_echo = items(&api, "/queue/steps", &later["seq"]).await;
    let codes: Vec<_> =
        of_echo.iter().map(|step| (step.dag_id.as_str(), &*step.why.code)).collect();
    assert_eq!(codes, [("flaky", "BACKING_OFF"), ("echo", "WORKERS_BUSY")]);
    api.stop().await;
}

/// An operator is asked, not a worker: the queue does not list it.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_names_the_commands_that_decide_it_and_until_when() {
    const TIMED: &str = "id: timed\nsteps:\n  - {id: first, approval: {timeout: 2d}}\n";
    let api = Api::without_worker().await;
    for (dag, yaml) in [("gated", GATED), ("timed", TIMED)] {
        api.register(yaml).await;
        let run = api.post("/runs", &json!({"dagId": dag})).await.body;
        let (run_id, seq) = (run["runId"].as_str().unwrap(), &run["seq"]);
        let waiting = items(&api, &format!("/runs/{run_id}/waiting"), seq).await;
        let asked = api.get(&format!("/approvals?dagId={dag}")).await.body["items"][0].clone();
        let until = asked["deadline"].as_str().map(|at| format!(" until {at}"));
        assert_eq!(until.is_some(), dag == "timed", "{asked}");
        let expected = format!(
            "it waits for an operator{}: `stella orch run approve {run_id} first`, or reject",
            until.unwrap_or_default()
        );
        let WaitingStepView { step_id, plugin, why, .. } = &waiting[0];
        assert_eq!((step_id.as_str(), plugin), ("first", &None));
        assert_eq!((&*why.code, &*why.detail), ("APPROVAL", &*expected));
        if let Some(second) = waiting.get(1) {
            assert_eq!((&*second.why.code, &*second.why.detail), ("NEEDS", "it needs first"));
        }
        assert_eq!(items(&api, "/queue/steps", seq).await, []);
    }
    api.stop().await;
}
