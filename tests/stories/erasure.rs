//! What was erased is nowhere any more, and everything that proves something still does.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::TryStreamExt;
use harness::{mongo::Database, server::TestServer, stella, until, verifiers::judged};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use serde_json::{Value, json};
use stella_commands::{Commands, CommandsConfig};
use stella_domain::ids::{Actor, Tenant};
use stella_ledger::{clock::SystemClock, feed::Feed, snapshots::NoSnapshots, uri::LedgerUri};
use stella_mongod::{Mongod, Options};

/// Each stands in another place; none of them occurs anywhere else.
const SECRETS: [&str; 5] =
    ["input-Zq7Rk2", "label-Vw9Lm4", "token-Xt3Bn8", "failure-Jd6Pf1", "cancel-Hs5Gy0"];

/// The exit code of that verdict.
const WITH_ERASURES: i32 = 10;

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Files below `dir` that hold this text.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        // It may go away under our eyes.
        } else if fs::read(&path).is_ok_and(|bytes| contains(&bytes, text)) {
            found.push(path);
        }
    }
    found
}

/// Runs with secrets in every place that a payload has: one that succeeds, one that fails, one
/// that is cancelled.
async fn runs_with_secrets(server: &TestServer) -> Vec<Value> {
    let client = &server.client;
    let [input, label, token, failure, cancel] = SECRETS;
    client
        .register(&json!({"id": "echo", "inputs": {"type": "object"}, "steps": [
            {"id": "a", "plugin": "core", "action": "echo", "with": {"said": "${inputs}"}},
            {"id": "b", "plugin": "core", "action": "echo", "needs": ["a"],
                "with": {"heard": "${steps.a.outputs}"}},
        ]}))
        .await;
    client
        .register(&json!({"id": "fail", "inputs": {"type": "object"}, "steps": [
            {"id": "a", "plugin": "core", "action": "fail", "with": {"message": "${inputs.m}"}},
        ]}))
        .await;
    client
        .register(&json!({"id": "slow", "steps": [
            {"id": "a", "plugin": "core", "action": "sleep", "with": {"ms": 600_000}},
        ]}))
        .await;
    let succeeded = client
        .run(&json!({"dagId": "echo", "runToken": token, "labels": {"who": label},
            "inputs": {"x": input, "long": input.repeat(1_000)}}))
        .await;
    assert_eq!(succeeded["status"], "succeeded");
    let failed = client.run(&json!({"dagId": "fail", "inputs": {"m": failure}})).await;
    assert_eq!(failed["status"], "failed");
    let slow = client.post("/runs", &json!({"dagId": "slow"})).await.ok();
    let path = format!("/runs/{}", slow["runId"].as_str().unwrap());
    client.post(&format!("{path}:cancel"), &json!({"reason": cancel})).await.ok();
    let cancelled = client.get(&format!("{path}?wait=30s")).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    vec![succeeded, failed, cancelled]
}

fn id_of(run: &Value) -> &str {
    run["runId"].as_str().unwrap()
}

/// Chain, read models, time travel and receipts, with and without payloads.
async fn everything_holds(server: &TestServer, uri: &str, runs: &[Value]) {
    let verified = stella::run(&["ledger", "verify", "--ledger", uri, "-o", "json"], 0).await;
    let verified: Value = serde_json::from_str(&verified).unwrap();
    let erased: Vec<u64> = serde_json::from_value(verified["erasedSeqs"].clone()).unwrap();
    let key = server.stella(&["ledger", "key", "show"], 0).await;
    let key = ["--key", key.trim()];
    let live = [&["ledger", "verify", "--ledger", uri], &key[..]].concat();
    let live = stella::run(&live, WITH_ERASURES).await;
    assert!(live.contains(": VERIFIED_WITH_ERASURES\n"), "{live}");
    // Another installation's key: the ledger is there, and nobody who is trusted speaks for it.
    let other = "stella.local/main+1e72588c+ATxTBp8bmHmAYqYCQxPfjVbiqG3xiDQkdzF0Fp0shrzv";
    let live = ["ledger", "verify", "--ledger", uri, "--key", other, "-o", "json"];
    let live: Value = serde_json::from_str(&stella::run(&live, 13).await).unwrap();
    assert_eq!(live["verdict"], "UNTRUSTED", "{live}");
    let nobody = ["ledger", "verify", "--ledger", uri, "--tenant", "nobody", "--key", other];
    stella::run(&nobody, 1).await;
    let mut explained = vec![];
    for run in runs {
        let receipt = server.stella(&["run", "receipt", id_of(run)], 0).await;
        let file = server.scratch("receipt.json");
        fs::write(&file, &receipt).unwrap();
        judged(&["--receipt", &file], &key, WITH_ERASURES).await;
        fs::remove_file(file).unwrap();
        let receipt: Value = serde_json::from_str(&receipt).unwrap();
        for erasure in receipt["erasures"].as_array().unwrap() {
            let seqs = erasure["event"]["data"]["seqs"].clone();
            explained.extend(serde_json::from_value::<Vec<u64>>(seqs).unwrap());
        }
        let last = run["seq"].as_u64().or(run["lastSeq"].as_u64()).unwrap().to_string();
        let shown = ["replay", "show", id_of(run), "--at", &last];
        let shown = server.stella(&shown, 0).await;
        SECRETS.iter().for_each(|secret| assert!(!shown.contains(secret), "{shown}"));
    }
    explained.sort_unstable();
    assert_eq!(erased, explained, "each erased payload is explained by a receipt, and only those");
    assert!(!erased.is_empty());
    server.stella(&["projections", "check"], 0).await;
    server.stella(&["projections", "rebuild", "--online"], 0).await;
    server.stella(&["projections", "check"], 0).await;
    server.stella(&["ledger", "seal", "--reason", "to export"], 0).await;
    let file = server.scratch("events.ndjson");
    server.stella(&["ledger", "export", "--file", &file], 0).await;
    stella::run(&["ledger", "verify", &file], 0).await;
    SECRETS.iter().for_each(|secret| assert!(!contains(&fs::read(&file).unwrap(), secret)));
    fs::remove_file(file).unwrap();
    let bundle = server.scratch("bundle");
    let said = server.stella(&["ledger", "export", "--out", &bundle], 0).await;
    assert!(said.contains(": VERIFIED_WITH_ERASURES\n"), "{said}");
    judged(&[&bundle], &key, WITH_ERASURES).await;
    assert!(!files_with(Path::new(&bundle), "request 17").is_empty(), "the reason stays");
    SECRETS.iter().for_each(|secret| assert!(files_with(Path::new(&bundle), secret).is_empty()));
    fs::remove_dir_all(bundle).unwrap();
    stella::run(&["ledger", "fsck", "--ledger", uri], 0).await;
}

async fn nowhere_on_disk(server: &TestServer) {
    for secret in SECRETS {
        let dir = server.data_dir();
        until(secret, async || files_with(&dir, secret).is_empty().then_some(())).await;
        assert!(!server.log().contains(secret));
    }
}

/// Erase by command line, with all that is asked for first.
async fn erase(server: &TestServer, run: &Value) -> Value {
    let command = ["ledger", "erase", id_of(run), "--reason", "request 17"];
    server.stella(&command, 2).await;
    let command = [&command[..], &["--yes", "-o", "json"]].concat();
    let erased = serde_json::from_str::<Value>(&server.stella(&command, 0).await).unwrap();
    let again = serde_json::from_str::<Value>(&server.stella(&command, 0).await).unwrap();
    assert_eq!((&again["replayed"], &again["seq"]), (&json!(true), &erased["seq"]));
    erased
}

/// Wait until the server's health says that an erasure is not carried out, or no longer says so.
async fn unfinished(server: &TestServer, expected: bool) {
    until("health tells of erasures", async || {
        let health = server.client.get("/admin/health").await.ok();
        let ledger =
            health["components"].as_array().unwrap().iter().find(|c| c["name"] == "ledger");
        let said = ledger.unwrap()["message"].as_str().unwrap();
        (said.contains("ERASURE_UNFINISHED") == expected).then_some(())
    })
    .await;
}

/// What is left behind by a server that was killed after it had recorded an erasure, and before it
/// blanked anything.
pub(crate) async fn record_and_nothing_else(uri: &str, run: &Value) {
    let ledger = uri.parse::<LedgerUri>().unwrap().open().await.unwrap();
    let config = CommandsConfig {
        origin: "stella.local".parse().unwrap(),
        clock: Arc::new(SystemClock),
        lease_ms: 30_000,
        logs: Arc::new(stella_commands::NoLogs),
        snapshots: Arc::new(NoSnapshots),
        open_work: vec![],
    };
    let feed = Feed::new(Arc::clone(&ledger));
    let (commands, writer) = Commands::start(config, ledger, feed);
    let (tenant, actor): (Tenant, _) = ("main".parse().unwrap(), Actor::user("local"));
    let (run_id, reason) = (id_of(run).parse().unwrap(), "request 18".parse().unwrap());
    let erased = commands.erase_run(&tenant, &actor, &run_id, reason, 1).await.unwrap();
    assert!(!erased.replayed && erased.payloads > 0);
    drop(commands);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_none_of_the_files() {
    let mut server = TestServer::start().await;
    let runs = runs_with_secrets(&server).await;
    let dir = server.data_dir();
    for secret in SECRETS {
        until("it is in the projections", async || {
            let found = files_with(&dir, secret);
            let in_both = [".db", "projections"]
                .iter()
                .all(|part| found.iter().any(|path| path.to_string_lossy().contains(part)));
            // A reason is shown by no read model.
            (in_both || secret == SECRETS[4] && !found.is_empty()).then_some(())
        })
        .await;
    }
    let backup = server.scratch("backup.db");
    let copied = format!("sqlite:{backup}");
    let back_up = ["ledger", "copy", "--from", &server.ledger(), "--to", &copied];
    stella::run(&back_up, 0).await;
    let (last, others) = runs.split_last().unwrap();
    for run in others {
        erase(&server, run).await;
    }
    assert!(!files_with(&dir, SECRETS[4]).is_empty());
    server.kill();
    record_and_nothing_else(&server.ledger(), last).await;
    assert!(!files_with(&dir, SECRETS[4]).is_empty(), "recorded, and still there");
    server.restart().await;
    nowhere_on_disk(&server).await;
    // Asked once more, of a server that had nothing left to do.
    server.restart().await;
    assert_eq!(erase(&server, &runs[0]).await["replayed"], true);
    everything_holds(&server, &server.ledger(), &runs).await;
    nowhere_on_disk(&server).await;
    server.stop().await;
    nowhere_on_disk(&server).await;

    // The backup was begun before, and goes on after: it has payloads and what erases them.
    stella::run(&back_up, 0).await;
    assert!(contains(&fs::read(&backup).unwrap(), SECRETS[0]));
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(dir.join(format!("ledger.db{end}")));
    }
    fs::rename(&backup, dir.join("ledger.db")).unwrap();
    assert!(!files_with(&dir, SECRETS[0]).is_empty());
    server.restart().await;
    nowhere_on_disk(&server).await;
    everything_holds(&server, &server.ledger(), &runs).await;
}

/// Documents of the database, in any collection, that hold this text.
async fn documents_with(database: &mongodb::Database, text: &str) -> usize {
    let mut found = 0;
    for name in database.list_collection_names().await.unwrap() {
        let mut all = database.collection::<RawDocumentBuf>(&name).find(doc! {}).await.unwrap();
        while let Some(document) = all.try_next().await.unwrap() {
            found += usize::from(contains(document.as_bytes(), text));
        }
    }
    found
}

/// A user whose name and password are `name`, and who may do this to the ledger.
async fn create_user(admin: &mongodb::Database, database: &str, name: &str, actions: [&str; 3]) {
    let on = |collection: &str, actions: &[&str]| {
        doc! { "resource": { "db": database, "collection": collection }, "actions": actions }
    };
    let mut privileges: Vec<Document> = vec![on("ledger", &actions)];
    if name == "server" {
        privileges.extend(["tiles", "checkpoints"].map(|collection| on(collection, &actions)));
        privileges.push(on("", &["listCollections"]));
    }
    let role = doc! { "createRole": name, "privileges": privileges, "roles": [] };
    admin.run_command(role).await.unwrap();
    let user = doc! { "createUser": name, "pwd": name, "roles": [name] };
    admin.run_command(user).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_no_document_and_the_server_itself_cannot_do_it() {
    let dir = tempfile::tempdir().unwrap();
    let private = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let key_file = private("key", "c3RlbGxhIHN0b3J5IGtleQ");
    let args = vec!["--auth".into(), "--keyFile".into(), key_file.into()];
    let mongod = Mongod::start(Options { args, ..Options::default() }).await.unwrap();
    let database = Database::of(&mongod);
    // The first user may be created without being one, from this machine.
    let nobody = mongodb::Client::with_uri_str(mongod.uri()).await.unwrap();
    let root = doc! { "createUser": "root", "pwd": "root", "roles": ["root"] };
    nobody.database("admin").run_command(root).await.unwrap();
    let uri_of = |user: &str| {
        let uri = database.uri.replace("mongodb://", &format!("mongodb://{user}:{user}@"));
        format!("{uri}&authSource=admin")
    };
    stella::run(&["ledger", "init", "--ledger", &uri_of("root")], 0).await;
    let root = mongodb::Client::with_uri_str(uri_of("root")).await.unwrap();
    let admin = root.database("admin");
    create_user(&admin, &database.name, "server", ["find", "insert", "listIndexes"]).await;
    create_user(&admin, &database.name, "eraser", ["find", "update", "find"]).await;
    let stored = root.database(&database.name);

    let mut server = TestServer::builder().ledger(&uri_of("server")).start().await;
    let runs = runs_with_secrets(&server).await;
    for secret in SECRETS {
        assert!(documents_with(&stored, secret).await > 0, "{secret}");
    }
    let body = json!({"runId": runs[0]["runId"], "reason": "r"});
    let erase_it = async |server: &TestServer| server.client.post("/ledger:erase", &body).await;
    erase_it(&server).await.problem(501, "ERASURE_NOT_CONFIGURED");
    // Another server records one, and is killed: this one cannot carry it out, and says so.
    record_and_nothing_else(&uri_of("server"), &runs[1]).await;
    unfinished(&server, true).await;
    let head = server.client.get("/ledger/head").await.ok();
    // Its own credential cannot do it, and says so before anything is recorded.
    server.erase_with(&private("own", &uri_of("server")));
    server.restart().await;
    erase_it(&server).await.problem(503, "ERASURE_REFUSED");
    assert_eq!(server.client.get("/ledger/head").await.ok(), head);
    assert!(documents_with(&stored, SECRETS[0]).await > 0);

    server.erase_with(&private("eraser", &uri_of("eraser")));
    server.restart().await;
    unfinished(&server, false).await;
    assert_eq!(documents_with(&stored, SECRETS[3]).await, 0);
    let (last, others) = runs.split_last().unwrap();
    for run in others {
        erase(&server, run).await;
    }
    server.kill();
    record_and_nothing_else(&uri_of("server"), last).await;
    assert!(documents_with(&stored, SECRETS[4]).await > 0, "recorded, and still there");
    server.restart().await;
    for secret in SECRETS {
        until(secret, async || (documents_with(&stored, secret).await == 0).then_some(())).await;
    }
    nowhere_on_disk(&server).await;
    everything_holds(&server, &uri_of("server"), &runs).await;
    for password in ["eraser:eraser", "server:server"] {
        assert!(!server.log().contains(password), "no credential is ever printed");
        assert!(files_with(&server.data_dir(), password).is_empty());
    }
}
