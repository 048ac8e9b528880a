//! What operators hold back: pausing and resuming dispatch and schedulers, draining, limits.

use axum::{Json, extract::State};
use stella_domain::{aggregate::ControlChange, event::LimitScope};

use crate::{
    auth::Caller,
    extract::{JsonBody, OptionalJson},
    openapi::DrainRefused,
    problem::ApiError,
    state::AppState,
    types::{ChangedControl, DrainBody, LimitBody, QueueBody, ReasonBody},
};

/// Pause dispatch.
///
/// No step is leased any more, or none of one plugin; what runs goes on, and runs are still
/// admitted. Safe to repeat.
#[utoipa::path(post, path = "/queue:pause", tag = "queue",
    request_body(content = Option<QueueBody>),
    responses((status = 200, description = "What is held back.", body = ChangedControl)))]
pub(crate) async fn pause_queue(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<QueueBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    change(app, caller, ControlChange::PauseDispatch { plugin: body.plugin }, body.reason).await
}

/// Resume dispatch.
///
/// Without a plugin this also ends a drain. Plugins that were paused by name stay so. Safe to
/// repeat.
#[utoipa::path(post, path = "/queue:resume", tag = "queue",
    request_body(content = Option<QueueBody>),
    responses((status = 200, description = "What is held back.", body = ChangedControl)))]
pub(crate) async fn resume_queue(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<QueueBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    change(app, caller, ControlChange::ResumeDispatch { plugin: body.plugin }, body.reason).await
}

/// Drain the queue.
///
/// No run is admitted and no schedule fires until every run that there is has ended; what waits
/// goes oldest first, whatever its priority. `DrainEnded` is recorded when nothing is left. Safe to
/// repeat.
#[utoipa::path(post, path = "/queue:drain", tag = "queue",
    request_body(content = Option<DrainBody>),
    responses((status = 200, description = "What is held back.", body = ChangedControl),
        DrainRefused))]
pub(crate) async fn drain_queue(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<DrainBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    let drain = ControlChange::StartDrain { then_pause: body.then_pause };
    change(app, caller, drain, body.reason).await
}

/// Limit how many steps run at once.
///
/// Of the tenant, of a DAG or of a plugin. What runs already goes on. Safe to repeat.
#[utoipa::path(post, path = "/queue:limit", tag = "queue", request_body = LimitBody,
    responses((status = 200, description = "What is held back.", body = ChangedControl)))]
pub(crate) async fn limit_queue(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<LimitBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    let scope = match (body.dag_id, body.plugin) {
        (None, None) => LimitScope::Tenant,
        (Some(dag_id), None) => LimitScope::Dag(dag_id),
        (None, Some(plugin)) => LimitScope::Plugin(plugin),
        (Some(_), Some(_)) => {
            let detail = "a limit is of a DAG or of a plugin: set two limits";
            return Err(ApiError::bad_request("INVALID_BODY", detail));
        }
    };
    change(app, caller, ControlChange::SetLimit { scope, limit: body.limit }, body.reason).await
}

/// Pause all schedulers.
///
/// No schedule fires any more. Safe to repeat.
#[utoipa::path(post, path = "/schedulers:pause", tag = "schedules",
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "What is held back.", body = ChangedControl)))]
pub(crate) async fn pause_schedulers(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    change(app, caller, ControlChange::PauseSchedulers, body.reason).await
}

/// Resume all schedulers.
///
/// What became due meanwhile is treated as each schedule's catch-up policy says. Safe to repeat.
#[utoipa::path(post, path = "/schedulers:resume", tag = "schedules",
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "What is held back.", body = ChangedControl)))]
pub(crate) async fn resume_schedulers(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedControl>, ApiError> {
    change(app, caller, ControlChange::ResumeSchedulers, body.reason).await
}

async fn change(
    app: AppState,
    caller: Caller,
    change: ControlChange,
    reason: String,
) -> Result<Json<ChangedControl>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let (control, receipt) = commands.change_control(&tenant, &actor, change, reason).await?;
    Ok(Json(ChangedControl {
        dispatch_paused: control.dispatch_paused,
        plugins_paused: control.plugins_paused.iter().cloned().collect(),
        schedulers_paused: control.schedulers_paused,
        draining: control.draining.is_some(),
        seq: receipt.map(|receipt| receipt.last_seq),
    }))
}
