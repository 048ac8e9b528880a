//! `/livez` and `/readyz`, for whoever watches the process, without credentials.

use axum::extract::State;

use crate::{health, openapi::NotReady, problem::ApiError, state::AppState, types::HealthStatus};

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "probes", security(()),
    responses((status = 200, description = "`ok`.", body = String, content_type = "text/plain")))]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Requests would be answered as they should: no part of the node is red.
#[utoipa::path(get, path = "/readyz", tag = "probes", security(()),
    responses((status = 200, description = "`ok`.", body = String, content_type = "text/plain"),
        NotReady))]
pub(crate) async fn readyz(State(app): State<AppState>) -> Result<&'static str, ApiError> {
    let health = health::of(&app, &app.tenant).await;
    if health.status < HealthStatus::Red {
        return Ok("ok\n");
    }
    let red = health.components.iter().filter(|part| part.status == HealthStatus::Red);
    // Names only: this answer is for everybody.
    let names: Vec<&str> = red.map(|part| part.name.as_str()).collect();
    Err(ApiError::not_ready(&names.join(", ")))
}
