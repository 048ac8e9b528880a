//! What somebody on call sees of workers that fail, die and come back.

use harness::{
    bundle::ShellBundle,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

/// The row of this name in an answer of `health` or `doctor`.
async fn row(server: &TestServer, command: &str, name: &str) -> (String, String) {
    let text = server.stella(&[command, "-o", "json"], 0).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let (rows, found) = match command {
        "health" => (&answer["components"], "message"),
        _ => (&answer, "found"),
    };
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name);
    let row = row.unwrap_or_else(|| panic!("{answer}"));
    (row["status"].as_str().unwrap().to_owned(), row[found].as_str().unwrap().to_owned())
}

/// The sum of what `/metrics` has under this name and label.
async fn metric(server: &TestServer, name: &str, label: &str) -> f64 {
    let text = server.client.get("metrics").await.text;
    let of_name = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let lines = of_name.filter(|line| line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[rstest]
#[tokio::test]
async fn what_is_wrong_is_named_until_it_is_mended(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let plugin = ShellBundle::new(
        "work",
        &["hang", "fail"],
        "case \"$(cat)\" in\n\
         *'\"action\":\"fail\"'*) echo '{\"error\":{\"code\":\"NO_SPACE\",\"retryable\":false}}' ;;\n\
         *'\"attempt\":1'*) sleep 1000 ;;\n*) echo '{\"outputs\":{}}' ;;\nesac",
    );
    let server = TestServer::on(on).await.plugin(plugin.dir()).concurrency(0).start().await;
    for action in ["hang", "fail"] {
        let step = json!({"id": "a", "plugin": "work", "action": action,
            "retries": {"max": 1, "backoff": "1ms"}});
        server.client.register(&json!({"id": action, "steps": [step]})).await;
    }
    assert_eq!(row(&server, "doctor", "failures").await.0, "green");

    // A worker dies with a step in its hands, and another one does it.
    let first = server.worker_of("first", plugin.dir()).await;
    let run = server.client.post("/runs", &json!({"dagId": "hang"})).await.ok();
    let path = format!("/runs/{}", run["runId"].as_str().unwrap());
    until("the step is held", async || {
        let steps = server.client.get(&format!("{path}/steps")).await.ok();
        (steps["items"][0]["phase"] == "running").then_some(())
    })
    .await;
    drop(first);
    let _second = server.worker_of("second", plugin.dir()).await;
    let run = server.client.get(&format!("{path}?wait=30s")).await.ok();
    let expiries = (&run["status"], &run["leaseExpiries"]);
    assert_eq!(expiries, (&json!("succeeded"), &json!(1)), "{run}");

    // Runs fail, and the code stands in the first thing that is looked at.
    for _ in 0..3 {
        let run = server.client.run(&json!({"dagId": "fail"})).await;
        assert_eq!(run["errorCode"], "NO_SPACE");
    }
    let (status, message) = until("the failures are counted", async || {
        let (status, message) = row(&server, "doctor", "failures").await;
        (status != "green").then_some((status, message))
    })
    .await;
    assert!(status == "yellow" && message.contains("NO_SPACE"), "{status}: {message}");

    // What is held back is named with who did it.
    let hold = json!({"plugin": "work", "reason": "its disk is full"});
    server.client.post("/queue:pause", &hold).await.ok();
    let held = server.client.post("/runs", &json!({"dagId": "fail"})).await.ok();
    server.client.get(&format!("/runs?minSeq={}", held["seq"])).await.ok();
    let (status, message) = row(&server, "health", "queue").await;
    assert!(status == "yellow" && message.contains("work"), "{status}: {message}");
    assert!(message.contains("its disk is full"), "{message}");
    server.client.post("/queue:resume", &json!({"plugin": "work"})).await.ok();
    let path = format!("/runs/{}?wait=30s", held["runId"].as_str().unwrap());
    assert_eq!(server.client.get(&path).await.ok()["status"], "failed");
    assert_eq!(row(&server, "health", "queue").await.0, "green");

    let figures = [
        ("orchestrator_runs_started_total", "dag=\"fail\"", 4.0),
        ("orchestrator_runs_total", "status=\"failed\"", 4.0),
        ("orchestrator_runs_total", "status=\"succeeded\"", 1.0),
        ("orchestrator_lease_expiries_total", "plugin=\"work\"", 1.0),
        ("orchestrator_queue_depth", "plugin=\"work\"", 0.0),
    ];
    for (name, label, expected) in figures {
        let found = metric(&server, name, label).await;
        assert!((found - expected).abs() < 1e-9, "{name}{{{label}}} is {found}, not {expected}");
    }
    let slo = server.client.get("/admin/slo").await.ok();
    let hour = &slo["objectives"][0]["windows"][0];
    assert_eq!((&hour["runs"], &hour["missed"]), (&json!(5), &json!(4)), "{slo}");
    for probe in ["livez", "readyz"] {
        assert_eq!(server.client.get(probe).await.text.trim(), "ok", "{probe}");
    }
}
