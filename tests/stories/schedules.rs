//! Schedules: what an operator does with them, and that each fire is decided once and has one run,
//! also while servers are killed.

use std::collections::BTreeMap;

use harness::{
    history::History,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};
use stella_domain::{
    event::{Event, RunEvent, ScheduleEvent},
    ids::{RunId, StreamId},
    time::Timestamp,
};

const KILLS: usize = 4;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_fires_nothing_twice_and_starts_what_it_fired(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let mut server = TestServer::on(on).await.start().await;
    let step = json!({"id": "a", "plugin": "core", "action": "noop"});
    server.client.register(&json!({"id": "d", "steps": [step]})).await;
    for (id, overlap) in [("beside", "allow"), ("behind", "queueOne")] {
        let body = json!({"scheduleId": id, "dagId": "d", "every": "1s", "overlap": overlap,
            "catchUp": "all", "catchUpCap": 100});
        server.client.post("/schedules", &body).await.ok();
    }
    let backfill = json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-01T00:02:00Z",
        "cap": 200, "concurrency": 2});
    server.client.post("/schedules/beside:backfill", &backfill).await.ok();
    let fired = async |server: &TestServer| {
        let schedule = server.client.get("/schedules/beside").await.ok();
        schedule["fired"].as_u64().unwrap()
    };
    for _ in 0..KILLS {
        let before = fired(&server).await;
        let wanted = before + fastrand::u64(3..15);
        until("it fires", async || (fired(&server).await >= wanted).then_some(())).await;
        server.kill();
        server.restart().await;
    }
    until("the backfill is over", async || {
        let schedule = server.client.get("/schedules/beside").await.ok();
        (schedule["backfill"]["underWay"] == false).then_some(())
    })
    .await;
    server.client.post("/schedules/beside:pause", &json!({})).await.ok();
    server.client.post("/schedules/behind:pause", &json!({})).await.ok();
    until("every fire has had its run", async || {
        for id in ["beside", "behind"] {
            let schedule = server.client.get(&format!("/schedules/{id}")).await.ok();
            if !schedule["open"].as_array().unwrap().is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await;
    let report = server.client.post_empty("/admin/projections:check").await.ok();
    assert_eq!(report["identical"], true, "{report}");
    server.stop().await;

    let history = History::read(&server.ledger(), "main").await;
    let (mut fires, mut runs) = (BTreeMap::new(), BTreeMap::new());
    for stream in history.streams() {
        for recorded in history.stream(stream) {
            for event in &recorded.events {
                match (event, stream) {
                    (Event::Schedule(ScheduleEvent::ScheduleFired(data, _)), stream) => {
                        let key = (stream.to_string(), data.fire_time);
                        let again = fires.insert(key, data.run_id.clone());
                        assert!(again.is_none(), "{stream} fired twice for {}", data.fire_time);
                    }
                    (Event::Run(RunEvent::RunCreated(data, _)), StreamId::Run(run_id)) => {
                        let fire = data.schedule.as_ref().expect("nothing else starts runs");
                        let key = (format!("schedule/{}", fire.schedule_id), fire.fire_time);
                        runs.insert(key, run_id.clone());
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!(fires, runs, "each fire has its run, and each run its fire");
    let past: Timestamp = "2026-11-02T00:00:00.000000Z".parse().unwrap();
    let backfilled: Vec<&RunId> =
        fires.iter().filter(|((_, time), _)| *time < past).map(|(_, run_id)| run_id).collect();
    assert_eq!(backfilled.len(), 120);
}

/// What `stella orch schedule ARGS` answers.
async fn said(server: &TestServer, args: &[&str]) -> Value {
    server.said(&[&["schedule"], args].concat()).await
}

/// The schedule, at least as of what an answer said.
async fn schedule(server: &TestServer, after: &Value) -> Value {
    server.client.get(&format!("/schedules/daily?minSeq={}", after["seq"])).await.ok()
}

#[rstest]
#[tokio::test]
async fn an_operators_day_with_a_schedule(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.concurrency(0).start().await;
    let client = &server.client;
    let step = json!({"id": "a", "plugin": "core", "action": "echo",
        "with": {"day": "${inputs.day}"}});
    client.register(&json!({"id": "d", "steps": [step]})).await;
    let create = [
        "create",
        "daily",
        "--dag",
        "d",
        "--cron",
        "0 3 * * *",
        "--fire-time-input",
        "day",
        "--reason",
        "as agreed",
    ];
    said(&server, &create).await;
    let worker = server.worker("one").await;
    let ended = async |run_id: &str| {
        until("the run is over", async || {
            let run = client.get(&format!("/runs/{run_id}?wait=30s")).await;
            // A run follows its fire.
            (run.is_success() && run.json()["status"] != "running").then(|| run.json())
        })
        .await
    };

    // One fire by hand, twice the same, while nothing fires by itself.
    said(&server, &["pause", "daily", "--reason", "the source moves"]).await;
    let day = "2026-11-02T03:00:00Z";
    let trigger = ["trigger", "daily", "--fire-time", day, "--reason", "it was late"];
    let fired = said(&server, &trigger).await;
    let again = said(&server, &trigger).await;
    assert_eq!(fired["runId"], again["runId"]);
    let run = ended(fired["runId"].as_str().unwrap()).await;
    assert_eq!(
        (&run["status"], &run["startedBy"]),
        (&json!("succeeded"), &json!("system:scheduler"))
    );
    let at = json!({"runId": run["runId"], "seq": run["lastSeq"]});
    let given = client.step(&at, "a").await["outputs"]["day"].clone();
    assert_eq!(given, "2026-11-02T03:00:00.000000Z");
    said(&server, &["resume", "daily", "--reason", "it has moved"]).await;

    // A backfill: what it would do, what it does, and what had run is passed over.
    let backfill = ["backfill", "daily", "--from", "2026-11-01", "--to", "2026-11-05"];
    let listed = said(&server, &[&backfill[..], &["--dry-run"]].concat()).await;
    assert_eq!(listed["fireTimes"].as_array().unwrap().len(), 4);
    assert_eq!(listed["hadRun"], json!(["2026-11-02T03:00:00.000000Z"]));
    server.stella(&[&["schedule"], &backfill[..], &["--cap", "3"]].concat(), 1).await;
    said(&server, &[&backfill[..], &["--wait", "--reason", "lost days"]].concat()).await;
    let runs = client.get("/runs?pageSize=500").await.ok();
    assert_eq!(runs["items"].as_array().unwrap().len(), 4, "one a day");

    // Another one is cancelled on its way: one run at a time, and nobody works.
    drop(worker);
    let more = ["backfill", "daily", "--from", "2026-10-01", "--to", "2026-10-31"];
    let asked = said(&server, &more).await;
    let first = until("its first run is there", async || {
        let schedule = schedule(&server, &asked).await;
        schedule["open"][0]["started"].as_bool()?.then(|| schedule["open"][0]["runId"].clone())
    })
    .await;
    let cancelled = said(&server, &["cancel-backfill", "daily", "--reason", "wrong month"]).await;
    let _worker = server.worker("two").await;
    let run = ended(first.as_str().unwrap()).await;
    assert_eq!(run["status"], "succeeded", "what runs goes on");
    assert!(run["lastSeq"].as_u64() > cancelled["seq"].as_u64(), "nobody worked before");
    let backfill = schedule(&server, &json!({"seq": run["lastSeq"]})).await["backfill"].clone();
    let count = (&backfill["fires"], &backfill["done"], &backfill["underWay"]);
    assert_eq!(count, (&json!(30), &json!(1), &json!(false)), "{backfill}");

    // What is decided and not started can be voided; nothing fires after the end.
    client.post("/dags/d:pause", &json!({"reason": "stop"})).await.ok();
    let void = said(&server, &["trigger", "daily", "--fire-time", "2026-11-20T03:00:00Z"]).await;
    said(&server, &["clear", "daily", "--reason", "stale"]).await;
    said(&server, &["pause-all", "--reason", "weekend"]).await;
    said(&server, &["resume-all", "--reason", "monday"]).await;
    said(&server, &["delete", "daily", "--reason", "replaced"]).await;
    client.post("/dags/d:resume", &json!({})).await.ok();
    client
        .get(&format!("/runs/{}", void["runId"].as_str().unwrap()))
        .await
        .problem(404, "RUN_NOT_FOUND");
    server.stella(&["schedule", "trigger", "daily"], 1).await;
    let runs = client.get("/runs?pageSize=500").await.ok();
    assert_eq!(runs["items"].as_array().unwrap().len(), 5);
    let report = client.post_empty("/admin/projections:check").await.ok();
    assert_eq!(report["identical"], true, "{report}");

    let expected = [
        ("ScheduleCreated", "as agreed"),
        ("SchedulePaused", "the source moves"),
        ("ScheduleFired", "it was late"),
        ("ScheduleResumed", "it has moved"),
        ("BackfillRequested", "lost days"),
        ("BackfillRequested", ""),
        ("BackfillCancelled", "wrong month"),
        ("ScheduleFired", ""),
        ("TriggersCleared", "stale"),
        ("SchedulersPaused", "weekend"),
        ("SchedulersResumed", "monday"),
        ("ScheduleDeleted", "replaced"),
    ];
    let deeds = server.deeds(&expected.map(|(event_type, _)| event_type)).await;
    let by_user = deeds.iter().filter(|(_, actor, _)| actor == "user:local");
    let deeds: Vec<_> = by_user.map(|(event_type, _, why)| (&**event_type, &**why)).collect();
    assert_eq!(deeds, expected);
}
