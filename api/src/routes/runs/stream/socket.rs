//! A stream over a WebSocket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures::SinkExt as _;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::{SIGN_OF_LIFE_EVERY, Source};
use crate::types::StreamItem;

/// How long a client may neither answer a ping nor take what waits for it. Pings stand behind
/// everything that was sent before them: a slow reader answers late.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// A message that took longer than this to send had to wait until the client took something.
const HAD_TO_WAIT: Duration = Duration::from_secs(1);
/// How long the closing handshake may take.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// Why a stream ends.
enum End {
    /// The client is gone, or said so.
    Client,
    /// The client is told why.
    Close(u16, &'static str),
}

/// Send what there is until one side ends it.
pub(super) async fn run(source: Source, closing: CancellationToken, mut socket: WebSocket) {
    let stopping = closing.clone();
    let ended = tokio::select! {
        // First, so that a client that takes nothing does not hold up the server's end.
        biased;
        () = stopping.cancelled() => End::Close(close_code::AWAY, "the server is stopping"),
        end = follow(source, &mut socket) => end,
    };
    let End::Close(code, reason) = ended else { return };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    let goodbye = async {
        let _ = socket.send(Message::Close(Some(frame))).await;
        // Until the client has answered, so that it gets to read the reason.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    let _ = timeout(CLOSES_WITHIN, goodbye).await;
}

async fn follow(mut source: Source, socket: &mut WebSocket) -> End {
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval(SIGN_OF_LIFE_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let messages = tokio::select! {
            // In this order, so that an answer that is there counts before its absence does.
            biased;
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Client,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > ANSWERS_WITHIN {
                    return End::Close(close_code::POLICY, "the client does not answer");
                }
                vec![Message::Ping(Bytes::new())]
            }
            items = source.next() => match items {
                Ok(items) => items.iter().map(text).collect(),
                Err(e) => return End::Close(close_code::ERROR, e.code()),
            },
        };
        let began = Instant::now();
        if send(socket, messages).await.is_err() {
            return End::Client;
        }
        if began.elapsed() > HAD_TO_WAIT {
            heard = Instant::now();
        }
    }
}

/// Send messages together; those of a commit go out with one write. How long that may take is a
/// matter of the listener, which gives up clients that take nothing.
async fn send(socket: &mut WebSocket, messages: Vec<Message>) -> Result<(), axum::Error> {
    for message in messages {
        socket.feed(message).await?;
    }
    socket.flush().await
}

fn text(item: &StreamItem) -> Message {
    // A struct of strings, integers and JSON text: serialising it cannot fail.
    Message::Text(serde_json::to_string(item).unwrap_or_default().into())
}
