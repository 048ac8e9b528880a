//! `GET /ledger/export`: a closed time window as NDJSON.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt as _;
use serde::Deserialize;
use stella_domain::time::Timestamp;
use stella_replay::export::{self, ExportError, Window};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{Params, When},
    openapi::WindowOpen,
    problem::ApiError,
    state::AppState,
};

/// Which window.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportParams {
    /// Events recorded at or after this time (RFC 3339); from the first on otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<When>,
    /// Events recorded before this time (RFC 3339).
    #[param(value_type = String, format = DateTime)]
    to: When,
    /// Go on from this seq of the window, where an earlier export broke off.
    from_seq: Option<u64>,
}

/// Export the events of a time window, one line each.
///
/// The bytes are the same each time, erasures aside. If the transfer breaks off, keep the whole
/// lines and go on with `fromSeq` one higher than the last line's seq.
#[utoipa::path(get, path = "/ledger/export", tag = "ledger", params(ExportParams),
    responses(
        (status = 200, description = "The window's events.", body = String,
            content_type = "application/x-ndjson",
            headers(("Ledger-First-Seq" = u64, description = "`seq` of the window's first event."),
                ("Ledger-End-Seq" = u64, description = "One past the `seq` of its last event."))),
        WindowOpen))]
pub(crate) async fn export_ledger(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let from = params.from.map_or(Timestamp::from_micros(i64::MIN), |from| from.0);
    let ledger = &app.record()?.ledger;
    let window = Window::resolve(ledger.as_ref(), &caller.tenant, from, params.to.0).await?;
    let (first_seq, end_seq) = (window.first_seq, window.end_seq);
    let at = params.from_seq.unwrap_or(first_seq);
    if !(first_seq..=end_seq).contains(&at) {
        return Err(ExportError::ResumeOutside { at, first_seq, end_seq }.into());
    }
    let chunks = export::chunks(Arc::clone(ledger), caller.tenant, window, at)
        .map_ok(|chunk| Bytes::from(chunk.text))
        // The client sees the transfer break off, and can go on from there.
        .inspect_err(|e| tracing::error!(error = %e, "an export broke off"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::HeaderName::from_static("ledger-first-seq"), first_seq.into()),
        (header::HeaderName::from_static("ledger-end-seq"), end_seq.into()),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}
