//! The database is away when a server starts, takes no writes, or comes back while nobody asks:
//! commands are refused, reads go on, and recovery is nobody's work.

use harness::{
    client::{Answer, Client},
    mongo::Database,
    server::TestServer,
    stella, until,
};
use serde_json::{Value, json};
use stella_mongod::{Mongod, Options};

fn dag() -> Value {
    json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]})
}

fn start() -> Value {
    json!({"dagId": "one"})
}

/// A run that has ended and that the projections have seen; answers its path.
async fn ended_run(client: &Client) -> String {
    client.register(&dag()).await;
    let run = client.run(&start()).await;
    let path = format!("/runs/{}", run["runId"].as_str().unwrap());
    client.get(&format!("{path}?minSeq={}", run["seq"])).await.ok();
    path
}

/// Every command is refused for now, and says when to ask again.
async fn commands_are_refused(client: &Client) {
    let spec = json!({"id": "two", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    for (path, body) in [("/runs", start()), ("/dags", spec), ("/ledger:seal", json!({}))] {
        let refused = client.post(path, &body).await;
        refused.problem(503, "LEDGER_UNAVAILABLE");
        assert_eq!(refused.header("retry-after"), Some("1"), "{refused:?}");
    }
}

/// Reads are answered from the projections.
async fn reads_go_on(client: &Client, run: &str) {
    assert_eq!(client.get(run).await.ok()["status"], "succeeded");
    assert_eq!(client.get(&format!("{run}?wait=30s")).await.ok()["status"], "succeeded");
    assert_eq!(client.get(&format!("{run}/steps")).await.ok()["items"][0]["stepId"], "a");
    assert_eq!(client.get("/runs").await.ok()["items"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/dags/one/versions/1").await.ok()["version"], 1);
    assert_eq!(client.get("/queue").await.ok()["total"]["queued"], 0);
    assert_eq!(client.get("/admin/projections").await.ok()["lag"], 0);
    assert_eq!(client.get("metrics").await.status, 200);
}

async fn commands_are_taken_again(client: &Client) -> Answer {
    let answer = until("commands are taken again", async || {
        let answer = client.post("/runs?wait=30s", &start()).await;
        answer.is_success().then_some(answer)
    })
    .await;
    assert_eq!(answer.json()["status"], "succeeded");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_without_its_database_shows_what_it_knows() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    let run = ended_run(&server.client).await;
    server.stop().await;
    mongod.stop().await.unwrap();

    server.restart().await;
    let client = &server.client;
    reads_go_on(client, &run).await;
    commands_are_refused(client).await;
    // What only the ledger can tell is not told.
    client.get("/ledger/head").await.problem(503, "LEDGER_UNAVAILABLE");
    client.get(&format!("{run}/ledger")).await.problem(503, "LEDGER_UNAVAILABLE");
    client.post_empty("/admin/projections:check").await.problem(503, "LEDGER_UNAVAILABLE");
    assert_eq!(client.get("livez").await.status, 200);
    assert_eq!(client.get("readyz").await.status, 503);
    let health = client.get("/admin/health").await.ok();
    assert_eq!(health["status"], "red", "{health}");

    mongod.restart().await.unwrap();
    commands_are_taken_again(client).await;
    until("it is ready", async || (client.get("readyz").await.status == 200).then_some(())).await;

    // Stopping in order works while the database is away, too.
    server.kill();
    mongod.stop().await.unwrap();
    server.restart().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_nothing_does_not_start_without_its_database() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    mongod.stop().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--ledger", &database.uri, "--data-dir"];
    stella::run(&[&serve[..], &[dir.path().to_str().unwrap()]].concat(), 3).await;
}

/// An older backup is put in place while the database is away: the server that waits for it finds
/// out before it applies or shows anything of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_back_older_ends_the_server() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    ended_run(&server.client).await;
    server.stop().await;
    let mongo = mongodb::Client::with_uri_str(&database.uri).await.unwrap();
    let ledger = mongo.database(&database.name).collection::<mongodb::bson::Document>("ledger");
    let last = ledger.find_one(mongodb::bson::doc! {}).sort(mongodb::bson::doc! { "_id": -1 });
    let last = last.await.unwrap().unwrap();
    let id = mongodb::bson::doc! { "_id": last.get_str("_id").unwrap() };
    ledger.delete_one(id).await.unwrap();
    mongod.stop().await.unwrap();
    server.restart().await;
    mongod.restart().await.unwrap();
    assert_eq!(server.ended().await, Some(1));
    assert!(server.log().contains("an older backup was restored"), "{}", server.log());
}
