//! An event that this release cannot read stops whoever comes to it, with its seq and the reason, and
//! whatever does not come to it goes on. It is never skipped.

use std::sync::Arc;

use harness::{client::Client, mongo::Database, server::TestServer, stella, until};
use serde_json::json;
use stella_domain::{
    chain::{Commit, Draft},
    event::EncodedEvent,
    hash::Salt,
    ids::{RunId, StreamId, Tenant},
    json::CanonicalJson,
};
use stella_ledger::uri::LedgerUri;

/// What a later release recorded of this run; answers its seq.
async fn record(uri: &str, run_id: &str) -> u64 {
    let ledger = uri.parse::<LedgerUri>().unwrap().open().await.unwrap();
    let tenant: Tenant = "main".parse().unwrap();
    let stream = StreamId::Run(run_id.parse::<RunId>().unwrap());
    let own = ledger.read_streams(&tenant, std::slice::from_ref(&stream)).await.unwrap();
    let last = own.last().unwrap();
    let head = ledger.head(&tenant).await.unwrap();
    let event = EncodedEvent {
        event_type: "StepTeleported",
        schema: 3,
        data: CanonicalJson::parse(r#"{"stepId":"a"}"#).unwrap(),
        payload: None,
    };
    let draft = Draft {
        stream,
        stream_version: last.stream_version + last.events.len() as u64,
        actor: "user:local".parse().unwrap(),
        events: vec![(event, Salt::from([1; 16]))],
    };
    let commit = Commit::seal(&last.ledger, &head, head.recorded_at, draft).unwrap();
    ledger.append(&[Arc::new(commit)]).await.unwrap();
    head.next_seq
}

async fn run(client: &Client) -> String {
    client.run(&json!({"dagId": "one"})).await["runId"].as_str().unwrap().to_owned()
}

async fn an_event_of_a_later_release_stops_readers(mut server: TestServer) {
    let spec = json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    server.client.register(&spec).await;
    let (run_id, other) = (run(&server.client).await, run(&server.client).await);
    server.stop().await;
    let uri = server.ledger();
    let seq = record(&uri, &run_id).await;
    let names_it = |said: &str| {
        assert!(said.contains(&format!("seq {seq}")) && said.contains("StepTeleported"), "{said}");
    };

    // The chain is no matter of what an event says.
    stella::run(&["ledger", "verify", "--ledger", &uri], 0).await;
    let data_dir = server.data_dir();
    let rebuild = ["projections", "rebuild", "--ledger", &uri, "--data-dir"];
    let rebuild = [&rebuild[..], &[data_dir.to_str().unwrap()]].concat();
    names_it(&stella::fails(&rebuild, 1).await);

    server.restart().await;
    let client = &server.client;
    until("the log names it", async || {
        let log = server.log();
        (log.contains(&format!("seq {seq}")) && log.contains("StepTeleported")).then_some(())
    })
    .await;
    // Everything before it is shown, and that there is more.
    assert_eq!(client.get(&format!("/runs/{other}")).await.ok()["status"], "succeeded");
    let projections = client.get("/admin/projections").await.ok();
    assert_eq!((&projections["position"], &projections["lag"]), (&json!(seq), &json!(1)));
    let health = client.get("/admin/health").await.ok();
    let parts = health["components"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "projections").unwrap();
    assert_eq!(part["status"], "red", "{part}");
    names_it(part["message"].as_str().unwrap());
    client.get("readyz").await.problem(503, "NOT_READY");
    // It stands in the ledger as any other, for whoever reads what is recorded.
    let recorded = client.get(&format!("/runs/{run_id}/ledger?pageSize=100")).await.ok();
    assert_eq!(recorded["items"].as_array().unwrap().last().unwrap()["type"], "StepTeleported");
    // Nothing is recorded behind what is not understood.
    let head = client.get("/ledger/head").await.ok();
    let cancel = format!("/runs/{run_id}:cancel");
    for (path, body) in [("/runs", json!({"dagId": "one"})), (&cancel, json!({"reason": "x"}))] {
        let refused = client.post(path, &body).await.problem(500, "LEDGER_UNREADABLE");
        names_it(refused["detail"].as_str().unwrap());
    }
    assert_eq!(client.get("/ledger/head").await.ok(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_later_release_stops_readers_of_a_file() {
    an_event_of_a_later_release_stops_readers(TestServer::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_later_release_stops_readers_of_mongodb() {
    let database = Database::new().await;
    let server = TestServer::builder().ledger(&database.uri).start().await;
    an_event_of_a_later_release_stops_readers(server).await;
}
