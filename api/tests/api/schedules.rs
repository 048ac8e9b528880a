//! Schedules over HTTP.

use serde_json::json;
use stella_api::types::{ChangedSchedule, ScheduleView};

use stella_ledger::clock::{Clock as _, SystemClock};

use crate::support::{Api, ECHO};

async fn get(api: &Api, path: &str) -> ScheduleView {
    let answer = api.get(path).await;
    serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_shown_as_it_was_asked_for_and_takes_what_it_shows() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let body = json!({"scheduleId": "nightly", "dagId": "echo", "cron": "30 2 * * *",
        "timeZone": "Europe/Berlin", "jitter": "5m", "overlap": "queueOne", "catchUp": "all",
        "inputs": {"n": 1}, "fireTimeInput": "who", "labels": {"team": "data"}, "priority": 3,
        "endAt": "2999-01-01T00:00:00Z"});
    let created = api.post("/schedules", &body).await.body;
    let shown = get(&api, &format!("/schedules/nightly?minSeq={}", created["seq"])).await;
    let spec = serde_json::to_value(&shown.spec).unwrap();
    for (member, value) in body.as_object().unwrap() {
        if member != "endAt" {
            assert_eq!(&spec[member], value, "{member}");
        }
    }
    assert_eq!(spec["catchUpCap"], 10);
    assert_eq!(shown.next.len(), 5);
    assert!(shown.next.windows(2).all(|two| two[0] < two[1]));
    let same = api.post("/schedules/nightly:update", &spec).await.body;
    assert!(same["seq"].is_null(), "what it shows is what it is: {same}");
    let listed = api.get("/schedules").await.body;
    assert_eq!(listed["items"][0]["spec"]["scheduleId"], "nightly");
    api.post("/schedules/nightly:delete", &json!({})).await;
    api.get("/schedules/nightly?minSeq=0").await;
    let again = api.post("/schedules", &body).await;
    assert_eq!(again.status, 201, "its name is free again: {again:?}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_and_a_backfill_start_runs_that_the_schedule_shows() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let body = json!({"scheduleId": "daily", "dagId": "echo", "cron": "0 0 * * *",
        "fireTimeInput": "who"});
    api.post("/schedules", &body).await;
    let trigger = json!({"fireTime": "2026-11-02T00:00:00Z"});
    let fired: ChangedSchedule =
        serde_json::from_value(api.post("/schedules/daily:trigger", &trigger).await.body).unwrap();
    let run_id = fired.run_id.unwrap();
    let ended = async {
        loop {
            let run = api.get(&format!("/runs/{run_id}?wait=30s")).await;
            // Its start follows the fire.
            if run.status == 200 {
                return run.body;
            }
        }
    };
    let run = tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(run["status"], "succeeded", "{run}");
    assert_eq!(run["startedBy"], "system:scheduler");
    let fire = json!({"scheduleId": "daily", "fireTime": "2026-11-02T00:00:00.000000Z"});
    assert_eq!(run["schedule"], fire);
    let range = json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-04T00:00:00Z"});
    let mut dry = range.clone();
    dry["dryRun"] = true.into();
    let listed = api.post("/schedules/daily:backfill", &dry).await.body;
    assert_eq!(listed["fireTimes"].as_array().unwrap().len(), 3);
    assert_eq!(listed["hadRun"], json!(["2026-11-02T00:00:00.000000Z"]));
    assert!(listed["seq"].is_null());
    let mut many = range.clone();
    many["cap"] = 10_001.into();
    let refused = api.post("/schedules/daily:backfill", &many).await;
    refused.is_problem(400, "INVALID_BODY").detail_has("1 to 10000");
    let asked = api.post("/schedules/daily:backfill", &range).await.body;
    assert_eq!(asked["hadRun"], listed["hadRun"]);
    let over = async {
        let mut path = format!("/schedules/daily?minSeq={}", asked["seq"]);
        loop {
            let backfill = get(&api, &path).await.backfill.unwrap();
            if !backfill.under_way {
                return backfill;
            }
            path = "/schedules/daily".to_owned();
        }
    };
    let backfill = tokio::time::timeout(std::time::Duration::from_secs(30), over).await.unwrap();
    assert_eq!((backfill.fires, backfill.done, backfill.had_run), (3, 3, 1));
    let runs = api.get("/runs").await.body;
    assert_eq!(runs["items"].as_array().unwrap().len(), 3, "the one that ran is passed over");
    let report = api.post_nothing("/admin/projections:check").await.body;
    assert_eq!(report["identical"], true, "{report}");
    api.stop().await;
}

/// A schedule whose DAG is paused, one that is paused itself, and all of them.
#[tokio::test(flavor = "multi_thread")]
async fn health_says_why_schedules_do_not_fire() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let found = async |part: &'static str, min_seq: &serde_json::Value| {
        api.get(&format!("/schedules?minSeq={min_seq}")).await;
        let health = api.get("/admin/health").await.body;
        let parts = health["components"].as_array().unwrap().clone();
        let part = parts.into_iter().find(|found| found["name"] == part).unwrap();
        (part["status"].as_str().unwrap().to_owned(), part["message"].as_str().unwrap().to_owned())
    };
    let body = json!({"scheduleId": "daily", "dagId": "echo", "cron": "0 0 * * *"});
    let created = api.post("/schedules", &body).await.body;
    let (status, message) = found("schedulers", &created["seq"]).await;
    assert_eq!((&*status, &*message), ("green", "1 schedules, none overdue"));

    let why = json!({"reason": "the source moves"});
    let paused = api.post("/schedules/daily:pause", &why).await.body;
    let (status, message) = found("schedulers", &paused["seq"]).await;
    assert_eq!(status, "green");
    assert!(message.contains("daily (since ") && message.contains("the source moves"), "{message}");

    // A trigger fires whatever is paused, but for its DAG.
    api.post("/dags/echo:pause", &why).await;
    let fired = api.post("/schedules/daily:trigger", &json!({})).await.body;
    assert_eq!(fired["waits"], "its DAG is paused", "{fired}");
    let held = get(&api, &format!("/schedules/daily?minSeq={}", fired["seq"])).await.held;
    let held = held.unwrap();
    assert!(held.starts_with("its DAG is paused since ") && held.ends_with(": the source moves"));
    let refused = async {
        loop {
            let (status, message) = found("schedulers", &fired["seq"]).await;
            if status == "yellow" {
                return message;
            }
        }
    };
    let message = tokio::time::timeout(std::time::Duration::from_secs(30), refused).await.unwrap();
    assert!(message.contains("runs of fires are refused of daily ("), "{message}");
    assert!(message.contains("its DAG is paused"), "{message}");

    let held = api.post("/schedulers:pause", &why).await.body;
    let (status, message) = found("schedulers", &held["seq"]).await;
    assert_eq!(status, "yellow");
    assert!(message.starts_with("no schedule fires: all are paused since "), "{message}");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_would_never_fire_is_refused_and_one_that_is_over_says_so() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let past = json!({"scheduleId": "once", "dagId": "echo", "at": "2026-01-01T00:00:00Z"});
    let refused = api.post("/schedules", &past).await;
    refused.is_problem(422, "SCHEDULE_INVALID");
    let error = &refused.body["errors"][0];
    assert_eq!(error["path"], "at");
    assert!(error["message"].as_str().unwrap().ends_with("it would never fire"), "{error}");
    let field = json!({"scheduleId": "once", "dagId": "echo", "cron": "0 25 * * *"});
    let refused = api.post("/schedules", &field).await;
    let message = refused.body["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("\"25\" is no hour of a cron expression"), "{message}");

    let soon = SystemClock.now().plus_ms(2_000).to_string();
    let once = json!({"scheduleId": "once", "dagId": "echo", "at": soon});
    assert_eq!(api.post("/schedules", &once).await.status, 201);
    assert!(!get(&api, "/schedules/once").await.over);
    let over = async {
        while !get(&api, "/schedules/once").await.over {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), over).await.unwrap();
    let once = get(&api, "/schedules/once").await;
    assert_eq!((once.fired, once.next.len()), (1, 0));
    api.stop().await;
}
