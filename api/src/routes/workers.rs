//! Workers in processes of their own, in any language: ask for work by a long poll, keep it alive,
//! report what came of it. A report is decided by the run itself: a stale fencing token is refused.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
    response::{IntoResponse as _, Response},
};
use stella_commands::{
    Poll,
    dispatch::{Grant, Renewal},
};
use stella_domain::{
    aggregate::Outcome,
    ids::{FencingToken, WorkerId},
    plugin::WorkerPlugin,
};

use crate::{
    auth::Caller,
    extract::{JsonBody, Segment},
    openapi::{LeaseNotHeld, ReportRefused},
    problem::ApiError,
    state::AppState,
    types::{
        CancellationsBody, CancellationsView, CompleteBody, FailBody, FailureKind, HeartbeatBody,
        HeartbeatView, LeaseView, LeasesView, LeaveBody, POLL_WAIT_MS, POLLED_LEASES,
        POLLED_PLUGINS, PollBody, PollMore, VerdictView,
    },
};

/// Ask for work.
///
/// Answers as soon as there is some, or when the wait is over. What was granted to a caller that
/// has gone away is granted to somebody else.
#[utoipa::path(post, path = "/workers:poll", tag = "workers",
    request_body = PollBody,
    responses((status = 200, description = "The leases.", body = LeasesView)))]
pub(crate) async fn poll_workers(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<PollBody>,
) -> Result<Json<LeasesView>, ApiError> {
    let wait = wait(body.wait_ms)?;
    let asked_again = app.warmth.asked_again();
    let poll = poll(body.worker_id, body.plugins, body.max, wait)?;
    let commands = app.record()?.commands;
    let closing = app.closing();
    let granted = tokio::select! {
        granted = commands.poll(&caller.tenant, poll) => granted,
        // What it was granted meanwhile is granted again.
        () = closing.cancelled() => vec![],
        () = asked_again => vec![],
    };
    Ok(Json(leases(&app, granted)))
}

/// Wait for steps to be cancelled.
///
/// Answers as soon as steps that this worker holds are, or when the wait is over. Their heartbeats say so
/// as well, later.
#[utoipa::path(post, path = "/workers:cancellations", tag = "workers",
    request_body = CancellationsBody,
    responses((status = 200, description = "The steps.", body = CancellationsView)))]
pub(crate) async fn wait_for_cancellations(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<CancellationsBody>,
) -> Result<Json<CancellationsView>, ApiError> {
    let wait = wait(body.wait_ms)?;
    let commands = app.record()?.commands;
    let closing = app.closing();
    let tokens = tokio::select! {
        // First: what there is already is told without a wait, too.
        biased;
        tokens = commands.cancellations(&caller.tenant, &body.worker_id) => tokens,
        () = closing.cancelled() => vec![],
        () = tokio::time::sleep(wait) => vec![],
    };
    Ok(Json(CancellationsView { tokens }))
}

/// Say that a worker ends.
///
/// It is not counted on any more: what waits for its plugins says so at once. Steps that it still holds it
/// gives back before, or their leases expire. One that asks for work again is there again.
#[utoipa::path(post, path = "/workers:leave", tag = "workers", request_body = LeaveBody,
    responses((status = 200, description = "It has left.", body = LeaveBody)))]
pub(crate) async fn worker_leaves(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<LeaveBody>,
) -> Result<Json<LeaveBody>, ApiError> {
    app.record()?.commands.leave(&caller.tenant, &body.worker_id);
    Ok(Json(body))
}

/// Find the verb's handler.
pub(crate) async fn lease_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment(segment): Segment<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let path = request.uri().path();
    let Some((token, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", path));
    };
    let token = token.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    match verb {
        "heartbeat" => {
            let body = JsonBody::from_request(request, &app).await?;
            Ok(renew_lease(app, caller, token, body).await?.into_response())
        }
        "complete" => {
            let body = JsonBody::from_request(request, &app).await?;
            Ok(complete_lease(app, token, body).await?.into_response())
        }
        "fail" => {
            let body = JsonBody::from_request(request, &app).await?;
            Ok(fail_lease(app, token, body).await?.into_response())
        }
        _ => Err(ApiError::no_route(path)),
    }
}

/// Renew a lease.
///
/// Heartbeats are not recorded. The verdict says whether to go on.
#[utoipa::path(post, path = "/leases/{token}:heartbeat", tag = "workers",
    params(("token" = String, Path, description = "The fencing token.")),
    request_body = HeartbeatBody,
    responses((status = 200, description = "What to do with the step.", body = HeartbeatView)))]
async fn renew_lease(
    app: AppState,
    caller: Caller,
    token: FencingToken,
    JsonBody(body): JsonBody<HeartbeatBody>,
) -> Result<Json<HeartbeatView>, ApiError> {
    let commands = app.record()?.commands;
    let tokens = std::slice::from_ref(&token);
    let renewed = commands.heartbeat(&caller.tenant, &body.worker_id, tokens);
    let verdict = match renewed.first().map(|(_, renewal)| *renewal) {
        Some(Renewal::Renewed) => VerdictView::Continue,
        Some(Renewal::Cancel) => VerdictView::Cancel,
        Some(Renewal::Lost) | None => VerdictView::Lost,
    };
    Ok(Json(HeartbeatView { verdict, warm: app.warmth.asked_at() }))
}

/// Report that a step is done.
///
/// Safe to repeat: the same outputs again are a success that records nothing.
#[utoipa::path(post, path = "/leases/{token}:complete", tag = "workers",
    params(("token" = String, Path, description = "The fencing token.")),
    request_body = CompleteBody,
    responses(
        (status = 200, description = "It is recorded; the leases that were asked for with it.",
            body = LeasesView),
        ReportRefused))]
async fn complete_lease(
    app: AppState,
    token: FencingToken,
    JsonBody(body): JsonBody<CompleteBody>,
) -> Result<Json<LeasesView>, ApiError> {
    if !body.outputs.is_object() {
        return Err(ApiError::bad_request("INVALID_BODY", "outputs is an object"));
    }
    let outcome = Outcome::Succeeded { outputs: body.outputs };
    report(app, token, body.worker_id, outcome, body.and_poll).await
}

/// Report that an attempt did not succeed.
///
/// Safe to repeat. Whether another attempt follows is decided by the DAG.
#[utoipa::path(post, path = "/leases/{token}:fail", tag = "workers",
    params(("token" = String, Path, description = "The fencing token.")),
    request_body = FailBody,
    responses(
        (status = 200, description = "It is recorded; the leases that were asked for with it.",
            body = LeasesView),
        LeaseNotHeld))]
async fn fail_lease(
    app: AppState,
    token: FencingToken,
    JsonBody(body): JsonBody<FailBody>,
) -> Result<Json<LeasesView>, ApiError> {
    let FailBody { worker_id, kind, code, message, retryable, and_poll } = body;
    let outcome = match kind {
        FailureKind::Failed => Outcome::Failed { code, message, retryable },
        FailureKind::TimedOut => Outcome::TimedOut,
        FailureKind::Cancelled => Outcome::Cancelled,
    };
    report(app, token, worker_id, outcome, and_poll).await
}

async fn report(
    app: AppState,
    token: FencingToken,
    worker_id: WorkerId,
    outcome: Outcome,
    and_poll: Option<PollMore>,
) -> Result<Json<LeasesView>, ApiError> {
    let and_poll = and_poll
        .map(|more| poll(worker_id.clone(), more.plugins, more.max, Duration::ZERO))
        .transpose()?;
    let commands = app.record()?.commands;
    let completed =
        app.artifacts.complete(&commands, &worker_id, &token, outcome, and_poll.as_ref()).await?;
    Ok(Json(leases(&app, completed.next)))
}

fn wait(wait_ms: u64) -> Result<Duration, ApiError> {
    if wait_ms > POLL_WAIT_MS {
        let detail = format!("waitMs is at most {POLL_WAIT_MS}: ask again instead");
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    Ok(Duration::from_millis(wait_ms))
}

fn poll(
    worker_id: WorkerId,
    plugins: Vec<WorkerPlugin>,
    max: u32,
    wait: Duration,
) -> Result<Poll, ApiError> {
    let invalid = |detail: String| Err(ApiError::bad_request("INVALID_BODY", detail));
    if plugins.is_empty() || plugins.len() > POLLED_PLUGINS {
        return invalid(format!("plugins names 1 to {POLLED_PLUGINS} plugins"));
    }
    if !(1..=POLLED_LEASES).contains(&max) {
        return invalid(format!("max is 1 to {POLLED_LEASES}"));
    }
    Ok(Poll { worker_id, plugins: Arc::from(plugins), max, wait })
}

fn leases(app: &AppState, granted: Vec<Grant>) -> LeasesView {
    let lease = |grant: Grant| LeaseView {
        run_id: grant.token.run_id.clone(),
        token: grant.token,
        step_id: grant.step_id,
        attempt: grant.attempt,
        dag_id: grant.dag_id,
        plugin: grant.plugin,
        action: grant.action,
        with: grant.with,
        lease_ttl_ms: grant.lease_ms,
        timeout_ms: grant.timeout_ms,
    };
    let leases = granted.into_iter().map(lease).collect();
    LeasesView { leases, warm: app.warmth.asked_at() }
}
