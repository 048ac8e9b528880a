//! The database is away when a server starts, takes no writes, or comes back while nobody asks:
//! commands are refused, reads go on, and recovery is nobody's work.

use harness::{
    client::{Answer, Client},
    mongo::{Database, Guarded, SERVER},
    server::TestServer,
    stella, until,
};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use stella_ledger::mongo::APPEND_ONLY_ROLE;
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
        // What reaches a server just as it ceases to be the primary may have been written.
        let code = refused.json()["code"].as_str().unwrap_or_default().to_owned();
        assert!(["LEDGER_UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&&*code), "{refused:?}");
        refused.problem(503, &code);
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
    assert_eq!(client.get("/queue/steps").await.ok()["items"], json!([]));
    assert_eq!(client.get(&format!("{run}/waiting")).await.ok()["items"], json!([]));
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
    let ledger = mongo.database(&database.name).collection::<Document>("ledger");
    let last = ledger.find_one(doc! {}).sort(doc! { "_id": -1 });
    let last = last.await.unwrap().unwrap();
    let id = doc! { "_id": last.get_str("_id").unwrap() };
    ledger.delete_one(id).await.unwrap();
    mongod.stop().await.unwrap();
    server.restart().await;
    mongod.restart().await.unwrap();
    assert_eq!(server.ended().await, Some(1));
    assert!(server.log().contains("an older backup was restored"), "{}", server.log());
}

/// The only member of its replica set steps down: there is nobody to write to.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_primary_takes_no_commands_for_a_while() {
    let mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    let server = TestServer::builder().ledger(&database.uri).start().await;
    let client = &server.client;
    let run = ended_run(client).await;
    let direct = format!("mongodb://127.0.0.1:{}/?directConnection=true", mongod.port());
    let admin = mongodb::Client::with_uri_str(direct).await.unwrap().database("admin");
    admin.run_command(doc! { "replSetStepDown": 3_600, "force": true }).await.unwrap();

    commands_are_refused(client).await;
    reads_go_on(client, &run).await;
    // It may be elected again before the time is over.
    admin.run_command(doc! { "replSetFreeze": 0 }).await.unwrap();
    commands_are_taken_again(client).await;
}

/// The server's user loses the right to insert, and gets it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_read_only_takes_no_commands_for_a_while() {
    let guarded = Guarded::start().await;
    let server = TestServer::builder().ledger(&guarded.server_uri).start().await;
    let client = &server.client;
    let run = ended_run(client).await;
    let roles = |role: &str| doc! { "updateUser": SERVER, "roles": [role] };
    let database = guarded.root.database(&guarded.name);
    database.run_command(roles("read")).await.unwrap();
    commands_are_refused(client).await;
    reads_go_on(client, &run).await;
    // What the ledger alone can tell can be read as well.
    client.get(&format!("{run}/ledger")).await.ok();
    database.run_command(roles(APPEND_ONLY_ROLE)).await.unwrap();
    commands_are_taken_again(client).await;
}

/// Nothing but reads is asked once the database is gone: what is due and what is queued finds out
/// by itself that it is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_open_goes_on_although_nobody_asks() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    // One step at a time, so that one is queued while another runs.
    let server = TestServer::builder().ledger(&database.uri).concurrency(1).start().await;
    let client = &server.client;
    let (fail, sleep) = (json!({"untilAttempt": 2}), json!({"ms": 3_000}));
    client
        .register(&json!({"id": "retry", "steps": [
            {"id": "a", "plugin": "core", "action": "fail", "with": fail,
                "retries": {"max": 1, "backoff": "2s"}},
        ]}))
        .await;
    client
        .register(&json!({"id": "queue", "steps": [
            {"id": "a", "plugin": "core", "action": "sleep", "with": sleep},
            {"id": "b", "plugin": "core", "action": "noop"},
        ]}))
        .await;
    for (dag_id, step_id, phase) in [("retry", "a", "backingOff"), ("queue", "b", "queued")] {
        let run = client.post("/runs", &json!({"dagId": dag_id})).await.ok();
        let run_id = run["runId"].as_str().unwrap();
        let steps = format!("/runs/{run_id}/steps?minSeq={}", run["seq"]);
        let open = async || {
            let steps = client.get(&steps).await.ok();
            let steps = steps["items"].as_array().unwrap().clone();
            steps.into_iter().any(|s| s["stepId"] == step_id && s["phase"] == phase)
        };
        until("the step is left open", async || open().await.then_some(())).await;
        let seen = server.log().len();
        mongod.kill().await.unwrap();
        // Its time comes while there is nowhere to record it.
        until("the outage was met", async || {
            server.log()[seen..].contains("does not take writes").then_some(())
        })
        .await;
        assert!(open().await, "nothing was recorded meanwhile");
        mongod.restart().await.unwrap();
        until("the run has ended", async || {
            let run = client.get(&format!("/runs/{run_id}")).await.ok();
            (run["status"] == "succeeded").then_some(())
        })
        .await;
    }
}
