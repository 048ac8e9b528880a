//! Looking a stored ledger over from the command line, with no server.

use harness::{mongo::Database, server::TestServer, stella};
use mongodb::{
    Client,
    bson::{Document, doc},
};
use serde_json::{Value, json};

async fn with_runs(server: &mut TestServer) -> String {
    let spec = json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    server.client.register(&spec).await;
    for _ in 0..3 {
        server.client.run(&json!({"dagId": "one"})).await;
    }
    let key = server.stella(&["ledger", "key", "show"], 0).await.trim().to_owned();
    server.stop().await;
    key
}

#[tokio::test]
async fn a_sound_ledger_is_found_sound_and_what_is_none_is_said_so() {
    let mut server = TestServer::start().await;
    let key = with_runs(&mut server).await;
    let ledger = server.ledger();
    let fsck = ["ledger", "fsck", "--ledger", &ledger];
    let report = stella::run(&[&fsck[..], &["--key", &key, "-o", "json"]].concat(), 0).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["sound"], &report["signaturesChecked"]), (&json!(true), &json!(true)));
    assert_eq!(report["ledger"], "stella.local/main");
    assert_eq!(report["problems"], json!([]));
    assert!(report["checkpoints"].as_u64().unwrap() >= 2, "{report}");
    let text = stella::run(&fsck, 0).await;
    assert!(text.contains("problems:     0"), "{text}");

    stella::run(&[&fsck[..], &["--tenant", "other"]].concat(), 1).await;
    stella::run(&["ledger", "fsck", "--data-dir", "nowhere"], 1).await;
    stella::run(&[&fsck[..], &["--key", "no key"]].concat(), 2).await;
}

#[tokio::test]
async fn everything_that_is_wrong_in_mongodb_is_said_at_once() {
    let database = Database::new().await;
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    with_runs(&mut server).await;
    let own = Client::with_uri_str(&database.uri).await.unwrap().database(&database.name);
    let ledger = own.collection::<Document>("ledger");
    let change = doc! { "$set": { "actor": "user:other" } };
    ledger.update_one(doc! { "_id": "main/000000000001" }, change).await.unwrap();
    let last = ledger.find_one_and_delete(doc! {}).sort(doc! { "_id": -1 }).await.unwrap();
    assert!(last.is_some());
    let fsck = ["ledger", "fsck", "--ledger", &database.uri];
    let report = stella::run(&[&fsck[..], &["-o", "json"]].concat(), 4).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let counts = json!({"CHECKPOINT_BEYOND_END": 1, "CONTENT_CHANGED": 1});
    assert_eq!(report["counts"], counts, "{report}");
    assert_eq!(report["problems"][0]["seq"], 1);
    let text = stella::run(&fsck, 4).await;
    assert!(text.contains("CONTENT_CHANGED"), "{text}");
}
