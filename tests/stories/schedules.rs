//! Schedules while servers are killed: each fire is decided once, and has one run.

use std::collections::BTreeMap;

use harness::{
    history::History,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::json;
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
