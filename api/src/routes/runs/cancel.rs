//! `POST /runs/{runId}:<verb>`: what can be done to a run. The router takes no suffix after a
//! parameter, so that one handler takes the whole segment and splits it at the last `:`.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
};
use stella_domain::ids::RunId;

use crate::{
    auth::Caller,
    extract::{OptionalJson, Segment},
    openapi::RunNotFound,
    problem::ApiError,
    state::AppState,
    types::{ReasonBody, StartedRun},
};

/// Find the verb's handler.
pub(crate) async fn run_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment(segment): Segment<String>,
    request: Request,
) -> Result<Json<StartedRun>, ApiError> {
    let path = request.uri().path();
    let Some((run_id, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", path));
    };
    let run_id = run_id.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    match verb {
        "cancel" => {
            let body = OptionalJson::from_request(request, &app).await?;
            cancel_run(app, caller, run_id, body).await
        }
        "rerun" => {
            let body = OptionalJson::from_request(request, &app).await?;
            super::rerun::rerun_run(app, caller, run_id, body).await
        }
        _ => Err(ApiError::no_route(path)),
    }
}

/// Ask a run to end.
///
/// Best effort and idempotent: steps that run are told to stop, nothing new starts, and a run that
/// has ended is left as it is. The answer says where the run stands now.
#[utoipa::path(post, path = "/runs/{runId}:cancel", tag = "runs",
    params(("runId" = String, Path, description = "The run.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The run.", body = StartedRun),
        RunNotFound))]
async fn cancel_run(
    app: AppState,
    caller: Caller,
    run_id: RunId,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<StartedRun>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let written = commands.cancel_run(&tenant, &actor, &run_id, body.reason).await?;
    StartedRun::of(written, None).map(Json)
}
