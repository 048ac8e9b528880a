//! `kill -9` under load, of the server and of its database: what was acknowledged is in the ledger
//! once, every started run reaches an end, the chain holds, and projections equal a rebuild.

use std::collections::BTreeMap;

use harness::{
    history::History,
    load::{Load, Started},
    mongo::Database,
    server::TestServer,
    until,
};
use serde_json::{Value, json};
use stella_domain::ids::StreamId;
use stella_mongod::{Mongod, Options};

const CLIENTS: usize = 8;
const KILLS: usize = 4;
/// Acknowledged runs between two kills, at least and at most: the moment is left to chance.
const RUNS_BETWEEN: std::ops::Range<usize> = 10..40;

/// Steps that take a moment, so that a kill meets some that run.
fn dag() -> Value {
    json!({"id": "load", "steps": [
        {"id": "a", "plugin": "core", "action": "noop"},
        {"id": "b", "plugin": "core", "action": "sleep", "with": {"ms": 5}, "needs": ["a"]},
        {"id": "c", "plugin": "core", "action": "noop", "needs": ["a"]},
        {"id": "d", "plugin": "core", "action": "echo", "with": {"x": 1}, "needs": ["b", "c"]},
    ]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_on_the_embedded_ledger() {
    killed_server_loses_nothing(TestServer::builder().start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_on_mongodb() {
    let database = Database::new().await;
    killed_server_loses_nothing(TestServer::builder().ledger(&database.uri).start().await).await;
}

async fn killed_server_loses_nothing(mut server: TestServer) {
    server.client.register(&dag()).await;
    let load = Load::start(&server.client, CLIENTS, "load");
    for _ in 0..KILLS {
        load.until_more(fastrand::usize(RUNS_BETWEEN)).await;
        server.kill();
        server.restart().await;
    }
    load.until_more(RUNS_BETWEEN.end).await;
    nothing_is_lost(&server, load.stop().await, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mongod_loses_nothing_and_reads_go_on() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    let server = TestServer::builder().ledger(&database.uri).start().await;
    server.client.register(&dag()).await;
    let (mut own, before) = (1, server.client.run(&json!({"dagId": "load"})).await);
    let path = format!("/runs/{}", before["runId"].as_str().unwrap());
    server.client.get(&format!("{path}?minSeq={}", before["seq"])).await.ok();

    let load = Load::start(&server.client, CLIENTS, "load");
    for _ in 0..2 {
        load.until_more(fastrand::usize(RUNS_BETWEEN)).await;
        mongod.kill().await.unwrap();
        let refused = until("a command is refused", async || {
            let start = json!({"dagId": "load", "runToken": format!("own-{own}")});
            let answer = server.client.post("/runs", &start).await;
            own += usize::from(answer.is_success());
            (!answer.is_success()).then_some(answer)
        })
        .await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        // Reads are answered from the projections.
        assert_eq!(server.client.get(&path).await.ok()["status"], "succeeded");
        server.client.get("/runs?pageSize=5").await.ok();
        server.client.get("/queue").await.ok();
        assert_eq!(server.client.get("livez").await.status, 200);
        assert_eq!(server.client.get("readyz").await.status, 503);
        mongod.restart().await.unwrap();
        // What was refused may have been recorded after all: sent again, it is there once.
        until("it is taken", async || {
            let start = json!({"dagId": "load", "runToken": format!("own-{own}")});
            server.client.post("/runs", &start).await.is_success().then_some(())
        })
        .await;
        own += 1;
    }
    // Nobody does anything but start mongod again, and ask. (`outage` is about nobody asking.)
    load.until_more(RUNS_BETWEEN.end).await;
    until("it is ready again", async || {
        (server.client.get("readyz").await.status == 200).then_some(())
    })
    .await;
    nothing_is_lost(&server, load.stop().await, own).await;
}

/// A machine that loses power has both on it. The server comes up before its database, or after.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_and_its_mongod_killed_together_lose_nothing() {
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let database = Database::of(&mongod);
    let mut server = TestServer::builder().ledger(&database.uri).start().await;
    server.client.register(&dag()).await;
    let load = Load::start(&server.client, CLIENTS, "load");
    for server_first in [true, false] {
        load.until_more(fastrand::usize(RUNS_BETWEEN)).await;
        server.kill();
        mongod.kill().await.unwrap();
        if server_first {
            server.restart().await;
            mongod.restart().await.unwrap();
        } else {
            mongod.restart().await.unwrap();
            server.restart().await;
        }
    }
    load.until_more(RUNS_BETWEEN.end).await;
    nothing_is_lost(&server, load.stop().await, 0).await;
}

/// Check the ledger of a server at rest against the runs that were acknowledged to the load, and `own`
/// others.
async fn nothing_is_lost(server: &TestServer, acknowledged: BTreeMap<String, Started>, own: usize) {
    let unended = async |status: &str| {
        let page = server.client.get(&format!("/runs?status={status}")).await.ok();
        page["items"].as_array().unwrap().is_empty()
    };
    until("every run has ended", async || {
        (unended("running").await && unended("failing").await).then_some(())
    })
    .await;
    let head = server.client.get("/ledger/head").await.ok();
    server.client.post_empty("/ledger:seal").await.ok();

    let file = server.scratch("events.ndjson");
    server.stella(&["ledger", "export", "--to", &after(&head), "--file", &file], 0).await;
    let report = server.stella(&["ledger", "verify", &file, "-o", "json"], 0).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["events"], head["size"], "the export holds all that there was: {report}");
    let check = server.stella(&["projections", "check", "-o", "json"], 0).await;
    let check: Value = serde_json::from_str(&check).unwrap();
    assert_eq!(check["identical"], true, "{check}");

    let history = History::read(&server.ledger(), "main").await;
    for (token, Started { run_id, seq }) in &acknowledged {
        assert!(history.has_ended(run_id), "{token} was acknowledged");
        let Some(seq) = seq else { continue };
        let mut commits = history.stream(&StreamId::Run(run_id.clone()));
        let is_there = commits.any(|recorded| recorded.with_seq().any(|(at, _)| at == *seq));
        assert!(is_there, "{token} was acknowledged with seq {seq}, which is of another stream");
    }
    for run_id in history.runs() {
        assert!(history.has_ended(run_id), "{run_id} has not ended");
    }
    // Every token was sent until it was acknowledged: a second run of one would be one too many.
    assert_eq!(history.runs().count(), acknowledged.len() + own);
    assert!(acknowledged.len() > CLIENTS * 2, "only {} runs", acknowledged.len());
}

/// A time just after the last event of a ledger that ends at `head`.
fn after(head: &Value) -> String {
    let at: stella_domain::time::Timestamp = head["recordedAt"].as_str().unwrap().parse().unwrap();
    stella_domain::time::Timestamp::from_micros(at.as_micros() + 1).to_string()
}
