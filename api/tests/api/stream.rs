//! The stream of events: in order, no gap, no repeat, and resumable.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use stella_api::types::StreamMessage;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::CloseFrame},
};

use crate::support::{Api, ECHO, PREFIX, SLOW};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(api: &Api, query: &str) -> Self {
        let url = format!("ws://{}{PREFIX}/runs/stream{query}", api.address());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", api.bearer().parse().unwrap());
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    /// The next event, or the frame with which the server closes.
    async fn next(&mut self) -> Result<StreamMessage, Option<CloseFrame>> {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
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
