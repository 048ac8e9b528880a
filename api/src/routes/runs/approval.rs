//! `POST /runs/{runId}/steps/{stepId}:<verb>`: an operator's decision about an approval.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
};
use stella_domain::{
    aggregate::Verdict,
    ids::{RunId, StepId},
};

use crate::{
    auth::Caller,
    extract::{OptionalJson, Segment},
    openapi::NotApproved,
    problem::ApiError,
    state::AppState,
    types::{ReasonBody, StartedRun},
};

/// Find the verb's handler.
pub(crate) async fn step_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment((run_id, segment)): Segment<(RunId, String)>,
    request: Request,
) -> Result<Json<StartedRun>, ApiError> {
    let path = request.uri().path();
    let Some((step_id, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::no_route(path));
    };
    let step_id = step_id.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    match verb {
        "approve" => {
            let body = OptionalJson::from_request(request, &app).await?;
            approve_step(app, caller, run_id, step_id, body).await
        }
        "reject" => {
            let body = OptionalJson::from_request(request, &app).await?;
            reject_step(app, caller, run_id, step_id, body).await
        }
        _ => Err(ApiError::no_route(path)),
    }
}

/// Approve a step that waits for an operator: the run goes on.
///
/// Safe to repeat. Who approved, and why, is recorded.
#[utoipa::path(post, path = "/runs/{runId}/steps/{stepId}:approve", tag = "runs",
    params(("runId" = String, Path, description = "The run."),
        ("stepId" = String, Path, description = "The step.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The run.", body = StartedRun), NotApproved))]
async fn approve_step(
    app: AppState,
    caller: Caller,
    run_id: RunId,
    step_id: StepId,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<StartedRun>, ApiError> {
    decide(app, caller, run_id, step_id, Verdict::Approved, body.reason).await
}

/// Reject a step that waits for an operator: it fails with code `REJECTED`.
///
/// Safe to repeat. Who rejected, and why, is recorded.
#[utoipa::path(post, path = "/runs/{runId}/steps/{stepId}:reject", tag = "runs",
    params(("runId" = String, Path, description = "The run."),
        ("stepId" = String, Path, description = "The step.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The run.", body = StartedRun), NotApproved))]
async fn reject_step(
    app: AppState,
    caller: Caller,
    run_id: RunId,
    step_id: StepId,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<StartedRun>, ApiError> {
    decide(app, caller, run_id, step_id, Verdict::Rejected, body.reason).await
}

async fn decide(
    app: AppState,
    caller: Caller,
    run_id: RunId,
    step_id: StepId,
    verdict: Verdict,
    reason: String,
) -> Result<Json<StartedRun>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let written =
        commands.decide_approval(&tenant, &actor, &run_id, step_id, verdict, reason).await?;
    StartedRun::of(written, None).map(Json)
}
