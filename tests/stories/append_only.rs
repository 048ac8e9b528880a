//! A server with the role that `ledger init --role` makes: everything works, and MongoDB refuses
//! whoever has its credentials to change what was recorded.

use harness::{
    mongo::{Guarded, SERVER},
    server::TestServer,
    stella,
};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::json;
use stella_domain::checkpoint::{Keyring, PinnedKey};
use stella_ledger::mongo::APPEND_ONLY_ROLE;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_just_the_role_serves_signs_and_proves() {
    let guarded = Guarded::start().await;
    // --strict: nothing is found that weakens the ledger.
    let strict = TestServer::builder().ledger(&guarded.server_uri).args(&["--strict"]);
    let mut server = strict.start().await;
    let client = &server.client;
    client
        .register(&json!({"id": "one", "steps": [
            {"id": "a", "plugin": "core", "action": "noop"},
        ]}))
        .await;
    // More events than one tile holds.
    for _ in 0..60 {
        client.run(&json!({"dagId": "one"})).await;
    }
    let note = server.stella(&["ledger", "checkpoint", "--sign-now"], 0).await;
    let pin: PinnedKey = server.stella(&["ledger", "key", "show"], 0).await.trim().parse().unwrap();
    let signed = Keyring(vec![pin]).verify(&note).unwrap();
    assert!(signed.size > 256, "{note}");
    for path in ["inclusion?seq=3", "consistency?from=100"] {
        client.get(&format!("/ledger/proofs/{path}")).await.ok();
    }
    server.restart().await;
    let client = &server.client;
    let run = client.run(&json!({"dagId": "one"})).await;
    server.stella(&["ledger", "seal", "--reason", "story"], 0).await;
    let health = client.get("/admin/health").await.ok();
    assert_eq!(health["status"], "green", "{health}");
    server.stella(&["run", "receipt", run["runId"].as_str().unwrap()], 0).await;

    let with_its_password = Client::with_uri_str(&guarded.server_uri).await.unwrap();
    let database = with_its_password.database(&guarded.name);
    for name in ["ledger", "tiles", "checkpoints"] {
        let collection = database.collection::<Document>(name);
        let before = collection.find_one(doc! {}).await.unwrap();
        assert!(before.is_some(), "{name} is in use");
        let refusals = [
            collection.update_many(doc! {}, doc! { "$set": { "x": 1 } }).await.unwrap_err(),
            collection.delete_many(doc! {}).await.unwrap_err(),
            collection.drop().await.unwrap_err(),
        ];
        for refusal in refusals {
            assert!(refusal.to_string().contains("not authorized"), "{name}: {refusal}");
        }
        assert_eq!(collection.find_one(doc! {}).await.unwrap(), before);
    }
    stella::run(&["ledger", "verify", "--ledger", &guarded.server_uri], 0).await;
}

#[tokio::test]
async fn making_the_role_is_refused_where_it_cannot_mean_what_it_says() {
    let guarded = Guarded::start().await;
    let init = ["ledger", "init", "--role", "--ledger"];
    // Again is no harm.
    stella::run(&[&init[..], &[&guarded.root_uri]].concat(), 0).await;
    // The server may not make roles; the storage knows none; the name is taken.
    let other = [&init[..3], &["other"], &init[3..]].concat();
    stella::run(&[&other[..], &[&guarded.server_uri]].concat(), 1).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledger.db");
    stella::run(&[&init[..], &[&format!("sqlite:{}", file.display())]].concat(), 2).await;
    assert!(!file.exists(), "nothing was begun");
    let wider = doc! { "updateRole": APPEND_ONLY_ROLE, "roles": ["readWrite"] };
    guarded.root.database(&guarded.name).run_command(wider).await.unwrap();
    stella::run(&[&init[..], &[&guarded.root_uri]].concat(), 1).await;
    // And a strict server says what is wrong.
    let serve = ["serve", "--strict", "--listen", "127.0.0.1:0", "--data-dir"];
    let data = dir.path().join("data");
    let args = [&serve[..], &[data.to_str().unwrap(), "--ledger", &guarded.server_uri]].concat();
    stella::run(&args, 1).await;
    assert!(guarded.server_uri.contains(SERVER));
}
