//! What operators hold back, seen from workers in processes of their own.

use harness::{
    bundle::ShellBundle,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

async fn start(server: &TestServer, dag_id: &str) -> String {
    let run = server.client.post("/runs", &json!({"dagId": dag_id})).await.ok();
    run["runId"].as_str().unwrap().to_owned()
}

/// Why the run's step waits, at least as of what an answer said.
async fn why(server: &TestServer, run_id: &str, after: &Value) -> (String, String) {
    let path = format!("/runs/{run_id}/waiting?minSeq={}", after["seq"]);
    let waiting = server.client.get(&path).await.ok();
    let why = &waiting["items"][0]["why"];
    (why["code"].as_str().unwrap().to_owned(), why["detail"].as_str().unwrap().to_owned())
}

fn deed(event_type: &str, reason: &str) -> (String, String, String) {
    (event_type.to_owned(), "user:local".to_owned(), reason.to_owned())
}

#[rstest]
#[tokio::test]
async fn what_is_paused_waits_and_says_who_paused_it(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.concurrency(0).start().await;
    let step = json!({"id": "a", "plugin": "core", "action": "noop"});
    for id in ["held", "free"] {
        server.client.register(&json!({"id": id, "steps": [step]})).await;
    }
    let paused = server.said(&["queue", "pause", "--reason", "upgrade"]).await;
    let held = start(&server, "held").await;
    let _worker = server.worker("one").await;
    let (code, detail) = why(&server, &held, &paused).await;
    assert!(code == "DISPATCH_PAUSED" && detail.contains("user:local"), "{code}: {detail}");
    assert!(detail.ends_with("upgrade"), "{detail}");
    let paused = server.said(&["dag", "pause", "held", "--reason", "wrong data"]).await;
    server.said(&["queue", "resume", "--reason", "upgraded"]).await;
    // The worker takes what is behind it in the queue, and not what is held.
    let free = start(&server, "free").await;
    assert_eq!(server.client.ended(&free).await["status"], "succeeded");
    let (code, detail) = why(&server, &held, &paused).await;
    assert!(code == "DAG_PAUSED" && detail.ends_with("wrong data"), "{code}: {detail}");
    let refused = server.client.post("/runs", &json!({"dagId": "held"})).await;
    refused.problem(409, "DAG_PAUSED");
    server.said(&["dag", "resume", "held", "--reason", "corrected"]).await;
    assert_eq!(server.client.ended(&held).await["status"], "succeeded");
    let types = ["DispatchPaused", "DispatchResumed", "DagPaused", "DagResumed"];
    let expected = [
        deed("DispatchPaused", "upgrade"),
        deed("DagPaused", "wrong data"),
        deed("DispatchResumed", "upgraded"),
        deed("DagResumed", "corrected"),
    ];
    assert_eq!(server.deeds(&types).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_drain_admits_nothing_and_works_off_what_waits_oldest_first(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let server = TestServer::on(on).await.concurrency(0).start().await;
    let steps = json!([
        {"id": "a", "plugin": "core", "action": "noop"},
        {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
    ]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    let schedule = json!({"scheduleId": "s", "dagId": "d", "every": "1d"});
    server.client.post("/schedules", &schedule).await.ok();
    let mut runs = vec![];
    for _ in 0..10 {
        runs.push(start(&server, "d").await);
    }
    server.stella(&["queue", "drain", "--then-pause", "--reason", "move"], 0).await;
    server.client.post("/runs", &json!({"dagId": "d"})).await.problem(503, "QUEUE_DRAINING");
    let fired = server.said(&["schedule", "trigger", "s", "--reason", "do not forget"]).await;
    assert!(fired["waits"].as_str().is_some(), "it says what its run waits for: {fired}");
    // To wait for it changes nothing of it.
    let drained = server.stella(&["queue", "drain", "--wait", "-o", "json"], 0);
    let (drained, worker) = tokio::join!(drained, server.worker("one"));
    let drained: Value = serde_json::from_str(&drained).unwrap();
    assert_eq!((&drained["draining"], &drained["dispatchPaused"]), (&json!(false), &json!(true)));
    for run_id in &runs {
        assert_eq!(server.client.ended(run_id).await["status"], "succeeded");
    }
    let events = server.events().await;
    let of_type =
        |wanted: &'static str| events.iter().filter(move |event| event["header"]["type"] == wanted);
    let streams: Vec<_> = of_type("StepStarted")
        .filter(|event| event["data"]["stepId"] == "a")
        .map(|event| event["header"]["stream"].as_str().unwrap().trim_start_matches("run/"))
        .collect();
    assert_eq!(streams, runs, "those that waited longest first");
    let place = |event: &Value| event["header"]["seq"].as_u64().unwrap();
    let last = of_type("RunSucceeded").map(place).max().unwrap();
    let over = of_type("DrainEnded").next().unwrap();
    assert!(place(over) > last && over["data"]["emptied"] == true, "{over}");
    assert_eq!(server.deeds(&["DrainStarted"]).await, [deed("DrainStarted", "move")]);
    // What comes now waits for the operator, and then goes on.
    let next = start(&server, "d").await;
    let (code, detail) = why(&server, &next, &json!({"seq": 0})).await;
    assert!(code == "DISPATCH_PAUSED" && detail.ends_with("move"), "{code}: {detail}");
    server.said(&["queue", "resume"]).await;
    assert_eq!(server.client.ended(&next).await["status"], "succeeded");
    let fired = fired["runId"].as_str().unwrap();
    assert_eq!(
        server.client.ended(fired).await["status"],
        "succeeded",
        "what was fired has its run"
    );
    drop(worker);
}

/// Fails if somebody else is at the same place already.
fn alone(places: &str) -> ShellBundle {
    let script = format!(
        "place={places}/$(sed 's/.*\"place\":\"\\([a-z]*\\)\".*/\\1/')\n\
         mkdir \"$place\" || exit 7\nsleep 0.05\nrmdir \"$place\"\n\
         echo '{{\"outputs\":{{}}}}'"
    );
    ShellBundle::new("alone", &["go"], &script)
}

#[rstest]
#[tokio::test]
async fn limits_hold_over_all_workers(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let places = tempfile::tempdir().unwrap();
    let plugin = alone(places.path().to_str().unwrap());
    let server = TestServer::on(on).await.plugin(plugin.dir()).concurrency(0).start().await;
    let step = json!({"id": "a", "plugin": "alone", "action": "go",
        "with": {"place": "${inputs.place}"}});
    let keyed = json!({"limit": 1, "key": "${inputs.place}"});
    server.client.register(&json!({"id": "keyed", "steps": [step], "concurrency": keyed})).await;
    server.client.register(&json!({"id": "free", "steps": [step]})).await;
    let _workers = (
        server.worker_of("one", plugin.dir()).await,
        server.worker_of("two", plugin.dir()).await,
        server.worker_of("three", plugin.dir()).await,
    );
    let all_at_once = async |dag_id: &str, places: &[&str]| {
        let runs = places.iter().map(async |place| {
            server.client.run(&json!({"dagId": dag_id, "inputs": {"place": place}})).await
        });
        let runs = futures::future::join_all(runs).await;
        runs.iter().filter(|run| run["status"] == "succeeded").count()
    };
    // By key: nobody meets anybody at a place, and nobody waits for another place.
    assert_eq!(all_at_once("keyed", &["x", "y", "x", "z", "y", "x"]).await, 6);
    // They do meet where nothing is limited: the plugin would notice.
    until("two are at one place", async || {
        (all_at_once("free", &["x", "x", "x"]).await < 3).then_some(())
    })
    .await;
    for args in [["--plugin", "alone"], ["--dag", "free"]] {
        let scope = [&["queue", "limit", "1", "--reason", "one licence"], &args[..]].concat();
        server.said(&scope).await;
        assert_eq!(all_at_once("free", &["x"; 6]).await, 6, "{args:?}");
        server.said(&[&["queue", "limit", "--lift"], &args[..]].concat()).await;
    }
    server.said(&["queue", "limit", "1"]).await;
    assert_eq!(all_at_once("free", &["x"; 6]).await, 6, "of the tenant");
}
