//! A MongoDB that lacks the index on which the ledger rests: nothing is written to it, what was
//! written can be read, and the node recovers by itself.

use harness::{mongo::Database, server::TestServer, stella, until};
use mongodb::{Client, Collection, bson::Document};
use serde_json::json;

#[tokio::test]
async fn a_missing_index_stops_commands_and_nothing_else() {
    let database = Database::new().await;
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    let spec = json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    server.client.register(&spec).await;
    let run = server.client.run(&json!({"dagId": "one"})).await;
    let path = format!("/runs/{}", run["runId"].as_str().unwrap());
    server.client.get(&format!("{path}?minSeq={}", run["seq"])).await.ok();

    let mongo = Client::with_uri_str(&database.uri).await.unwrap();
    let collection: Collection<Document> = mongo.database(&database.name).collection("ledger");
    collection.drop_indexes().await.unwrap();
    // A running node looks only now and then; one that starts looks at once.
    server.restart().await;
    let refused = server.client.post("/runs", &json!({"dagId": "one"})).await;
    let problem = refused.problem(503, "LEDGER_UNAVAILABLE");
    assert!(problem["detail"].as_str().unwrap().contains("INDEX_MISSING"), "{problem}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_eq!(server.client.get(&path).await.ok()["status"], "succeeded");
    let health = server.client.get("/admin/health").await.ok();
    assert_eq!(health["status"], "red", "{health}");
    let strict = ["serve", "--strict", "--listen", "127.0.0.1:0", "--ledger", &database.uri];
    let dir = server.scratch("strict");
    stella::run(&[&strict[..], &["--data-dir", &dir]].concat(), 1).await;

    stella::run(&["ledger", "init", "--ledger", &database.uri], 0).await;
    let started = until("commands are taken again", async || {
        let answer = server.client.post("/runs?wait=30s", &json!({"dagId": "one"})).await;
        answer.is_success().then_some(answer)
    })
    .await;
    assert_eq!(started.json()["status"], "succeeded");
}
