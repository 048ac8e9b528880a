//! What comes with a request, checked on its way in.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use stella_domain::{json::parse_i_json, time::Timestamp};

use crate::{
    problem::ApiError,
    state::AppState,
    types::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE},
};

/// Bytes of a request's body at most.
pub(crate) const BODY_BYTES: usize = 1024 * 1024;
/// Bytes beyond that which are read and dropped, so that a client gets to read why: closing a
/// connection with bytes unread would take the answer away.
const DISCARDED_BYTES: usize = 8 * BODY_BYTES;
/// How long a body may take to arrive.
const BODY_ARRIVES: Duration = Duration::from_secs(10);
/// Longest `wait`, in seconds.
const WAIT_MAX_S: u64 = 60;

/// The body, whole, if it is not too large.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let collected = tokio::time::timeout(BODY_ARRIVES, collect(body)).await;
    collected.unwrap_or_else(|_| Err(ApiError::body_too_slow()))
}

async fn collect(body: Body) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let (mut whole, mut seen) = (BytesMut::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| ApiError::bad_request("BODY_INCOMPLETE", e))?;
        seen += chunk.len();
        if seen <= BODY_BYTES {
            whole.extend_from_slice(&chunk);
        }
        if seen > BODY_BYTES + DISCARDED_BYTES {
            break;
        }
    }
    if seen > BODY_BYTES {
        Err(ApiError::body_too_large(BODY_BYTES as u64))
    } else {
        Ok(whole.freeze())
    }
}

/// The body's media type without its parameters, lower case; empty when none is given.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A body's text, which has to be UTF-8.
pub(crate) fn utf8(bytes: &Bytes) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes).map_err(|e| {
        let detail = format!("the body is not UTF-8 at byte {}", e.valid_up_to());
        ApiError::bad_request("MALFORMED_TEXT", detail)
    })
}

/// A JSON body, through the door for I-JSON.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        let is_json = media_type(request.headers()) == "application/json";
        if !is_json {
            return Err(ApiError::media_type("application/json"));
        }
        let bytes = read_body(request.into_body()).await?;
        Ok(Self(parse_json(&bytes)?))
    }
}

/// A JSON body that may be left out.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        let is_json = media_type(request.headers()) == "application/json";
        let bytes = read_body(request.into_body()).await?;
        match (bytes.is_empty(), is_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => Ok(Self(parse_json(&bytes)?)),
            (false, false) => Err(ApiError::media_type("application/json")),
        }
    }
}

/// For what takes no body: nothing, or an object without members, passes.
pub(crate) struct NoBody;

/// What [`NoBody`] lets pass.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoMembers {}

impl FromRequest<AppState> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let OptionalJson(NoMembers {}) = OptionalJson::from_request(request, app).await?;
        Ok(Self)
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    let text = utf8(bytes)?;
    parse_i_json(text).map_err(|e| ApiError::bad_request("MALFORMED_JSON", e))?;
    // Read from the text once more, not from the value: an error then names line and column.
    serde_json::from_str(text).map_err(|e| ApiError::bad_request("INVALID_BODY", e))
}

/// What stands in the path.
pub(crate) struct Segment<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Segment<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::bad_request("INVALID_PATH", e.body_text()))?;
        Ok(Self(value))
    }
}

/// What stands in the query.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let Query(value) = Query::try_from_uri(&parts.uri)
            .map_err(|e| ApiError::bad_request("INVALID_QUERY", e.body_text()))?;
        Ok(Self(value))
    }
}

/// How long to wait: `1s` to `60s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(pub(crate) Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let seconds = text.strip_suffix('s').and_then(|n| n.parse().ok());
        match seconds.filter(|n| (1..=WAIT_MAX_S).contains(n)) {
            Some(n) => Ok(Self(Duration::from_secs(n))),
            None => Err(D::Error::custom(format_args!(
                "wait is whole seconds from 1s to {WAIT_MAX_S}s, such as 10s; found {text:?}"
            ))),
        }
    }
}

/// A point in time as people write it: any RFC 3339 text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct When(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Timestamp::parse_lenient(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A label that a run has to have: `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.split_once('=') {
            Some((name, value)) => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            None => Err(D::Error::custom(format_args!(
                "a label is written as name=value; found {text:?}"
            ))),
        }
    }
}

/// How many items a page holds, 1 to 500.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize(pub(crate) u32);

impl PageSize {
    pub(crate) const MAX: Self = Self(MAX_PAGE_SIZE);
}

impl Default for PageSize {
    fn default() -> Self {
        Self(DEFAULT_PAGE_SIZE)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.parse().ok().filter(|n| (1..=MAX_PAGE_SIZE).contains(n)) {
            Some(n) => Ok(Self(n)),
            None => Err(D::Error::custom(format_args!(
                "pageSize is a number from 1 to {MAX_PAGE_SIZE}; found {text:?}"
            ))),
        }
    }
}
