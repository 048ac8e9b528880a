//! Plugins that behave badly, each through a whole run: the run fails with a code that says what
//! happened, and the server goes on.

use harness::{
    bundle::ShellBundle,
    server::{On, TestServer},
};
use rstest::rstest;
use serde_json::json;

/// What the plugin does by action, how long it may take, and the code that the run fails with.
const BAD: &[(&str, &str, &str, &str)] = &[
    ("no-json", "echo hello", "20s", "PLUGIN_OUTPUT_INVALID"),
    ("nothing", "true", "20s", "PLUGIN_OUTPUT_INVALID"),
    ("not-i-json", r#"echo '{"outputs":{"a":1,"a":2}}'"#, "20s", "PLUGIN_OUTPUT_INVALID"),
    ("unsafe", r#"echo '{"outputs":{"a":9007199254740993}}'"#, "20s", "PLUGIN_OUTPUT_INVALID"),
    ("100-mb", "head -c 100000000 /dev/zero", "20s", "OUTPUT_TOO_LARGE"),
    ("deaf", "trap '' TERM; while :; do sleep 1; done", "300ms", "TIMEOUT"),
    ("exits", "echo why >&2; exit 3", "20s", "PLUGIN_EXIT"),
    ("dies", "kill -9 $$", "20s", "PLUGIN_EXIT"),
];

#[rstest]
#[tokio::test]
async fn a_bad_plugin_fails_its_run_and_nothing_else(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let cases: String =
        BAD.iter().map(|(action, script, _, _)| format!("{action}) {script} ;;\n")).collect();
    let script = format!(
        "action=$(sed 's/^{{\"action\":\"\\([^\"]*\\)\".*/\\1/')\ncase \"$action\" in\n{cases}esac"
    );
    let actions: Vec<&str> = BAD.iter().map(|(action, ..)| *action).collect();
    let bundle = ShellBundle::new("bad", &actions, &script);
    let server = TestServer::on(on).await.plugin(bundle.dir()).start().await;
    let runs = BAD.iter().map(async |(action, _, timeout, code)| {
        let spec = json!({"id": action, "steps": [
            {"id": "a", "plugin": "bad", "action": action, "timeout": timeout},
            {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
        ]});
        server.client.register(&spec).await;
        let run = server.client.run(&json!({"dagId": action})).await;
        assert_eq!(
            (&run["status"], &run["errorCode"]),
            (&json!("failed"), &json!(code)),
            "{action}"
        );
        let step = server.client.step(&run, "a").await;
        assert_eq!((&step["phase"], &step["errorCode"]), (&json!("failed"), &json!(code)));
    });
    futures::future::join_all(runs).await;
    server
        .client
        .register(&json!({"id": "good", "steps": [
        {"id": "a", "plugin": "core", "action": "noop"}]}))
        .await;
    assert_eq!(server.client.run(&json!({"dagId": "good"})).await["status"], "succeeded");
}

#[rstest]
#[tokio::test]
async fn a_plugin_that_has_gone_fails_the_run(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let bundle = ShellBundle::new("fleeting", &["go"], r#"echo '{"outputs":{}}'"#);
    let mut server = TestServer::on(on).await.plugin(bundle.dir()).start().await;
    let spec = json!({"id": "d", "steps": [{"id": "a", "plugin": "fleeting", "action": "go"}]});
    server.client.register(&spec).await;
    assert_eq!(server.client.run(&json!({"dagId": "d"})).await["status"], "succeeded");
    std::fs::remove_file(bundle.dir().join("run.sh")).unwrap();
    let run = server.client.run(&json!({"dagId": "d"})).await;
    assert_eq!(run["status"], "failed");
    let code = run["errorCode"].as_str().unwrap();
    assert!(["PLUGIN_NOT_FOUND", "PLUGIN_SPAWN"].contains(&code), "{run}");
    // A bundle that is not whole is refused at the door.
    server.kill();
    let dir = server.scratch("other");
    let plugin = bundle.dir().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &dir, "--plugins", plugin];
    harness::stella::run(&serve, 2).await;
}
