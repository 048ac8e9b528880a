//! `GET /runs/stream`: the events of runs as they are recorded, over a WebSocket or as Server-Sent
//! Events.
//!
//! A client that reads slowly is caught up from the ledger and holds nobody back: what is kept for
//! it is a place in the ledger and what was fetched last, however far it is behind.

mod filter;
mod server_sent;
mod socket;
mod source;

use std::time::Duration;

use axum::{
    extract::{
        FromRequestParts, State,
        ws::{WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, header, request::Parts},
    response::Response,
};
use serde::Deserialize;
use stella_domain::{
    aggregate::RunStatus,
    ids::{DagId, RunId},
};
use utoipa::IntoParams;

use self::{filter::StreamFilter, source::Source};
use crate::{
    app::Record,
    auth::Caller,
    extract::{Label, Params},
    openapi::UpgradeRequired,
    problem::ApiError,
    state::AppState,
    types::{RunStatusName, StreamMessage},
};

/// How often something goes out, so that both sides notice when the other is gone.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(15);
/// Largest message that a client may send; none means anything.
const CLIENT_MESSAGE_BYTES: usize = 4 * 1024;
/// With which a client says, when it connects again, what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// Which events, and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamParams {
    /// Of this run.
    #[param(value_type = Option<String>)]
    run_id: Option<RunId>,
    /// Of this DAG's runs.
    #[param(value_type = Option<String>)]
    dag_id: Option<DagId>,
    /// Of runs with this label: `name=value`. A run whose payloads were erased has none.
    #[param(value_type = Option<String>, example = "team=search")]
    label: Option<Label>,
    /// After which the run stands so; events that were recorded at once count together.
    #[param(value_type = Option<RunStatusName>)]
    status: Option<RunStatus>,
    /// Of this type, such as `RunFailed`.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// From this seq on; from now on otherwise.
    from_seq: Option<u64>,
    /// Also send a `StreamLink` for every event of the ledger that the filter leaves out, so that
    /// the whole chain can be checked.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    chain: bool,
}

/// How the events are to come.
pub(crate) enum Transport {
    /// Over a WebSocket.
    Socket(WebSocketUpgrade),
    /// As Server-Sent Events, after the one that the client saw last.
    ServerSent {
        /// What it calls `Last-Event-ID`.
        seen: Option<u64>,
    },
}

impl FromRequestParts<AppState> for Transport {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if accepts_events(&parts.headers) && !parts.headers.contains_key(header::UPGRADE) {
            return Ok(Self::ServerSent { seen: last_event_id(&parts.headers)? });
        }
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        upgrade.map(Self::Socket).map_err(|e| ApiError::upgrade_required(&e.body_text()))
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let media_type = range.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

/// An empty one means that nothing was seen.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(seq) => Ok(Some(seq)),
        None => {
            let detail = format!("Last-Event-ID is the seq that was seen last; found {value:?}");
            Err(ApiError::bad_request("INVALID_LAST_EVENT_ID", detail))
        }
    }
}

/// Follow the events of runs, over a WebSocket or as Server-Sent Events.
///
/// One message an event, by seq, with no gap and no repeat. Who reads slowly is caught up from the
/// ledger; who takes nothing for 5 minutes is disconnected. After a break, reconnect with `fromSeq`
/// one higher than the last message's.
///
/// Over a WebSocket each message is a text. The server pings; it closes with 1001 when it stops,
/// with 1008 when the client neither reads nor answers for 5 minutes, and with 1011 and a `code`
/// when the ledger cannot be read.
///
/// With `Accept: text/event-stream` each message is the data of an event whose `id` is its seq, so
/// that a client which reconnects with `Last-Event-ID` goes on where it was; a `StreamLink` has the
/// event name `link`. An `id` by itself every 15 s says how far the server has looked. When the
/// ledger cannot be read, an event named `end` has the problem's `code`.
#[utoipa::path(get, path = "/runs/stream", tag = "runs",
    params(StreamParams, ("Last-Event-ID" = Option<u64>, Header, description = "The seq that was \
        seen last; goes before `fromSeq`. Server-Sent Events only.")),
    responses((status = 101, description = "Messages follow, each a `StreamMessage`.",
            body = StreamMessage),
        (status = 200, description = "Events follow, each a `StreamMessage`.", body = String,
            content_type = "text/event-stream"),
        UpgradeRequired))]
pub(crate) async fn stream_runs(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<StreamParams>,
    transport: Transport,
) -> Result<Response, ApiError> {
    let Record { ledger, feed, .. } = app.record()?;
    let seen = match &transport {
        Transport::Socket(_) => None,
        Transport::ServerSent { seen } => *seen,
    };
    let from_seq = match seen.map(|seq| seq.saturating_add(1)).or(params.from_seq) {
        Some(seq) => seq,
        None => ledger.head(&caller.tenant).await?.next_seq,
    };
    let (follower, chain) = (feed.follow(&caller.tenant, from_seq), params.chain);
    let filter = StreamFilter::new(ledger, caller.tenant, params);
    let (source, closing) = (Source::new(follower, from_seq, filter, chain), app.closing());
    Ok(match transport {
        Transport::ServerSent { .. } => server_sent::response(source, closing),
        Transport::Socket(upgrade) => upgrade
            .max_message_size(CLIENT_MESSAGE_BYTES)
            .on_upgrade(async move |socket: WebSocket| socket::run(source, closing, socket).await),
    })
}
