//! Versions of a DAG and of its plugins, runs side by side, and running again what failed: with
//! workers in processes of their own.

use std::fs;

use harness::{
    bundle::ShellBundle,
    server::{On, TestServer},
    until,
};
use rstest::rstest;
use serde_json::{Value, json};

async fn start(server: &TestServer) -> Value {
    server.client.post("/runs", &json!({"dagId": "d"})).await.ok()
}

fn id(run: &Value) -> &str {
    run["runId"].as_str().unwrap()
}

async fn apply(server: &TestServer, says: &str, reason: &str) {
    let spec = json!({"id": "d", "steps": [
        {"id": "gate", "approval": {}},
        {"id": "say", "plugin": "core", "action": "echo", "needs": ["gate"], "with": {"says": says}},
    ]});
    let file = server.scratch("d.json");
    fs::write(&file, spec.to_string()).unwrap();
    server.said(&["dag", "apply", &file, "--reason", reason]).await;
}

/// Let it pass the gate, and wait for its end.
async fn pass(server: &TestServer, run: &Value) -> Value {
    server.stella(&["run", "approve", id(run), "gate"], 0).await;
    server.client.ended(id(run)).await
}

async fn said_by(server: &TestServer, ended: &Value) -> Value {
    let at = json!({"runId": ended["runId"], "seq": ended["lastSeq"]});
    server.client.step(&at, "say").await["outputs"]["says"].clone()
}

#[rstest]
#[tokio::test]
async fn runs_stay_with_their_version_and_what_is_disabled_starts_nothing(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let server = TestServer::on(on).await.concurrency(0).start().await;
    let worker = server.worker("one").await;
    apply(&server, "old", "first").await;
    let old = start(&server).await;
    apply(&server, "new", "says more").await;
    let new = start(&server).await;
    assert_eq!((&old["dagVersion"], &new["dagVersion"]), (&json!(1), &json!(2)));
    server.said(&["dag", "rollback", "d", "--reason", "too much"]).await;
    server.said(&["dag", "disable", "d", "--dag-version", "2", "--reason", "not again"]).await;
    let refused = server.client.post("/runs", &json!({"dagId": "d", "dagVersion": 2})).await;
    refused.problem(409, "DAG_VERSION_DISABLED");
    let back = start(&server).await;
    assert_eq!(back["dagVersion"], 1);
    let (old, new) = (pass(&server, &old).await, pass(&server, &new).await);
    assert_eq!(said_by(&server, &old).await, "old");
    assert_eq!(said_by(&server, &new).await, "new", "what had begun goes on");
    let compared = server.said(&["run", "compare", id(&old), id(&new)]).await;
    assert_eq!(compared["firstDifference"], json!({"what": "dagVersion"}), "{compared}");
    let say = compared["steps"].as_array().unwrap().iter().find(|step| step["stepId"] == "say");
    assert_eq!(say.unwrap()["differs"], json!(["outputs"]), "{compared}");

    // What waits of a disabled version can be cleared, and nothing else goes with it.
    drop(worker);
    server.said(&["dag", "enable", "d", "--dag-version", "2"]).await;
    let cleared = server.client.post("/runs", &json!({"dagId": "d", "dagVersion": 2})).await.ok();
    server.said(&["dag", "disable", "d", "--dag-version", "2"]).await;
    server.said(&["dag", "clear", "d", "--dag-version", "2", "--reason", "wrong"]).await;
    assert_eq!(server.client.ended(id(&cleared)).await["status"], "cancelled");
    let _worker = server.worker("two").await;
    let back = pass(&server, &back).await;
    assert_eq!(
        (&back["status"], said_by(&server, &back).await),
        (&json!("succeeded"), json!("old"))
    );
    let types =
        ["DagVersionActivated", "DagRolledBack", "DagVersionDisabled", "RunCancelRequested"];
    let deeds = server.deeds(&types).await;
    let deeds: Vec<_> = deeds.iter().map(|(t, who, why)| (&**t, &**who, &**why)).collect();
    let expected = [
        ("DagVersionActivated", "first"),
        ("DagVersionActivated", "says more"),
        ("DagRolledBack", "too much"),
        ("DagVersionDisabled", "not again"),
        ("DagVersionDisabled", ""),
        ("RunCancelRequested", "wrong"),
    ];
    assert_eq!(deeds, expected.map(|(event_type, why)| (event_type, "user:local", why)));
}

/// The plugin `scan` of this version, which fails or does not.
fn scan(version: &str, fails: bool) -> ShellBundle {
    let answer = match fails {
        true => r#"{"error":{"code":"NO_RULES","message":"none here","retryable":false}}"#,
        false => r#"{"outputs":{"found":0}}"#,
    };
    ShellBundle::of_version(version, "scan", &["go"], &format!("echo '{answer}'"))
}

#[rstest]
#[tokio::test]
async fn what_failed_with_a_version_of_a_plugin_is_run_again_once(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let (good, bad) = (scan("1.2.0", false), scan("1.3.0", true));
    let server = TestServer::on(on).await.plugin(good.dir()).concurrency(0).start().await;
    let step = json!({"id": "scan", "plugin": "scan", "action": "go"});
    server.client.register(&json!({"id": "d", "steps": [step]})).await;
    let worker = server.worker_of("good", good.dir()).await;
    let fine = server.client.run(&json!({"dagId": "d", "runToken": "fine"})).await;
    assert_eq!(fine["status"], "succeeded");
    drop(worker);
    let worker = server.worker_of("bad", bad.dir()).await;
    let mut failed = vec![];
    for n in 0..5 {
        let run = server.client.run(&json!({"dagId": "d", "runToken": format!("t{n}")})).await;
        assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("NO_RULES")));
        failed.push(run);
    }
    drop(worker);
    let last = failed.last().unwrap()["seq"].clone();
    let path = format!("/runs:compare?a={}&b={}&minSeq={last}", id(&fine), id(&failed[0]));
    let compared = server.client.get(&path).await.ok();
    let difference = json!({"stepId": "scan", "what": "pluginVersion"});
    assert_eq!(compared["firstDifference"], difference, "{compared}");

    let to = failed.last().unwrap()["endedAt"].as_str().unwrap();
    let of_version = [
        "run",
        "rerun",
        "--plugin",
        "scan",
        "--plugin-version",
        "1.3.0",
        "--error-code",
        "NO_RULES",
        "--from",
        "2026-11-01",
        "--to",
        to,
    ];
    let with = |more: &[&'static str]| [&of_version[..], more].concat();
    let listed = server.said(&with(&["--dry-run"])).await;
    let runs = |answer: &Value, member: &str| -> Vec<String> {
        let items = answer["items"].as_array().unwrap().iter();
        items.filter_map(|item| item[member].as_str().map(str::to_owned)).collect()
    };
    let newest_first: Vec<&str> = failed.iter().rev().map(id).collect();
    assert_eq!(runs(&listed, "runId"), newest_first, "{listed}");
    server.stella(&with(&["--cap", "4"]), 1).await;
    let _worker = server.worker_of("mended", good.dir()).await;
    let first = server.said(&with(&["--reason", "1.3.0 lacks its rules"])).await;
    let again = server.said(&with(&["--reason", "was it done?"])).await;
    assert_eq!(runs(&first, "rerunId"), runs(&again, "rerunId"));
    for (run_id, of) in runs(&first, "rerunId").iter().zip(failed.iter().rev()) {
        let rerun = until("the rerun is over", async || {
            let run = server.client.ended(run_id).await;
            (run["status"] != "running").then_some(run)
        })
        .await;
        assert_eq!((&rerun["status"], &rerun["attempt"]), (&json!("succeeded"), &json!(1)));
        assert_eq!(rerun["rerunOf"], of["runId"]);
    }
    let created = server.deeds(&["RunCreated"]).await;
    let reasons = created.iter().map(|(_, _, why)| why.as_str());
    let expected: Vec<&str> = [[""; 6].as_slice(), &["1.3.0 lacks its rules"; 5]].concat();
    assert_eq!(reasons.collect::<Vec<_>>(), expected, "six runs and their five reruns");
}
