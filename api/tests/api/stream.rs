//! The stream of events: in order, no gap, no repeat, and resumable.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::{Value, json};
use stella_api::types::{StreamItem, StreamMessage};
use stella_domain::{aggregate::RunStatus, hash};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Message, client::IntoClientRequest as _, handshake::client::Request, protocol::CloseFrame,
    },
};

use crate::support::{Answer, Api, ECHO, PREFIX, SLOW};

/// Longest wait for an event; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(45);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(api: &Api, query: &str) -> Self {
        let request = request(api, query);
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    /// One that has little room for what it has not read yet.
    async fn narrow(api: &Api, query: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let stream = MaybeTlsStream::Plain(socket.connect(api.address()).await.unwrap());
        Self(tokio_tungstenite::client_async(request(api, query), stream).await.unwrap().0)
    }

    /// The next event, or the frame with which the server closes.
    async fn next(&mut self) -> Result<StreamMessage, Option<CloseFrame>> {
        match self.next_item().await? {
            StreamItem::Event(message) => Ok(*message),
            StreamItem::Link(link) => panic!("nobody asked for {link:?}"),
        }
    }

    async fn next_item(&mut self) -> Result<StreamItem, Option<CloseFrame>> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("something comes");
            match message.unwrap().unwrap() {
                Message::Text(text) => return Ok(StreamItem::parse(&text).unwrap()),
                Message::Close(frame) => return Err(frame),
                _ => {}
            }
        }
    }

    async fn until(&mut self, event_type: &str) -> Vec<StreamMessage> {
        let mut messages: Vec<StreamMessage> = vec![];
        while messages.last().is_none_or(|last| last.event_type != event_type) {
            messages.push(self.next().await.unwrap());
        }
        messages
    }
}

fn request(api: &Api, query: &str) -> Request {
    let url = format!("ws://{}{PREFIX}/runs/stream{query}", api.address());
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", api.bearer().parse().unwrap());
    request
}

/// A client that reads Server-Sent Events.
struct ServerSent {
    response: reqwest::Response,
    read: String,
}

/// An event as it was sent.
#[derive(Debug, PartialEq)]
struct Sent {
    id: Option<u64>,
    name: String,
    data: String,
}

impl ServerSent {
    async fn connect(api: &Api, query: &str, seen: Option<u64>) -> Self {
        // Without the time limit that the others have on their answers.
        let url = format!("http://{}{PREFIX}/runs/stream{query}", api.address());
        let mut request = reqwest::Client::new().get(url).header("accept", "text/event-stream");
        if let Some(seq) = seen {
            request = request.header("last-event-id", seq.to_string());
        }
        let response = request.header("authorization", api.bearer()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, read: String::new() }
    }

    /// The next event that has data; `None` at the end.
    async fn next_sent(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.read.split_once("\n\n") {
                let (mut id, mut name, mut data) = (None, String::new(), String::new());
                for line in block.lines() {
                    match line.split_once(':').unwrap() {
                        ("id", value) => id = Some(value.trim().parse().unwrap()),
                        ("event", value) => name = value.trim().to_owned(),
                        ("data", value) => data += value.trim(),
                        ("" | "retry", _) => {}
                        _ => panic!("{line}"),
                    }
                }
                self.read = rest.to_owned();
                if !data.is_empty() {
                    return Some(Sent { id, name, data });
                }
            }
            // What is sent here is ASCII: no character is cut in two.
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes").unwrap()?;
            self.read += std::str::from_utf8(&chunk).unwrap();
        }
    }

    async fn next(&mut self) -> StreamMessage {
        let sent = self.next_sent().await.unwrap();
        let message: StreamMessage = serde_json::from_str(&sent.data).unwrap();
        assert_eq!((sent.id, &*sent.name), (Some(message.seq), ""));
        message
    }

    async fn until(&mut self, event_type: &str) -> Vec<StreamMessage> {
        let mut messages: Vec<StreamMessage> = vec![];
        while messages.last().is_none_or(|last| last.event_type != event_type) {
            messages.push(self.next().await);
        }
        messages
    }
}

fn seqs(messages: &[StreamMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_are_recorded_and_again_from_any_seq() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let mut live = Client::connect(&api, "").await;
    let run = api.finished("echo", &json!({"n": 1})).await;
    let messages = live.until("RunSucceeded").await;
    assert_eq!(messages[0].event_type, "RunCreated");
    assert_eq!(messages[0].run_id.as_str(), run["runId"].as_str().unwrap());
    let first = messages[0].seq;
    let expected: Vec<u64> = (first..first + messages.len() as u64).collect();
    assert_eq!(seqs(&messages), expected, "a run's events follow each other here");
    assert_eq!(messages.last().unwrap().seq, run["seq"].as_u64().unwrap());

    // In the middle of a commit, too.
    for from in expected {
        let mut later = Client::connect(&api, &format!("?fromSeq={from}")).await;
        let rest = later.until("RunSucceeded").await;
        assert_eq!(rest, messages[(from - first) as usize..]);
    }
    let mut early = Client::connect(&api, "?fromSeq=0").await;
    assert_eq!(early.until("RunSucceeded").await, messages);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_together() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.register(SLOW).await;
    let slow = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let runs = [
        api.finished("echo", &json!({"n": 1})).await,
        api.finished("echo", &json!({"n": 2})).await,
    ];
    let slow_id = slow["runId"].as_str().unwrap();
    api.post_nothing(&format!("/runs/{slow_id}:cancel")).await;

    let mut one =
        Client::connect(&api, &format!("?fromSeq=0&runId={}", runs[1]["runId"].as_str().unwrap()))
            .await;
    assert!(one.until("RunSucceeded").await.iter().all(|m| m.run_id.as_str() == runs[1]["runId"]));

    let mut ends = Client::connect(&api, "?fromSeq=0&dagId=echo&type=RunSucceeded").await;
    let found = [ends.next().await.unwrap(), ends.next().await.unwrap()];
    assert_eq!(found.map(|m| m.seq), [0, 1].map(|i| runs[i]["seq"].as_u64().unwrap()));

    // The run began before the stream: its DAG is looked up.
    let from = slow["seq"].as_u64().unwrap() + 1;
    let mut late = Client::connect(&api, &format!("?fromSeq={from}&dagId=slow")).await;
    let messages = late.until("RunCancelled").await;
    assert!(messages.iter().all(|message| message.run_id.as_str() == slow_id));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_server() {
    let api = Api::start().await;
    let mut client = Client::connect(&api, "").await;
    client.0.send(Message::Text("anything".into())).await.unwrap();
    let (closed, ()) = tokio::join!(client.next(), api.stop());
    let frame = closed.unwrap_err().unwrap();
    assert_eq!(u16::from(frame.code), 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_are_the_same_and_go_on_after_the_last_one_seen() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let mut live = ServerSent::connect(&api, "", None).await;
    let run = api.finished("echo", &json!({"who": "ann\nand bob"})).await;
    let messages = live.until("RunSucceeded").await;
    assert_eq!(messages.last().unwrap().seq, run["seq"].as_u64().unwrap());
    let mut socket = Client::connect(&api, "?fromSeq=0").await;
    assert_eq!(socket.until("RunSucceeded").await, messages);
    for (i, message) in messages.iter().enumerate().take(messages.len() - 1) {
        // The place that was seen goes before the one that was asked for at first.
        let mut again = ServerSent::connect(&api, "?fromSeq=0", Some(message.seq)).await;
        assert_eq!(again.until("RunSucceeded").await, messages[i + 1..]);
    }
    let filtered = "?fromSeq=0&type=RunSucceeded&dagId=echo";
    let mut filtered = ServerSent::connect(&api, filtered, None).await;
    assert_eq!(filtered.next().await, *messages.last().unwrap());

    let refused = api.request(reqwest::Method::GET, "/runs/stream").header("last-event-id", "x");
    let refused = refused.header("accept", "text/html, text/event-stream;q=0.9").send().await;
    Answer::of(refused.unwrap()).await.is_problem(400, "INVALID_LAST_EVENT_ID");
    let (end, ()) = tokio::join!(live.next_sent(), api.stop());
    assert_eq!(end, None);
}

/// A DAG of steps that do nothing, side by side.
fn wide(steps: usize) -> Value {
    let steps: Vec<_> = (0..steps)
        .map(|i| json!({"id": format!("s{i}"), "plugin": "core", "action": "noop"}))
        .collect();
    json!({"id": "wide", "steps": steps})
}

/// More than sockets hold and than the server keeps in memory of what is recent, which is 16 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_for_long_gets_everything_from_the_ledger() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.post("/dags", &wide(200)).await;
    let from = api.get("/ledger/head").await.body["size"].as_u64().unwrap();
    let mut slow = Client::narrow(&api, "").await;
    let mut sent = ServerSent::connect(&api, "", None).await;

    let text = "x".repeat(60_000);
    for _ in 0..5 {
        api.finished("wide", &json!({})).await;
        let large = json!({"who": text});
        join_all((0..44).map(|_| api.finished("echo", &large))).await;
    }
    let head = api.get("/ledger/head").await.body["size"].as_u64().unwrap();
    assert!(head - from > 4_000, "thousands of events: {from} to {head}");

    // Others are served meanwhile.
    let mut quick = Client::connect(&api, &format!("?fromSeq={}", head - 1)).await;
    assert_eq!(quick.next().await.unwrap().seq, head - 1);
    let mut bytes = 0;
    for seq in from..head {
        let message = slow.next().await.unwrap();
        assert_eq!(message.seq, seq);
        bytes += message.payload.as_ref().map_or(0, |payload| payload.as_str().len());
        assert_eq!(sent.next().await, message);
    }
    assert!(bytes > 24 * 1024 * 1024, "{bytes} bytes is too little to be behind");
    // And then goes on with what is new.
    let run = api.finished("echo", &json!({})).await;
    let last = slow.until("RunSucceeded").await.pop().unwrap();
    assert_eq!(last.seq, run["seq"].as_u64().unwrap());
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_statuses_of_runs_that_began_before_are_known() {
    let api = Api::start().await;
    api.register(SLOW).await;
    let start = async |team: &str| {
        let body = json!({"dagId": "slow", "labels": {"team": team, "a": "b=c"}});
        api.post("/runs", &body).await.body
    };
    let (ours, theirs) = (start("ours").await, start("theirs").await);
    let id = |run: &Value| run["runId"].as_str().unwrap().to_owned();
    let mut labelled = Client::connect(&api, "?label=team%3Dours").await;
    let both = "?label=a%3Db%3Dc&status=cancelled&type=RunCancelled";
    let mut both = Client::connect(&api, both).await;
    let mut cancelling = Client::connect(&api, "?status=cancelling").await;
    api.get("/runs/stream?label=team").await.is_problem(400, "INVALID_QUERY");
    for run in [&theirs, &ours] {
        api.post_nothing(&format!("/runs/{}:cancel", id(run))).await;
        api.get(&format!("/runs/{}?wait=30s", id(run))).await;
    }
    let messages = labelled.until("RunCancelled").await;
    assert_eq!(messages[0].event_type, "RunCancelRequested");
    assert!(messages.iter().all(|message| message.run_id.as_str() == id(&ours)));
    let ended = [both.next().await.unwrap(), both.next().await.unwrap()];
    assert_eq!(ended.each_ref().map(|m| m.run_id.to_string()), [id(&theirs), id(&ours)]);
    assert!(seqs(&ended).is_sorted());
    let asked = [cancelling.next().await.unwrap(), cancelling.next().await.unwrap()];
    assert!(asked.iter().all(|message| message.event_type == "RunCancelRequested"));

    // Each event of the past has one status, and all together are all events.
    let head = api.get("/ledger/head").await.body["size"].as_u64().unwrap();
    let all = past(&api, "", head).await;
    let mut found = vec![];
    for status in RunStatus::ALL {
        found.extend(past(&api, &format!("&status={}", status.as_str()), head).await);
    }
    found.sort_by_key(|message| message.seq);
    assert_eq!(found, all);
    api.stop().await;
}

/// What a filter takes of the events before `head`: links for the others say when it is over.
async fn past(api: &Api, filter: &str, head: u64) -> Vec<StreamMessage> {
    let mut client = Client::connect(api, &format!("?fromSeq=0&chain=true{filter}")).await;
    let mut taken = vec![];
    for seq in 0..head {
        let item = client.next_item().await.unwrap();
        assert_eq!(item.seq(), seq);
        if let StreamItem::Event(message) = item {
            taken.push(*message);
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_can_be_checked_whatever_the_filter_leaves_out() {
    let api = Api::start().await;
    api.register(ECHO).await;
    for n in 0..3 {
        api.finished("echo", &json!({"n": n})).await;
    }
    let head = api.get("/ledger/head").await.body;
    let mut client = Client::connect(&api, "?fromSeq=0&type=StepSucceeded&chain=true").await;
    let (mut prev, mut events) = ("0".repeat(64), 0);
    for seq in 0..head["size"].as_u64().unwrap() {
        let item = client.next_item().await.unwrap();
        let (hash, header) = match &item {
            StreamItem::Event(message) => {
                events += 1;
                let data = hash::data_hash(message.data.as_str()).to_string();
                assert_eq!(message.header.to_value()["dataHash"], data);
                let salt = message.salt.as_ref().unwrap().parse().unwrap();
                let payload = message.payload.as_ref().unwrap();
                let payload = hash::payload_hash(&salt, payload.as_str()).to_string();
                assert_eq!(message.header.to_value()["payloadHash"], payload);
                (&message.hash, &message.header)
            }
            StreamItem::Link(link) => (&link.hash, &link.header),
        };
        assert_eq!(header.to_value()["seq"], seq);
        assert_eq!(header.to_value()["prev"], prev);
        assert_eq!(hash::event_hash(header.as_str()).to_string(), *hash);
        prev.clone_from(hash);
    }
    assert_eq!((events, json!(prev)), (3, head["hash"].clone()));

    let mut sent = ServerSent::connect(&api, "?fromSeq=0&chain=true", None).await;
    let first = sent.next_sent().await.unwrap();
    assert_eq!((first.id, &*first.name), (Some(0), "link"));
    api.stop().await;
}
