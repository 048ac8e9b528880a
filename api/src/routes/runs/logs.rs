//! `GET /runs/{runId}/logs/{stepId}`: what a step's plugin wrote about its work.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use stella_domain::ids::{RunId, StepId};
use stella_projections::StepState;
use utoipa::IntoParams;

use crate::{
    auth::Caller, extract::Params, extract::Segment, openapi::NoLog, problem::ApiError,
    state::AppState,
};

/// Bytes of a log that is being written which one answer has at most.
const PIECE: usize = 1024 * 1024;

const ATTEMPT: HeaderName = HeaderName::from_static("log-attempt");
const SIZE: HeaderName = HeaderName::from_static("log-size");
const COMPLETE: HeaderName = HeaderName::from_static("log-complete");
const DIGEST: HeaderName = HeaderName::from_static("log-digest");

/// Which part of which log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// The attempt, from 1; the newest otherwise.
    attempt: Option<u32>,
    /// Bytes to leave out at the beginning.
    #[serde(default)]
    #[param(default = 0)]
    offset: u64,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
}

/// What is known of a log.
struct Log {
    attempt: u32,
    /// From `offset` on.
    bytes: Bytes,
    size: u64,
    /// The attempt is over: nothing is added any more.
    is_complete: bool,
    digest: Option<String>,
}

/// Read a step's log, as bytes.
///
/// Of a step that runs, what it wrote so far, up to 1 MiB: `Log-Complete: false` says that there may be
/// more, from `Log-Size` on. The log of a step that another server of the same ledger has leased is
/// there once its attempt is over. A finished log is checked against its digest in the ledger.
#[utoipa::path(get, path = "/runs/{runId}/logs/{stepId}", tag = "runs",
    params(("runId" = String, Path, description = "The run."),
        ("stepId" = String, Path, description = "The step."), LogParams),
    responses(
        (status = 200, description = "The log.", body = String, content_type = "text/plain",
            headers(("Log-Attempt" = u32, description = "The attempt."),
                ("Log-Size" = u64, description = "Bytes that the log has, so far."),
                ("Log-Complete" = bool, description = "Nothing is added any more."),
                ("Log-Digest" = String, description = "Its digest in the ledger, once complete."))),
        NoLog))]
pub(crate) async fn get_log(
    State(app): State<AppState>,
    caller: Caller,
    Segment((run_id, step_id)): Segment<(RunId, StepId)>,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    super::reach(&app, &caller.tenant, params.min_seq).await?;
    super::row(&app, &caller.tenant, &run_id).await?;
    let log = find(&app, &caller, &run_id, &step_id, &params).await?;
    let mut response = Bytes::into_response(log.bytes);
    let headers = response.headers_mut();
    // Bytes of anybody's program: no browser is to make something of them.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(ATTEMPT, log.attempt.into());
    headers.insert(SIZE, log.size.into());
    let is_complete = if log.is_complete { "true" } else { "false" };
    headers.insert(COMPLETE, HeaderValue::from_static(is_complete));
    // Hex digits, so this is always a header value.
    if let Some(Ok(digest)) = log.digest.map(HeaderValue::try_from) {
        headers.insert(DIGEST, digest);
    }
    Ok(response)
}

async fn find(
    app: &AppState,
    caller: &Caller,
    run_id: &RunId,
    step_id: &StepId,
    params: &LogParams,
) -> Result<Log, ApiError> {
    let row = app.projections.step(&caller.tenant, run_id, step_id).await?;
    let row = row.ok_or_else(|| ApiError::step_not_found(run_id, step_id.as_str()))?;
    let attempt = params.attempt.unwrap_or(row.attempt);
    if attempt > row.attempt || attempt == 0 {
        let which = format!("{step_id} with an attempt {attempt}");
        return Err(ApiError::step_not_found(run_id, &which));
    }
    let is_running = attempt == row.attempt && row.phase == StepState::Running;
    if let Some(token) = row.token().filter(|_| is_running) {
        let (live, offset) = (app.artifacts.live.clone(), params.offset);
        let read = tokio::task::spawn_blocking(move || live.read(&token, offset, PIECE)).await;
        let part = read.map_err(|_| ApiError::panicked())?;
        let part = part.map_err(stella_artifacts::ArtifactError::File)?;
        let (bytes, size) =
            part.map_or((Bytes::new(), offset), |part| (part.bytes.into(), part.size));
        return Ok(Log { attempt, bytes, size, is_complete: false, digest: None });
    }
    let over = attempt < row.attempt || row.phase != StepState::Queued;
    let left = row.logs.iter().find(|log| log.attempt == attempt);
    let Some(left) = left else {
        return Ok(Log { attempt, bytes: Bytes::new(), size: 0, is_complete: over, digest: None });
    };
    let commands = app.record().ok().map(|record| record.commands);
    let stored = app.artifacts.get(commands.as_ref(), run_id, &left.log.digest).await?;
    let whole = stored.whole().await?;
    let from = usize::try_from(params.offset).unwrap_or(usize::MAX).min(whole.len());
    Ok(Log {
        attempt,
        bytes: whole.slice(from..),
        size: left.log.size,
        is_complete: true,
        digest: Some(left.log.digest.to_string()),
    })
}
