//! All routes, and what every request passes.

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::header,
    middleware,
    routing::{get, post},
};
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    guard,
    openapi::{self, Document, PREFIX, Verbs},
    problem::ApiError,
    routes::{admin, dags, export, ledger, metrics, probes, queue, runs},
    state::AppState,
};

/// The HTTP API of a node.
pub fn router(app: App) -> Router {
    let (router, document) = documented().split_for_parts();
    // Plain data that derives `Serialize`: this cannot fail.
    let document = serde_json::to_vec(&openapi::complete(document)).unwrap_or_default();
    let document = Bytes::from(document);
    let answer = async move || ([(header::CONTENT_TYPE, "application/json")], document);
    router
        .route("/openapi.json", get(answer))
        .fallback(async |request: Request| ApiError::no_route(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::method_not_allowed(request.method().as_str(), request.uri().path())
        })
        .with_state(AppState::new(app))
        .layer((
            // Failures are logged where they become answers.
            TraceLayer::new_for_http().on_failure(()),
            CatchPanicLayer::custom(guard::panicked),
            middleware::from_fn(guard::pass),
        ))
}

/// The OpenAPI 3.1 document of [`router`].
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::complete(documented().into_openapi())
}

fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .nest(PREFIX, resources())
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(metrics::metrics))
}

fn resources() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Verbs::openapi())
        .routes(routes!(runs::list::list_runs, runs::start::start_run))
        .routes(routes!(runs::get::get_run))
        .route("/runs/{runId}", post(runs::cancel::run_verb))
        .routes(routes!(runs::steps::list_steps))
        .routes(routes!(runs::events::list_events))
        .routes(routes!(runs::stream::stream_runs))
        .routes(routes!(dags::list_dags, dags::register_dag))
        .routes(routes!(dags::validate_dag))
        .routes(routes!(dags::get_dag))
        .routes(routes!(dags::get_dag_version))
        .routes(routes!(queue::get_queue))
        .routes(routes!(ledger::ledger_head))
        .routes(routes!(ledger::seal_ledger))
        .routes(routes!(ledger::accept_clock_fault))
        .routes(routes!(export::export_ledger))
        .routes(routes!(admin::get_health))
        .routes(routes!(admin::get_projections))
        .routes(routes!(admin::rebuild_projections))
        .routes(routes!(admin::check_projections))
}
