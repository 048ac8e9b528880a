//! `GET /runs/stream`: the events of runs as they are recorded, over a WebSocket.
//!
//! A client that reads slowly is caught up from the ledger and holds nobody back; one that reads
//! nothing at all is closed.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        FromRequestParts, State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    http::request::Parts,
    response::Response,
};
use bytes::Bytes;
use futures::SinkExt as _;
use serde::Deserialize;
use stella_domain::ids::{DagId, RunId, StreamId};
use stella_ledger::{feed::Follower, recorded::Recorded};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::stream_filter::StreamFilter;
use crate::{
    app::Record, auth::Caller, extract::Params, openapi::UpgradeRequired, problem::ApiError,
    state::AppState, types::StreamMessage,
};

/// Commits fetched at a time.
const BATCH_COMMITS: usize = 64;
/// Largest message that a client may send; none means anything.
const CLIENT_MESSAGE_BYTES: usize = 4 * 1024;
/// How often a client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How long it may take to answer, or to take a message.
const ANSWERS_WITHIN: Duration = Duration::from_secs(45);
/// How long the closing handshake may take.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// Which events, and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamParams {
    /// Of this run.
    #[param(value_type = Option<String>)]
    pub(super) run_id: Option<RunId>,
    /// Of this DAG's runs.
    #[param(value_type = Option<String>)]
    pub(super) dag_id: Option<DagId>,
    /// Of this type, such as `RunFailed`.
    #[serde(rename = "type")]
    pub(super) event_type: Option<String>,
    /// From this seq on; from now on otherwise.
    from_seq: Option<u64>,
}

/// The request to become a WebSocket, or what is wrong with it.
pub(crate) struct Upgrade(WebSocketUpgrade);

impl FromRequestParts<AppState> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        upgrade.map(Self).map_err(|e| ApiError::upgrade_required(&e.body_text()))
    }
}

/// Follow the events of runs, over a WebSocket.
///
/// One text message an event, a `StreamMessage`, by seq, with no gap and no repeat. After a break,
/// reconnect with `fromSeq` one higher than the last message's. The server pings; it closes with
/// 1001 when it stops, with 1008 when the client does not read or answer for 45 s, and with 1011
/// and a `code` when the ledger cannot be read.
#[utoipa::path(get, path = "/runs/stream", tag = "runs", params(StreamParams),
    responses((status = 101, description = "Messages follow, each a `StreamMessage`.",
            body = StreamMessage),
        UpgradeRequired))]
pub(crate) async fn stream_runs(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<StreamParams>,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, ApiError> {
    let Record { ledger, feed, .. } = app.record()?;
    let from_seq = match params.from_seq {
        Some(seq) => seq,
        None => ledger.head(&caller.tenant).await?.next_seq,
    };
    let stream = Stream {
        follower: feed.follow(&caller.tenant, from_seq),
        from_seq,
        filter: StreamFilter::new(ledger, Arc::clone(&app.projections), caller.tenant, params),
        closing: app.closing(),
    };
    let upgrade = upgrade.max_message_size(CLIENT_MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| stream.run(socket).await))
}

struct Stream {
    follower: Follower,
    /// The follower's first commit may begin before it.
    from_seq: u64,
    filter: StreamFilter,
    closing: CancellationToken,
}

/// Why a stream ends.
enum End {
    /// The client is gone, or said so.
    Client,
    /// The client is told why.
    Close(u16, &'static str),
}

impl Stream {
    async fn run(mut self, mut socket: WebSocket) {
        let End::Close(code, reason) = self.follow(&mut socket).await else { return };
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let goodbye = async {
            let _ = socket.send(Message::Close(Some(frame))).await;
            // Until the client has answered, so that it gets to read the reason.
            while let Some(Ok(_)) = socket.recv().await {}
        };
        let _ = timeout(CLOSES_WITHIN, goodbye).await;
    }

    async fn follow(&mut self, socket: &mut WebSocket) -> End {
        let closing = self.closing.clone();
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sent = tokio::select! {
                // In this order, so that an answer that is there counts before its absence does.
                biased;
                () = closing.cancelled() => {
                    return End::Close(close_code::AWAY, "the server is stopping");
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Client,
                    Some(Ok(_)) => {
                        heard = Instant::now();
                        Ok(())
                    }
                },
                _ = ping.tick() => {
                    if heard.elapsed() > ANSWERS_WITHIN {
                        return End::Close(close_code::POLICY, "the client does not answer");
                    }
                    send(socket, [Message::Ping(Bytes::new())]).await
                }
                commits = self.follower.next(BATCH_COMMITS) => match commits {
                    Ok(commits) => self.send_all(socket, &commits).await,
                    Err(e) => Err(End::Close(close_code::ERROR, ApiError::from(e).code())),
                },
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    async fn send_all(
        &mut self,
        socket: &mut WebSocket,
        commits: &[Arc<Recorded>],
    ) -> Result<(), End> {
        for recorded in commits {
            let StreamId::Run(run_id) = &recorded.commit.stream else { continue };
            let wanted = self.filter.takes(run_id, recorded).await;
            if !wanted.map_err(|e| End::Close(close_code::ERROR, e.code()))? {
                continue;
            }
            let messages = (0..recorded.commit.events.len())
                .map(|i| message(run_id, recorded, i))
                .filter(|m| m.seq >= self.from_seq && self.filter.takes_type(&m.event_type))
                // A struct of strings, integers and JSON text: serialising it cannot fail.
                .map(|m| Message::Text(serde_json::to_string(&m).unwrap_or_default().into()));
            send(socket, messages).await?;
        }
        Ok(())
    }
}

/// Send messages together; those of a commit go out with one write.
async fn send(
    socket: &mut WebSocket,
    messages: impl IntoIterator<Item = Message>,
) -> Result<(), End> {
    let sent = async {
        for message in messages {
            socket.feed(message).await?;
        }
        socket.flush().await
    };
    match timeout(ANSWERS_WITHIN, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Client),
        Err(_) => Err(End::Close(close_code::POLICY, "the client does not read")),
    }
}

fn message(run_id: &RunId, recorded: &Recorded, i: usize) -> StreamMessage {
    let (commit, event) = (&recorded.commit, &recorded.commit.events[i]);
    StreamMessage {
        seq: commit.seq + i as u64,
        hash: event.hash.to_string(),
        event_type: event.event_type.to_string(),
        run_id: run_id.clone(),
        stream_version: commit.stream_version + i as u64,
        recorded_at: commit.recorded_at,
        actor: commit.actor.clone(),
        data: event.data.clone(),
        payload: event.payload.json().cloned(),
    }
}
