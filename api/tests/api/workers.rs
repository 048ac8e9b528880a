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

/// The same of a worker that says which `core` it has.
async fn lease_with(api: &Api, version: &str, digest: &str) -> LeaseView {
    let core = json!({"name": "core", "version": version, "digest": digest});
    let poll = json!({"workerId": "w", "plugins": [core], "waitMs": 30_000});
    let answer = api.post("/workers:poll", &poll).await;
    let mut leases: LeasesView = serde_json::from_value(answer.body).unwrap();
    leases.leases.remove(0)
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

/// All leases of one answer.
async fn polled(api: &Api, plugins: &[&str], max: u32, wait_ms: u32) -> Vec<LeaseView> {
    let poll = json!({"workerId": "w", "plugins": plugins, "max": max, "waitMs": wait_ms});
    let answer = api.post("/workers:poll", &poll).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_value::<LeasesView>(answer.body).unwrap().leases
}

/// Each with a token of its own, those that were queued first first.
#[tokio::test(flavor = "multi_thread")]
async fn several_leases_come_in_one_answer_and_max_bounds_them() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let mut started = vec![];
    for n in 0..9 {
        let run = api.post("/runs", &json!({"dagId": "echo", "inputs": {"n": n}})).await.body;
        started.push(run["runId"].as_str().unwrap().to_owned());
    }
    let mut held: Vec<LeaseView> = vec![];
    for max in [3, 1, 2] {
        let leases = polled(&api, &["core"], max, 30_000).await;
        assert_eq!(leases.len(), max as usize);
        held.extend(leases);
    }
    // A report asks for more in the same way.
    let done = json!({"workerId": "w", "outputs": {}, "andPoll": {"plugins": ["core"], "max": 2}});
    let answer = report(&api, &held[0], "complete", &done).await.body;
    let more: LeasesView = serde_json::from_value(answer).unwrap();
    assert_eq!(more.leases.len(), 2);
    held.extend(more.leases);
    // There are fewer than it is ready for: it waits for no more of them.
    let last = polled(&api, &["core"], 256, 30_000).await;
    assert_eq!(last.len(), 1);
    held.extend(last);
    let runs: Vec<String> = held.iter().map(|lease| lease.run_id.to_string()).collect();
    assert_eq!(runs, started);
    for (n, lease) in held.iter().enumerate().skip(1) {
        assert_eq!(lease.with.as_str(), format!(r#"{{"said":{{"n":{n}}}}}"#));
        let done = json!({"workerId": "w", "outputs": {"n": n}});
        assert_eq!(report(&api, lease, "complete", &done).await.status, 200);
        let run = api.get(&format!("/runs/{}?wait=30s", lease.run_id)).await.body;
        assert_eq!(run["status"], "succeeded", "{run}");
    }
    assert_eq!(polled(&api, &["core"], 256, 0).await, []);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_two_plugins_come_together_only_to_who_names_both() {
    const PAIR: &str = "id: pair
steps:
  - {id: a, plugin: core, action: noop}
  - {id: b, plugin: scan, action: look}
";
    let api = Api::without_worker().await;
    // There is somebody who has it: the DAG may name it.
    polled(&api, &["scan"], 1, 0).await;
    api.register(PAIR).await;
    let start = async || api.post("/runs", &json!({"dagId": "pair"})).await;
    let told = async |plugins: &[&str]| -> Vec<String> {
        let leases = polled(&api, plugins, 256, 30_000).await;
        let told = leases.iter().map(|lease| format!("{}/{}", lease.plugin, lease.step_id));
        told.collect()
    };
    for _ in 0..2 {
        start().await;
    }
    assert_eq!(told(&["core"]).await, ["core/a", "core/a"]);
    start().await;
    // In the order in which they were queued, not plugin by plugin.
    assert_eq!(told(&["core", "scan"]).await, ["scan/b", "scan/b", "core/a", "scan/b"]);
    start().await;
    assert_eq!(told(&["scan", "more"]).await, ["scan/b"]);
    assert_eq!(polled(&api, &["scan", "more"], 256, 0).await, []);
    assert_eq!(told(&["core"]).await, ["core/a"]);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_of_a_cancelled_run_and_the_heartbeat_says_so_too() {
    let api = Api::without_worker().await;
    api.register(SLOW).await;
    api.post("/runs", &json!({"dagId": "slow"})).await;
    let held = lease(&api, "w").await;
    let asked = |id: &str, wait_ms: u64| {
        let body = json!({"workerId": id, "waitMs": wait_ms});
        let (api, body) = (&api, body);
        async move { api.post("/workers:cancellations", &body).await.body["tokens"].clone() }
    };
    assert_eq!(asked("w", 0).await, json!([]));
    let cancel = format!("/runs/{}:cancel", held.run_id);
    let cancelling = json!({});
    let (told, _) = futures::join!(asked("w", 60_000), api.post(&cancel, &cancelling));
    assert_eq!(told, json!([held.token]));
    assert_eq!(asked("w", 0).await, told, "until it is reported");
    assert_eq!(asked("other", 0).await, json!([]));
    let beat = report(&api, &held, "heartbeat", &json!({"workerId": "w"})).await;
    assert_eq!(beat.body["verdict"], "cancel", "{beat:?}");
    let stopped = json!({"workerId": "w", "kind": "cancelled"});
    assert_eq!(report(&api, &held, "fail", &stopped).await.status, 200);
    let run = api.get(&format!("/runs/{}?wait=30s", held.run_id)).await.body;
    assert_eq!(run["status"], "cancelled");
    assert_eq!(asked("w", 0).await, json!([]));
    let long = json!({"workerId": "w", "waitMs": 60_001});
    api.post("/workers:cancellations", &long).await.is_problem(400, "INVALID_BODY");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carried_out_a_step_is_recorded_and_compared() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let start = async || api.post("/runs", &json!({"dagId": "echo"})).await;
    let (old, new) = (format!("b3:{}", "0".repeat(64)), format!("b3:{}", "1".repeat(64)));
    start().await;
    let first = lease_with(&api, "1.2.0", &old).await;
    let done = json!({"workerId": "w", "outputs": {}});
    report(&api, &first, "complete", &done).await;
    start().await;
    let second = lease_with(&api, "1.3.0", &new).await;
    start().await;
    // What comes with a report is recorded as what was said with it.
    let core = json!({"name": "core", "version": "1.3.1", "digest": new});
    let fail = json!({"workerId": "w", "code": "NO_SPACE", "retryable": false,
        "andPoll": {"plugins": [core]}});
    let answer = report(&api, &second, "fail", &fail).await.body;
    let third: LeasesView = serde_json::from_value(answer).unwrap();
    start().await;
    let silent = lease(&api, "w").await;

    let ended = api.get(&format!("/runs/{}?wait=30s", second.run_id)).await.body;
    let seq = ended["lastSeq"].as_u64().unwrap();
    let said = async |lease: &LeaseView| {
        let steps = api.get(&format!("/runs/{}/steps?minSeq={seq}", lease.run_id)).await.body;
        let step = &steps["items"][0];
        let events = api.get(&format!("/runs/{}/ledger", lease.run_id)).await.body;
        let events = events["items"].as_array().unwrap();
        let started = events.iter().find(|event| event["type"] == "StepStarted").unwrap();
        for member in ["pluginVersion", "pluginDigest"] {
            assert_eq!(step[member], started["data"][member]);
        }
        (step["pluginVersion"].clone(), step["pluginDigest"].clone())
    };
    assert_eq!(said(&first).await, (json!("1.2.0"), json!(old)));
    assert_eq!(said(&second).await, (json!("1.3.0"), json!(new)));
    assert_eq!(said(&third.leases[0]).await, (json!("1.3.1"), json!(new)));
    assert_eq!(said(&silent).await, (json!(null), json!(null)));

    let compare = async |a: &LeaseView, b: &LeaseView| {
        let path = format!("/runs:compare?a={}&b={}&minSeq={seq}", a.run_id, b.run_id);
        api.get(&path).await.body
    };
    let differ = compare(&first, &second).await;
    let step = &differ["steps"][0];
    let expected = json!(["pluginVersion", "pluginDigest", "phase", "errorCode", "outputs"]);
    assert_eq!(step["differs"], expected, "{differ}");
    assert_eq!(
        (&step["a"]["pluginVersion"], &step["b"]["pluginVersion"]),
        (&json!("1.2.0"), &json!("1.3.0"))
    );
    assert_eq!(differ["firstDifference"], json!({"stepId": "say", "what": "pluginVersion"}));
    // What a worker does not say is no difference.
    let differ = compare(&third.leases[0], &silent).await;
    assert_eq!(differ["steps"][0]["differs"], json!([]), "{differ}");

    let rerun = async |plugin: Option<&str>, version: &str| {
        let body = json!({"from": "2000-01-01T00:00:00Z", "to": ended["endedAt"], "dryRun": true,
            "plugin": plugin, "pluginVersion": version});
        api.post("/runs:rerun", &body).await
    };
    let of_version = async |version| rerun(Some("core"), version).await.body["items"].clone();
    assert_eq!(of_version("1.3.0").await[0]["runId"], json!(second.run_id));
    assert_eq!(of_version("1.2.0").await, json!([]));
    rerun(None, "1.3.0").await.is_problem(400, "INVALID_BODY").detail_has("`plugin`");

    api.post(
        "/workers:poll",
        &json!({"workerId": "v", "waitMs": 0,
        "plugins": ["core", {"name": "scan", "version": "7", "digest": old}]}),
    )
    .await;
    let workers = api.get("/workers").await.body;
    let v = workers["items"].as_array().unwrap().iter().find(|worker| worker["workerId"] == "v");
    let plugins = json!([{"name": "core"}, {"name": "scan", "version": "7", "digest": old}]);
    assert_eq!(v.unwrap()["plugins"], plugins, "{workers}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_of_the_server_says_what_it_has() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({})).await;
    let run_id = run["runId"].as_str().unwrap();
    let ended = api.get(&format!("/runs/{run_id}?wait=30s")).await.body;
    let path = format!("/runs/{run_id}/steps?minSeq={}", ended["lastSeq"]);
    let steps = api.get(&path).await.body;
    assert_eq!(steps["items"][0]["pluginVersion"], env!("CARGO_PKG_VERSION"), "{steps}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_only_a_worker_has_may_be_named_while_it_is_there() {
    const SCAN: &str = "id: scan\nsteps: [{id: a, plugin: scanner, action: anything}]\n";
    let api = Api::without_worker().await;
    let refused = api.post_text("/dags", "application/yaml", SCAN).await;
    let problem = refused.is_problem(422, "SPEC_INVALID").text.clone();
    for part in ["unknown plugin scanner", "known: core", "--remote-plugin scanner"] {
        assert!(problem.contains(part), "{part:?} is not in {problem}");
    }
    let poll = |wait_ms: u32| json!({"workerId": "w", "plugins": ["scanner"], "waitMs": wait_ms});
    api.post("/workers:poll", &poll(0)).await;
    let valid = api.post_text("/dags:validate", "application/yaml", SCAN).await;
    assert_eq!(valid.status, 200, "{valid:?}");
    api.register(SCAN).await;
    api.post("/runs", &json!({"dagId": "scan"})).await;
    let leases = api.post("/workers:poll", &poll(30_000)).await.body;
    assert_eq!(leases["leases"][0]["action"], "anything", "{leases}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_asked_to_load_their_plugins_again() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    api.post("/runs", &json!({"dagId": "echo"})).await;
    let held = lease(&api, "holds").await;
    let beat = async || report(&api, &held, "heartbeat", &json!({"workerId": "holds"})).await.body;
    assert_eq!(beat().await, json!({"verdict": "continue"}), "nobody has asked");

    let poll = |wait_ms: u32| json!({"workerId": "waits", "plugins": ["core"], "waitMs": wait_ms});
    let (long, whole) = (poll(60_000), api.request(reqwest::Method::POST, "/workers:poll"));
    let waiting =
        tokio::spawn(async move { Answer::of(whole.json(&long).send().await.unwrap()).await });
    let asked = loop {
        let workers = api.get("/workers").await.body["items"].as_array().unwrap().clone();
        if workers.iter().any(|worker| worker["workerId"] == "waits") {
            break api.post_nothing("/workers:warm").await;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(asked.body["workers"], json!(["holds", "waits"]));
    assert_eq!(asked.body["bundles"], json!([]));
    let warm = &asked.body["warm"];
    // Whoever waits is told at once, the others with what they ask next.
    assert_eq!(waiting.await.unwrap().body, json!({"leases": [], "warm": warm}));
    assert_eq!(beat().await, json!({"verdict": "continue", "warm": warm}));
    assert_eq!(api.post("/workers:poll", &poll(0)).await.body["warm"], *warm);
    let done = report(&api, &held, "complete", &json!({"workerId": "holds", "outputs": {}})).await;
    assert_eq!(done.body["warm"], *warm);
    let again = api.post_nothing("/workers:warm").await.body["warm"].clone();
    assert!(again.as_str().unwrap() > warm.as_str().unwrap(), "{again} is not after {warm}");
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
        json!({"workerId": "w", "plugins": [{"version": "1"}]}),
        json!({"workerId": "w", "plugins": [{"name": "core", "version": "1 2"}]}),
        json!({"workerId": "w", "plugins": [{"name": "core", "digest": "b3:XY"}]}),
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
