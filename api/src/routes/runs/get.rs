//! `GET /runs/{runId}`: where a run stands, or stood.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::{RunId, Tenant};
use utoipa::IntoParams;

use super::fold;
use crate::{
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
    // Before looking, so that no end is missed.
    let end = app.commands.run_end(tenant, run_id);
    super::reach(app, tenant, min_seq).await?;
    let row = super::row(app, tenant, run_id).await?;
    if row.status.is_ended() {
        return Ok(row.into());
    }
    let end = super::ended(end, wait.0).await;
    super::reach(app, tenant, end.map(|end| end.seq)).await?;
    Ok(super::row(app, tenant, run_id).await?.into())
}
