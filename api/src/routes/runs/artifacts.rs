//! What of a run is too large for its events.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::Value;
use stella_domain::{
    artifact::{self, ArtifactDigest, Named},
    chain::Commit,
    ids::{RunId, StreamId},
    limits::COMMIT_EVENTS,
};
use utoipa::IntoParams;

use super::goes_on;
use crate::{
    auth::Caller,
    extract::{PageSize, Params, Segment},
    openapi::{NoArtifact, RunNotFound},
    page::PageToken,
    problem::ApiError,
    state::AppState,
    types::{NamedArtifact, Page},
};

/// Commits that are looked through for one page at most.
const COMMITS: usize = COMMIT_EVENTS;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArtifactsParams {
    /// Artifacts on a page, 1 to 500; those of one event stay together.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// List the artifacts that a run's events name, by seq: large inputs and outputs, files, logs.
///
/// A page may be empty and have a successor: the events are looked through piece by piece.
#[utoipa::path(get, path = "/runs/{runId}/artifacts", tag = "runs",
    params(("runId" = String, Path, description = "The run."), ArtifactsParams),
    responses((status = 200, description = "A page of artifacts.", body = Page<NamedArtifact>),
        RunNotFound))]
pub(crate) async fn list_artifacts(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<ArtifactsParams>,
) -> Result<Json<Page<NamedArtifact>>, ApiError> {
    let (ledger, stream) = (app.record()?.ledger, StreamId::Run(run_id.clone()));
    // The token is the stream version of the last event that was looked at.
    let after = params.page_token.map_or(0, |token| token.0);
    let commits =
        ledger.read_stream(&caller.tenant, &stream, after.saturating_add(1), COMMITS).await?;
    if commits.is_empty() && after == 0 {
        return Err(ApiError::run_not_found(&run_id));
    }
    let mut may_have_more = goes_on(&*ledger, &caller.tenant, &stream, &commits, COMMITS).await?;
    let (mut items, mut last) = (vec![], after);
    'looked_through: for commit in &commits {
        for i in 0..commit.events.len() {
            let version = commit.stream_version + i as u64;
            if version <= after {
                continue;
            }
            if items.len() >= params.page_size.0 as usize {
                may_have_more = true;
                break 'looked_through;
            }
            items.extend(named(commit, i));
            last = version;
        }
    }
    Ok(Json(Page::with_next(items, may_have_more.then_some(last))))
}

/// The artifacts that event `i` of a commit names.
fn named(commit: &Commit, i: usize) -> Vec<NamedArtifact> {
    let event = &commit.events[i];
    let Some(payload) = event.payload.json() else { return vec![] };
    let found = artifact::named_in_payload(payload);
    if found.is_empty() {
        return vec![];
    }
    let data = event.data.to_value();
    let step_id = data.get("stepId").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let attempt = data.get("attempt").and_then(Value::as_u64).and_then(|n| n.try_into().ok());
    // Data of `RunCreated` has an attempt too: that of the run.
    let attempt = attempt.filter(|_| step_id.is_some());
    let artifact = |Named { kind, pointer, artifact }| NamedArtifact {
        seq: commit.seq + i as u64,
        event_type: event.event_type.to_string(),
        step_id: step_id.clone(),
        attempt,
        kind: kind.into(),
        pointer,
        artifact: artifact.into(),
    };
    found.into_iter().map(artifact).collect()
}

/// Artifacts of up to so many bytes are checked before anything of them is sent: as large as values get.
const CHECKED_FIRST: u64 = 1024 * 1024;

/// Get the bytes of an artifact.
///
/// They are checked against the digest: up to 1 MiB before they are sent, larger ones as they are sent, where
/// a transfer that breaks off at its end says that they are not what was recorded.
#[utoipa::path(get, path = "/runs/{runId}/artifacts/{digest}", tag = "runs",
    params(("runId" = String, Path, description = "The run."),
        ("digest" = String, Path, description = "`b3:` and 64 hex digits.")),
    responses(
        (status = 200, description = "Its bytes.", body = Vec<u8>,
            content_type = "application/octet-stream"),
        NoArtifact))]
pub(crate) async fn get_artifact(
    State(app): State<AppState>,
    _: Caller,
    Segment((run_id, digest)): Segment<(RunId, String)>,
) -> Result<Response, ApiError> {
    let digest: ArtifactDigest =
        digest.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    let commands = app.record().ok().map(|record| record.commands);
    let stored = app.artifacts.get(commands.as_ref(), &run_id, &digest).await?;
    let headers = [
        // Whatever they are: bytes of anybody's program, of which no browser is to make something.
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_LENGTH, stored.size.into()),
    ];
    let body = if stored.size <= CHECKED_FIRST {
        Body::from(stored.whole().await?)
    } else {
        Body::from_stream(stored.bytes)
    };
    Ok((headers, body).into_response())
}
