//! Logs and artifacts: followed while they grow, kept through kills, and shown to be what the ledger says.

use std::{fs, path::PathBuf};

use harness::{
    bundle::ShellBundle,
    server::{On, TestServer},
    stella, until,
};
use rstest::rstest;
use serde_json::{Value, json};
use stella_domain::artifact::{Artifact, ArtifactDigest};

use crate::erasure::record_and_nothing_else;

fn id_of(run: &Value) -> &str {
    run["runId"].as_str().unwrap()
}

async fn begin(server: &TestServer, dag: &str) -> String {
    let run = server.client.post("/runs", &json!({"dagId": dag})).await.ok();
    id_of(&run).to_owned()
}

async fn log_has(server: &TestServer, run_id: &str, text: &str) {
    until("the log has it", async || {
        let answer = server.client.get(&format!("/runs/{run_id}/logs/a")).await;
        (answer.is_success() && answer.text.contains(text)).then_some(())
    })
    .await;
}

async fn artifacts(server: &TestServer, run_id: &str) -> Vec<Value> {
    let page = server.client.get(&format!("/runs/{run_id}/artifacts")).await.ok();
    page["items"].as_array().unwrap().clone()
}

fn file_of(server: &TestServer, run_id: &str, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("b3:").unwrap();
    server.data_dir().join("artifacts/stella.local/main").join(run_id).join(hex)
}

#[rstest]
#[tokio::test]
async fn a_log_is_followed_and_is_what_its_event_says(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let scratch = tempfile::tempdir().unwrap();
    let release = scratch.path().join("release");
    let plugin = ShellBundle::new(
        "talker",
        &["go"],
        &format!(
            "echo one >&2\nwhile [ ! -e '{}' ]; do sleep 0.05; done\nprintf 'two\\nthree' >&2\n\
             echo '{{\"outputs\":{{}}}}'",
            release.display()
        ),
    );
    let server = TestServer::on(on).await.plugin(plugin.dir()).start().await;
    let steps = json!([{"id": "a", "plugin": "talker", "action": "go"}]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    let run_id = begin(&server, "d").await;
    log_has(&server, &run_id, "one\n").await;
    let answer = server.client.get(&format!("/runs/{run_id}/logs/a")).await;
    assert_eq!(answer.header("log-complete"), Some("false"));
    let follow = ["run", "logs", &run_id, "--follow"];
    let follow = server.stella(&follow, 0);
    let (followed, run) = tokio::join!(follow, async {
        fs::write(&release, "").unwrap();
        server.client.ended(&run_id).await
    });
    assert_eq!(followed, "a | one\na | two\na | three\n");
    assert_eq!(run["status"], "succeeded");
    let answer = server.client.get(&format!("/runs/{run_id}/logs/a?offset=4")).await;
    assert_eq!((&*answer.text, answer.header("log-complete")), ("two\nthree", Some("true")));
    let digest = ArtifactDigest::of(b"one\ntwo\nthree").to_string();
    assert_eq!(answer.header("log-digest"), Some(&*digest));
    let named = artifacts(&server, &run_id).await;
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0]["eventType"], "StepSucceeded");
    assert_eq!((&named[0]["kind"], &named[0]["digest"]), (&json!("log"), &json!(digest)));

    // Whoever has the ledger's events and the store can check it, and sees when it was changed.
    server.stella(&["ledger", "seal", "--reason", "to export"], 0).await;
    let events = server.scratch("events.ndjson");
    server.stella(&["ledger", "export", "--file", &events], 0).await;
    let place = server.data_dir().join("artifacts").display().to_string();
    let offline = ["ledger", "verify", &events, "--artifacts", &place];
    let ledger = server.ledger();
    let live = ["ledger", "verify", "--ledger", &ledger, "--artifacts", &place];
    stella::run(&offline, 0).await;
    stella::run(&live, 0).await;
    let keys = server.client.get("/ledger/keys").await.ok();
    let key = keys["pins"][0].as_str().unwrap();
    let bundle = server.scratch("bundle.tar.zst");
    let from = "2000-01-01T00:00:00Z";
    server.stella(&["ledger", "export", "--from", from, "--seal", "--out", &bundle], 0).await;
    let bundled = ["ledger", "verify", &bundle, "--key", key, "--artifacts", &place];
    stella::run(&bundled, 0).await;
    let file = file_of(&server, &run_id, &digest);
    assert_eq!(fs::read(&file).unwrap(), b"one\ntwo\nthree");
    fs::write(&file, b"one\ntwo\nThree").unwrap();
    stella::run(&offline, 4).await;
    stella::run(&bundled, 4).await;
    server.client.get(&format!("/runs/{run_id}/logs/a")).await.problem(500, "ARTIFACT_DAMAGED");
    fs::remove_file(&file).unwrap();
    let said = stella::run(&[&live[..], &["-o", "json"]].concat(), 4).await;
    assert!(said.contains(r#""missing":1"#), "{said}");
    server.client.get(&format!("/runs/{run_id}/logs/a")).await.problem(404, "ARTIFACT_NOT_FOUND");
}

#[rstest]
#[tokio::test]
async fn a_log_survives_the_kill_of_its_server_whole(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let scratch = tempfile::tempdir().unwrap();
    let release = scratch.path().join("release");
    let plugin = ShellBundle::new(
        "counter",
        &["go"],
        &format!(
            "i=0\nwhile [ ! -e '{}' ]; do echo line $i >&2; i=$((i+1)); sleep 0.002; done\n\
             echo '{{\"outputs\":{{\"lines\":'$i'}}}}'",
            release.display()
        ),
    );
    let builder = TestServer::on(on).await.plugin(plugin.dir()).concurrency(0);
    // The lease has to outlive the restart.
    let mut server = builder.lease_ttl(60_000).start().await;
    let steps = json!([{"id": "a", "plugin": "counter", "action": "go"}]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    // A worker finds its server again at the same place only.
    let _worker = server.worker_of("w", plugin.dir()).await;
    let run_id = begin(&server, "d").await;
    log_has(&server, &run_id, "line 20\n").await;
    server.kill();
    server.restart_in_place().await;
    log_has(&server, &run_id, "line 200\n").await;
    fs::write(&release, "").unwrap();
    let run = server.client.ended(&run_id).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let lines = server.client.step(&json!({"runId": run_id, "seq": run["lastSeq"]}), "a").await;
    let lines = lines["outputs"]["lines"].as_u64().unwrap();
    let log = server.stella(&["run", "logs", &run_id, "--step", "a"], 0).await;
    let whole: String = (0..lines).map(|i| format!("line {i}\n")).collect();
    assert_eq!(log, whole, "nothing is lost and nothing is there twice");
}

#[rstest]
#[tokio::test]
async fn what_a_killed_worker_had_written_is_kept_with_the_lease_that_expired(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let plugin = ShellBundle::new(
        "hanging",
        &["go"],
        "case \"$(cat)\" in\n*'\"attempt\":1'*) echo first attempt >&2; sleep 1000 ;;\nesac\n\
         echo second attempt >&2; echo '{\"outputs\":{}}'",
    );
    let server = TestServer::on(on).await.plugin(plugin.dir()).concurrency(0).start().await;
    let steps = json!([{"id": "a", "plugin": "hanging", "action": "go",
        "retries": {"max": 2, "backoff": "100ms"}}]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    let first = server.worker_of("first", plugin.dir()).await;
    let run_id = begin(&server, "d").await;
    log_has(&server, &run_id, "first attempt\n").await;
    drop(first);
    let _second = server.worker_of("second", plugin.dir()).await;
    assert_eq!(server.client.ended(&run_id).await["status"], "succeeded");
    let named = artifacts(&server, &run_id).await;
    let types: Vec<_> = named.iter().map(|named| named["eventType"].as_str().unwrap()).collect();
    assert_eq!(types, ["StepLeaseExpired", "StepSucceeded"]);
    let log = ["run", "logs", &run_id, "--step", "a", "--attempt"];
    assert_eq!(server.stella(&[&log[..], &["1"]].concat(), 0).await, "first attempt\n");
    assert_eq!(server.stella(&[&log[..], &["2"]].concat(), 0).await, "second attempt\n");
}

/// 200 KB in one member, which the next step takes as its input, and a file.
fn large() -> ShellBundle {
    ShellBundle::new(
        "large",
        &["make", "take"],
        r#"request=$(cat)
case "$request" in
*'"action":"make"'*)
    printf 'a file' > "$STELLA_ARTIFACTS/note.txt"
    echo 'said aloud' >&2
    printf '{"outputs":{"n":1,"text":"%s"}}' "$(head -c 200000 /dev/zero | tr '\0' x)" ;;
*)
    file=$(printf %s "$request" | sed 's/.*"file":"\([^"]*\)".*/\1/')
    printf '{"outputs":{"bytes":%s,"file":"%s"}}' "${#request}" "$(cat "$file")" ;;
esac"#,
    )
}

#[rstest]
#[tokio::test]
async fn large_values_and_files_go_from_step_to_step_and_are_erased_with_their_run(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let plugin = large();
    let mut server = TestServer::on(on).await.plugin(plugin.dir()).start().await;
    let file = server.scratch("erasing");
    fs::write(&file, server.ledger()).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    server.erase_with(file.as_ref());
    server.restart().await;
    let spec = json!({
        "id": "d",
        "inputs": {"type": "object", "properties": {"big": {"type": "string", "minLength": 100_000}}},
        "outputs": {"text": "${steps.make.outputs.text}"},
        "steps": [
            {"id": "make", "plugin": "large", "action": "make", "with": {"big": "${inputs.big}"}},
            {"id": "take", "plugin": "large", "action": "take", "needs": ["make"], "with": {
                "text": "${steps.make.outputs.text}",
                "file": "${steps.make.outputs.artifacts[\"note.txt\"]}"}},
        ],
    });
    let registered = server.client.post("/dags", &spec).await;
    assert!(registered.is_success(), "{registered:?}");
    let secret = "secret-Zq7Rk2-".repeat(10_000);
    let start = json!({"dagId": "d", "runToken": "t", "inputs": {"big": secret}});
    let run = server.client.run(&start).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let again = server.client.post("/runs", &start).await.ok();
    assert_eq!((&again["replayed"], id_of(&again)), (&json!(true), id_of(&run)));
    let take = server.client.step(&run, "take").await["outputs"].clone();
    assert_eq!(take["file"], "a file");
    assert!(take["bytes"].as_u64().unwrap() > 200_000, "{take}");
    let text = Artifact::named_by(&server.client.step(&run, "make").await["outputs"]["text"]);
    assert_eq!(text.unwrap().size, 200_002);
    let other = json!({"dagId": "d", "runToken": "t", "inputs": {"big": secret.replace('Z', "Y")}});
    server.client.post("/runs", &other).await.problem(409, "RUN_TOKEN_CONFLICT");
    let short = json!({"dagId": "d", "inputs": {"big": "short"}});
    server.client.post("/runs", &short).await.problem(422, "INPUTS_INVALID");

    let named = artifacts(&server, id_of(&run)).await;
    let places: Vec<_> = named.iter().map(|named| named["pointer"].as_str().unwrap()).collect();
    assert!(places.contains(&"/inputs/big") && places.contains(&"/outputs/text"), "{named:?}");
    assert!(named.iter().any(|named| named["kind"] == "log"), "{named:?}");
    let log_of =
        async |run: &Value| server.client.get(&format!("/runs/{}/logs/make", id_of(run))).await;
    assert_eq!(log_of(&run).await.text, "said aloud\n");

    // A rerun has its own; the first goes, the rerun stays whole.
    let rerun = server.client.post(&format!("/runs/{}:rerun", id_of(&run)), &json!({})).await.ok();
    assert_eq!(server.client.ended(id_of(&rerun)).await["status"], "succeeded");
    let copy = server.scratch("note.txt");
    let get = ["run", "artifacts", id_of(&rerun), "--get", "note.txt", "--file", &copy];
    server.stella(&get, 0).await;
    assert_eq!(fs::read(&copy).unwrap(), b"a file");
    let verify = |code| {
        let place = server.data_dir().join("artifacts").display().to_string();
        let uri = server.ledger();
        async move {
            stella::run(&["ledger", "verify", "--ledger", &uri, "--artifacts", &place], code).await
        }
    };
    verify(0).await;
    let folder =
        |run: &Value| server.data_dir().join("artifacts/stella.local/main").join(id_of(run));
    assert!(folder(&run).exists() && folder(&rerun).exists());
    let erase = json!({"runId": id_of(&run), "reason": "asked to"});
    server.client.post("/ledger:erase", &erase).await.ok();
    let left: Vec<_> = fs::read_dir(folder(&run)).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(artifacts(&server, id_of(&run)).await, Vec::<Value>::new());
    assert_eq!(log_of(&run).await.text, "");
    assert_eq!(log_of(&rerun).await.text, "said aloud\n");
    assert!(artifacts(&server, id_of(&rerun)).await.len() > 3);
    verify(0).await;
}

/// Another server erases, with a credential that this one has not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_itself_of_a_run_goes_when_others_erase_it() {
    let plugin = large();
    let server = TestServer::on(On::MongoDb).await.plugin(plugin.dir()).start().await;
    let steps = json!([{"id": "make", "plugin": "large", "action": "make"}]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    let mut runs = vec![];
    for _ in 0..2 {
        let run = server.client.run(&json!({"dagId": "d"})).await;
        assert!(artifacts(&server, id_of(&run)).await.len() > 2);
        runs.push(run);
    }
    let files = |run: &Value| {
        let folder = server.data_dir().join("artifacts/stella.local/main").join(id_of(run));
        fs::read_dir(folder).into_iter().flatten().count()
    };
    assert!(runs.iter().all(|run| files(run) > 0));
    // Neither is blanked: what is left of the first does not keep the second one's files.
    for run in &runs {
        record_and_nothing_else(&server.ledger(), run).await;
    }
    until("its files are gone", async || runs.iter().all(|run| files(run) == 0).then_some(()))
        .await;
}

/// It is not asked for again and again.
#[rstest]
#[tokio::test]
async fn a_step_whose_input_was_damaged_in_the_store_fails(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let plugin = large();
    let server = TestServer::on(on).await.plugin(plugin.dir()).start().await;
    let spec = json!({
        "id": "d",
        "steps": [
            {"id": "make", "plugin": "large", "action": "make"},
            {"id": "look", "approval": {}, "needs": ["make"]},
            {"id": "take", "plugin": "large", "action": "take", "needs": ["look"], "with": {
                "text": "${steps.make.outputs.text}", "file": ""}},
        ],
    });
    server.client.register(&spec).await;
    let run_id = begin(&server, "d").await;
    let text = until("the first step is done", async || {
        let found = artifacts(&server, &run_id).await;
        found.into_iter().find(|artifact| artifact["kind"] == "value")
    })
    .await;
    let file = file_of(&server, &run_id, text["digest"].as_str().unwrap());
    let mut bytes = fs::read(&file).unwrap();
    bytes[1000] = b'y';
    fs::write(&file, bytes).unwrap();
    let path = format!("/runs/{run_id}/artifacts/{}", text["digest"].as_str().unwrap());
    server.client.get(&path).await.problem(500, "ARTIFACT_DAMAGED");
    let approve = format!("/runs/{run_id}/steps/look:approve");
    server.client.post(&approve, &json!({"reason": "go"})).await.ok();
    let run = server.client.ended(&run_id).await;
    assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("ARTIFACT_FAILED")));
}

#[rstest]
#[tokio::test]
async fn what_nobody_handed_over_is_not_named(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let forged = json!({"$artifact": {
        "digest": ArtifactDigest::of(b"x").to_string(), "mediaType": "text/plain", "size": 1}});
    let server = TestServer::on(on).await.start().await;
    let steps = json!([{"id": "a", "plugin": "core", "action": "echo", "with": {"x": forged}}]);
    server.client.register(&json!({"id": "d", "steps": steps})).await;
    let run = server.client.run(&json!({"dagId": "d"})).await;
    assert_eq!((&run["status"], &run["errorCode"]), (&json!("failed"), &json!("ARTIFACT_FAILED")));
    server.client.register(&json!({"id": "e", "inputs": {"type": "object"}, "steps": steps})).await;
    let start = json!({"dagId": "e", "inputs": {"x": forged}});
    server.client.post("/runs", &start).await.problem(422, "ARTIFACT_UNKNOWN");
}
