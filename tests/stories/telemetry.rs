//! What a server tells of runs: lines of its log, and files of telemetry.

use std::fs;

use harness::{
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

async fn started(on: On, args: &[&str]) -> TestServer {
    let server = TestServer::on(on).await.args(args).start().await;
    let spec = json!({"id": "well", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    server.client.register(&spec).await;
    let ill = json!({"id": "ill", "steps": [
        {"id": "a", "plugin": "core", "action": "fail", "with": {"code": "NO_SPACE"}},
    ]});
    server.client.register(&ill).await;
    server
}

/// The lines about this run, once it is told that it ended.
async fn lines_of(server: &TestServer, run: &Value, end: &str) -> Vec<Value> {
    until(&format!("{end} is in the log"), async || {
        let log = server.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["runId"] == run["runId"]).collect();
        lines.iter().any(|line| line["message"] == end).then_some(lines)
    })
    .await
}

#[rstest]
#[tokio::test]
async fn json_lines_about_runs_say_which_and_how_they_stand(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let mut server = started(on, &["--log-format", "json"]).await;
    let run = server.client.run(&json!({"dagId": "well"})).await;
    let lines = lines_of(&server, &run, "RunSucceeded").await;
    let told: Vec<_> = lines.iter().map(|line| (&line["message"], &line["status"])).collect();
    let expected =
        [(&json!("RunCreated"), &json!("running")), (&json!("RunSucceeded"), &json!("succeeded"))];
    assert_eq!(told, expected, "{lines:?}");
    let run = server.client.run(&json!({"dagId": "ill"})).await;
    let lines = lines_of(&server, &run, "RunFailed").await;
    let end = lines.last().unwrap();
    assert_eq!((&end["status"], &end["level"]), (&json!("failed"), &json!("WARN")), "{end}");
    assert_eq!((&end["errorCode"], &end["stepId"]), (&json!("NO_SPACE"), &json!("a")), "{end}");
    for line in &lines {
        assert_eq!((&line["tenant"], &line["dagId"]), (&json!("main"), &json!("ill")), "{line}");
    }

    // Whoever was started before the server was is known all the same.
    let spec = json!({"id": "asks", "steps": [{"id": "a", "approval": {}}]});
    server.client.register(&spec).await;
    let run = server.client.post("/runs", &json!({"dagId": "asks"})).await.ok();
    server.restart().await;
    let path = format!("/runs/{}:cancel", run["runId"].as_str().unwrap());
    server.client.post(&path, &json!({"reason": "enough"})).await.ok();
    let lines = lines_of(&server, &run, "RunCancelled").await;
    let end = lines.last().unwrap();
    assert_eq!((&end["dagId"], &end["status"]), (&json!("asks"), &json!("cancelled")), "{end}");
    // What is not about runs is JSON as well, but for what is printed on stdout.
    let log = server.log();
    let others = log.lines().filter(|line| line.starts_with('{'));
    assert!(others.count() > lines.len() && !log.contains(" INFO "), "{log}");
}

#[rstest]
#[tokio::test]
async fn telemetry_of_a_server_is_that_of_its_ledger_and_is_verified(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let server = started(on, &[]).await;
    server.client.run(&json!({"dagId": "well"})).await;
    server.client.run(&json!({"dagId": "ill"})).await;
    let (served, stored) = (server.scratch("served"), server.scratch("stored"));
    let said =
        server.stella(&["telemetry", "export", "--seal", "--out", &served, "-o", "json"], 0).await;
    let manifest: Value =
        serde_json::from_str(said.lines().find(|l| l.starts_with('{')).unwrap()).unwrap();
    // Two runs and an attempt of each.
    assert_eq!(manifest["files"]["traces.ndjson"]["records"], 4, "{manifest}");
    let (to, ledger) = (manifest["window"]["to"].as_str().unwrap(), server.ledger());
    let args = ["telemetry", "export", "--ledger", &ledger, "--to", to, "--out", &stored];
    server.stella(&args, 0).await;
    let text = |dir: &str| fs::read_to_string(format!("{dir}/manifest.json")).unwrap();
    assert_eq!(text(&served), text(&stored));
    server.stella(&["telemetry", "verify", &served], 0).await;
    fs::write(format!("{stored}/logs.ndjson"), "").unwrap();
    server.stella(&["telemetry", "verify", &stored], 4).await;
    // Nothing is overwritten.
    server.stella(&["telemetry", "export", "--seal", "--out", &served], 2).await;
    // In the text that people read there are no lines about runs.
    assert!(!server.log().contains("RunSucceeded"), "{}", server.log());
}
