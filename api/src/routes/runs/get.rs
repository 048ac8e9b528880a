//! `GET /runs/{runId}`: where a run stands, or stood.

use std::time::Instant;

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::{RunId, Tenant};
use utoipa::IntoParams;

use super::fold;
use crate::{
    app::Record,
    auth::Caller,
    extract::{Params, Segment, Wait},
    openapi::RunNotFound,
    problem::ApiError,
    state::AppState,
    types::RunView,
};

/// Which state of the run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetParams {
    /// Answer when the run has ended, or after this long, `1s` to `60s`: look at `status`.
    #[param(value_type = Option<String>, example = "10s")]
    wait: Option<Wait>,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// The run as it stood after this event of the ledger; not together with the others.
    as_of: Option<u64>,
}

/// Where a run stands.
#[utoipa::path(get, path = "/runs/{runId}", tag = "runs",
    params(("runId" = String, Path, description = "The run."), GetParams),
    responses((status = 200, description = "The run.", body = RunView), RunNotFound))]
pub(crate) async fn get_run(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<GetParams>,
) -> Result<Json<RunView>, ApiError> {
    if let Some(seq) = params.as_of {
        if params.wait.is_some() || params.min_seq.is_some() {
            let detail = "asOf names a state that is past: leave out wait and minSeq";
            return Err(ApiError::bad_request("INVALID_QUERY", detail));
        }
        return fold::run_at(&app, &caller.tenant, &run_id, seq).await.map(Json);
    }
    let min_seq = params.min_seq;
    match params.wait {
        None => {
            super::reach(&app, &caller.tenant, min_seq).await?;
            Ok(Json(super::row(&app, &caller.tenant, &run_id).await?.into()))
        }
        Some(wait) => ended(&app, &caller.tenant, &run_id, min_seq, wait).await.map(Json),
    }
}

async fn ended(
    app: &AppState,
    tenant: &Tenant,
    run_id: &RunId,
    min_seq: Option<u64>,
    wait: Wait,
) -> Result<RunView, ApiError> {
    let deadline = Instant::now() + wait.0;
    let Some(record) = record_or_row(app, tenant, run_id, wait).await? else {
        return Ok(super::row(app, tenant, run_id).await?.into());
    };
    // Before looking, so that no end is missed.
    let end = record.commands.run_end(tenant, run_id);
    super::reach(app, tenant, min_seq).await?;
    // An end from before that is not folded yet would be waited for in vain.
    super::catch_up(app, tenant).await?;
    let row = super::row(app, tenant, run_id).await?;
    if row.status.is_ended() {
        return Ok(row.into());
    }
    let end = super::ended(app, end, deadline.saturating_duration_since(Instant::now())).await;
    super::reach(app, tenant, end.map(|end| end.seq)).await?;
    Ok(super::row(app, tenant, run_id).await?.into())
}

/// The record, through which ends are heard of. `None` when there is no way to it in time, or when
/// nothing is left to be heard: the row says all there is then.
async fn record_or_row(
    app: &AppState,
    tenant: &Tenant,
    run_id: &RunId,
    wait: Wait,
) -> Result<Option<Record>, ApiError> {
    if let Ok(record) = app.record() {
        return Ok(Some(record));
    }
    let row = super::row(app, tenant, run_id).await?;
    if row.status.is_ended() {
        return Ok(None);
    }
    tokio::select! {
        record = app.record_within(wait.0) => Ok(record.ok()),
        () = app.closing().cancelled_owned() => Ok(None),
    }
}
