//! Following runs over WebSockets, Server-Sent Events and in a terminal: every event once, in order,
//! also after a break.

use futures::StreamExt as _;
use harness::{
    PATIENCE,
    client::BASE,
    server::{On, TestServer},
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async, tungstenite::client::IntoClientRequest as _,
};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(server: &TestServer, query: &str) -> Socket {
    let url = format!("ws://{}{BASE}/runs/stream?{query}", server.client.server());
    let mut request = url.into_client_request().unwrap();
    let token = format!("Bearer {}", server.client.token());
    request.headers_mut().insert("authorization", token.parse().unwrap());
    connect_async(request).await.unwrap().0
}

/// The next events, so many.
async fn take(socket: &mut Socket, count: usize) -> Vec<Value> {
    let mut events = vec![];
    while events.len() < count {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await;
        let message = message.expect("an event comes").expect("the stream goes on").unwrap();
        if message.is_text() {
            events.push(serde_json::from_str(message.to_text().unwrap()).unwrap());
        }
    }
    events
}

async fn start_runs(server: &TestServer, count: usize) {
    for _ in 0..count {
        let run = server.client.run(&json!({"dagId": "two"})).await;
        assert_eq!(run["status"], "succeeded");
    }
}

/// Every event of runs as the ledger has them: seq and hash.
async fn recorded(server: &TestServer) -> Vec<(u64, String)> {
    let size = server.client.get("/ledger/head").await.ok()["size"].as_u64().unwrap();
    let runs = server.client.get(&format!("/runs?pageSize=500&minSeq={}", size - 1)).await.ok();
    let mut all = vec![];
    for run in runs["items"].as_array().unwrap() {
        let path = format!("/runs/{}/ledger?pageSize=500", run["runId"].as_str().unwrap());
        let events = server.client.get(&path).await.ok();
        all.extend(events["items"].as_array().unwrap().iter().map(place));
    }
    all.sort();
    all
}

fn place(event: &Value) -> (u64, String) {
    (event["seq"].as_u64().unwrap(), event["hash"].as_str().unwrap().to_owned())
}

#[rstest]
#[tokio::test]
async fn a_stream_is_resumed_without_gap_or_repeat(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let mut server = TestServer::on(on).await.start().await;
    let spec = json!({"id": "two", "steps": [
        {"id": "a", "plugin": "core", "action": "noop"},
        {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
    ]});
    server.client.register(&spec).await;
    start_runs(&server, 3).await;
    let expected = recorded(&server).await;

    // From the beginning, broken off in the middle of a commit or not, and on from there.
    let mut seen: Vec<(u64, String)> = vec![];
    while seen.len() < expected.len() {
        let from_seq = seen.last().map_or(0, |(seq, _)| seq + 1);
        let mut socket = connect(&server, &format!("fromSeq={from_seq}")).await;
        let some = (expected.len() - seen.len()).min(5);
        seen.extend(take(&mut socket, some).await.iter().map(place));
    }
    assert_eq!(seen, expected);

    // Over a crash of the server, and live events after those of the past.
    let from_seq = seen.last().map_or(0, |(seq, _)| seq + 1);
    start_runs(&server, 1).await;
    server.restart().await;
    let mut socket = connect(&server, &format!("fromSeq={from_seq}")).await;
    start_runs(&server, 2).await;
    let all = recorded(&server).await;
    seen.extend(take(&mut socket, all.len() - seen.len()).await.iter().map(place));
    assert_eq!(seen, all);
}

#[rstest]
#[tokio::test]
async fn a_stream_gives_what_was_asked_for(#[values(On::Sqlite, On::MongoDb)] on: On) {
    let server = TestServer::on(on).await.start().await;
    for id in ["two", "other"] {
        let spec = json!({"id": id, "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
        server.client.register(&spec).await;
    }
    let mut ends = connect(&server, "dagId=other&type=RunSucceeded").await;
    start_runs(&server, 2).await;
    let run = server.client.run(&json!({"dagId": "other"})).await;
    let event = take(&mut ends, 1).await.remove(0);
    assert_eq!((&event["runId"], &event["type"]), (&run["runId"], &json!("RunSucceeded")));
    let query = format!("fromSeq=0&runId={}", run["runId"].as_str().unwrap());
    let mut of_run = connect(&server, &query).await;
    let events = take(&mut of_run, 1).await;
    assert_eq!(events[0]["type"], "RunCreated");
}

/// Read Server-Sent Events until one has this text; answers place by place what came.
async fn server_sent(server: &TestServer, query: &str, seen: u64, end: &str) -> Vec<(u64, String)> {
    let url = format!("http://{}{BASE}/runs/stream?{query}", server.client.server());
    let request = reqwest::Client::new().get(url).bearer_auth(server.client.token());
    let request = request.header("accept", "text/event-stream").header("last-event-id", seen);
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while !(text.contains(end) && text.ends_with("\n\n")) {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await;
        let chunk = chunk.expect("something comes").unwrap().expect("the stream goes on");
        text += std::str::from_utf8(&chunk).unwrap();
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|event| place(&serde_json::from_str(event).unwrap())).collect()
}

#[rstest]
#[tokio::test]
async fn a_run_is_followed_in_a_terminal_and_as_server_sent_events(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let server = TestServer::on(on).await.concurrency(0).start().await;
    let spec = json!({"id": "two", "steps": [
        {"id": "a", "plugin": "core", "action": "noop"},
        {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
    ]});
    server.client.register(&spec).await;
    let other = server.client.post("/runs", &json!({"dagId": "two"})).await.ok();
    let run = server.client.post("/runs", &json!({"dagId": "two"})).await.ok();
    let run_id = run["runId"].as_str().unwrap();
    // Both begin before anything of it has happened, and are there at its end.
    let follow = ["run", "stream", run_id, "-o", "json"];
    let of_run = format!("runId={run_id}");
    let (lines, sent, _worker) = tokio::join!(
        server.stella(&follow, 0),
        server_sent(&server, &of_run, 0, "RunSucceeded"),
        server.worker("late"),
    );
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["type"], "RunSucceeded");
    let path = format!("/runs/{run_id}/ledger?pageSize=500");
    let events = server.client.get(&path).await.ok();
    let whole: Vec<_> = events["items"].as_array().unwrap().iter().map(place).collect();
    assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), whole);
    assert_eq!(sent, whole);
    let (seen, _) = whole[2];
    let rest = server_sent(&server, &of_run, seen, "RunSucceeded").await;
    assert_eq!(rest, whole[3..], "what was seen does not come again");
    let path = format!("/runs/{}?wait=30s", other["runId"].as_str().unwrap());
    assert_eq!(server.client.get(&path).await.ok()["status"], "succeeded");
}
