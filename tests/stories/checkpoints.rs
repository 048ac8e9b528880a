//! A ledger that does not extend what was signed is refused, also when the projections, which
//! notice it too, are gone; and what a server signed outlives it.

use std::{fs, path::Path, time::Duration};

use harness::{mongo::Database, server::TestServer, stella};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::json;
use stella_domain::{
    checkpoint::{Keyring, PinnedKey, SigningKey, VerifierKey},
    ids::LedgerId,
};

/// For a server to refuse; one that serves does not end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn spec() -> serde_json::Value {
    json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]})
}

/// The ledger's file and what SQLite keeps beside it, and nothing else of the node.
fn put_back(from: &Path, to: &Path) {
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

async fn refused(server: &TestServer, says: &str) {
    let _ = fs::remove_dir_all(server.data_dir().join("projections"));
    let dir = server.data_dir();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ledger", &server.ledger(), "--data-dir"];
    let mut command = stella::command(&serve);
    command.arg(dir);
    let said = tokio::time::timeout(PATIENCE, command.output()).await;
    let said = said.expect("a server that does not start").unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains(says), "{says:?} is not in {text}");
}

#[tokio::test]
async fn an_older_backup_of_a_file_is_refused_without_projections() {
    let mut server = TestServer::start().await;
    server.client.register(&spec()).await;
    server.stop().await;
    let backup = server.scratch("backup");
    fs::create_dir_all(&backup).unwrap();
    put_back(&server.data_dir(), Path::new(&backup));
    server.restart().await;
    server.client.run(&json!({"dagId": "one"})).await;
    server.stop().await;
    put_back(Path::new(&backup), &server.data_dir());
    refused(&server, "an older backup was restored").await;
}

#[tokio::test]
async fn a_ledger_written_anew_in_mongodb_is_refused() {
    let database = Database::new().await;
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    server.client.register(&spec()).await;
    server.client.run(&json!({"dagId": "one"})).await;
    server.stop().await;

    // Somebody who owns the database: a history of their own, as long or longer, and the
    // checkpoints gone with the old one.
    let mut forger = TestServer::builder()
        .ledger(&format!("sqlite:{}", server.scratch("forged.db")))
        .start()
        .await;
    forger.client.register(&spec()).await;
    for _ in 0..3 {
        forger.client.run(&json!({"dagId": "one"})).await;
    }
    forger.stop().await;
    let own = Client::with_uri_str(&database.uri).await.unwrap().default_database().unwrap();
    for name in ["ledger", "checkpoints", "tiles"] {
        own.collection::<Document>(name).delete_many(doc! {}).await.unwrap();
    }
    let copy = ["ledger", "copy", "--from", &forger.ledger(), "--to", &database.uri];
    stella::run(&copy, 0).await;
    // With the checkpoints that another key made of it, and without any.
    refused(&server, "is not signed by").await;
    own.collection::<Document>("checkpoints").delete_many(doc! {}).await.unwrap();
    refused(&server, "is of another history").await;
}

#[tokio::test]
async fn a_checkpoint_and_a_receipt_by_command_line() {
    let server = TestServer::start().await;
    server.client.register(&spec()).await;
    let run = server.client.run(&json!({"dagId": "one"})).await;
    let pin = server.stella(&["ledger", "key", "show"], 0).await;
    let key: PinnedKey = pin.trim().parse().unwrap();
    let file = server.data_dir().join("signing-key");
    let file = file.to_str().unwrap();
    let offline = stella::run(&["ledger", "key", "show", "--signing-key", file], 0).await;
    assert_eq!(offline, pin);

    let note = server.scratch("note");
    server.stella(&["ledger", "checkpoint", "--sign-now", "--file", &note], 0).await;
    let note = fs::read_to_string(note).unwrap();
    let keys = Keyring(vec![key]);
    let signed = keys.verify(&note).unwrap();
    let size = signed.size.to_string();
    assert_eq!(server.stella(&["ledger", "checkpoint", "--size", &size], 0).await, note);
    server.stella(&["ledger", "checkpoint", "--size", "999999"], 1).await;

    let receipt = server.stella(&["run", "receipt", run["runId"].as_str().unwrap()], 0).await;
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert!(keys.verify(receipt["checkpoint"].as_str().unwrap()).is_ok());

    let next = server.data_dir().join("signing-key.next");
    let next = next.to_str().unwrap();
    let new = stella::run(&["ledger", "key", "generate", "--out", next], 0).await;
    stella::run(&["ledger", "key", "generate", "--out", next], 2).await;
    let pins = server.stella(&["ledger", "key", "rotate", "--new", next], 0).await;
    assert_eq!(pins.lines().count(), 2);
    assert!(pins.lines().last().unwrap().starts_with(new.trim()));
    let note = server.stella(&["ledger", "checkpoint"], 0).await;
    assert!(keys.verify(&note).is_err());
    let both = Keyring(pins.lines().map(|pin| pin.parse().unwrap()).collect());
    both.verify(&note).unwrap();
}

#[tokio::test]
async fn the_key_that_follows_may_lie_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let next = elsewhere.path().join("following");
    let next = next.to_str().unwrap();
    let mut server = TestServer::builder().args(&["--next-signing-key", next]).start().await;
    server.client.register(&spec()).await;
    let new = stella::run(&["ledger", "key", "generate", "--out", next], 0).await;
    let pins = server.stella(&["ledger", "key", "rotate", "--new", next], 0).await;
    assert!(pins.lines().last().unwrap().starts_with(new.trim()), "{pins}");
    // It signs after a restart, and so does nobody without it.
    server.restart().await;
    server.client.run(&json!({"dagId": "one"})).await;
    let note = server.stella(&["ledger", "checkpoint", "--sign-now"], 0).await;
    Keyring(vec![pins.lines().last().unwrap().parse().unwrap()]).verify(&note).unwrap();
}

#[tokio::test]
async fn a_node_with_another_key_is_refused_where_another_signs() {
    let database = Database::new().await;
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    server.client.register(&spec()).await;
    server.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let key = key.to_str().unwrap();
    stella::run(&["ledger", "key", "generate", "--out", key], 0).await;
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ledger", &database.uri, "--data-dir", data];
    stella::run(&[&serve[..], &["--signing-key", key]].concat(), 1).await;
    // One that drew its own key leaves the signing to the other.
    let second = TestServer::builder().ledger(&database.uri).start().await;
    second.client.run(&json!({"dagId": "one"})).await;
    second.client.post_empty("/ledger:sign").await.problem(409, "SIGNED_ELSEWHERE");
    let newest = second.client.get("/ledger/checkpoint").await;
    assert!(newest.is_success());
    // It remembers what it saw, for its next start.
    let seen = second.data_dir().join("checkpoints/main.seen");
    assert!(fs::read_to_string(seen).unwrap().starts_with("stella.local/main\n"));
}

#[tokio::test]
async fn a_key_that_the_environment_gives_signs_and_is_kept_nowhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let kept = elsewhere.path().join("newest");
    let mut server = TestServer::builder()
        .env("STELLA_SIGNING_KEY", &"5a".repeat(32))
        .args(&["--checkpoint-file", kept.to_str().unwrap(), "--checkpoint-every", "3600"])
        .start()
        .await;
    server.client.register(&spec()).await;
    let ledger =
        LedgerId { origin: "stella.local".parse().unwrap(), tenant: "main".parse().unwrap() };
    let key = VerifierKey::new(ledger, &SigningKey::from_bytes(&[0x5a; 32]));
    let pin = server.stella(&["ledger", "key", "show"], 0).await;
    assert_eq!(pin.trim(), key.to_string());
    let note = server.stella(&["ledger", "checkpoint", "--sign-now"], 0).await;
    assert_eq!(fs::read_to_string(&kept).unwrap(), note, "the newest is kept elsewhere, too");
    Keyring(vec![PinnedKey::always(key)]).verify(&note).unwrap();
    server.stop().await;
    assert!(!server.data_dir().join("signing-key").exists());
    for name in ["ledger.db", "ledger.db-wal"] {
        let bytes = fs::read(server.data_dir().join(name)).unwrap_or_default();
        assert!(
            !bytes.windows(32).any(|part| part == [0x5a; 32] || part == [b'5', b'a'].repeat(16))
        );
    }
    // Without the variable it has no key that speaks for this ledger.
    refused(&server, "Give this node the key that signed it").await;
}
