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
    routes::{
        admin, approvals, artifacts, bundle, checkpoints, control, dag_versions, dags, export,
        ledger, metrics, probes, proofs, queue, runs, schedules, slo, warm, workers,
    },
    state::AppState,
};

/// The HTTP API of a node.
pub fn router(app: App) -> Router {
    let (router, document) = documented().split_for_parts();
    // Plain data that derives `Serialize`: this cannot fail.
    let document = serde_json::to_vec(&openapi::complete(document)).unwrap_or_default();
    let document = Bytes::from(document);
    let answer = async move || ([(header::CONTENT_TYPE, "application/json")], document);
    let router = router
        .route("/openapi.json", get(answer))
        .fallback(async |request: Request| ApiError::no_route(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::method_not_allowed(request.method().as_str(), request.uri().path())
        })
        .with_state(AppState::new(app));
    guarded(router)
}

/// What every request passes, whatever its route.
fn guarded(router: Router) -> Router {
    router.layer((
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
        .routes(routes!(runs::rerun::rerun_runs))
        .routes(routes!(runs::get::get_run))
        .route("/runs/{runId}", post(runs::cancel::run_verb))
        .routes(routes!(runs::steps::list_steps))
        .route("/runs/{runId}/steps/{stepId}", post(runs::approval::step_verb))
        .routes(routes!(runs::logs::get_log))
        .routes(routes!(runs::artifacts::list_artifacts))
        .routes(routes!(runs::artifacts::get_artifact))
        .routes(routes!(runs::events::list_events))
        .routes(routes!(runs::receipt::get_receipt))
        .routes(routes!(runs::stream::stream_runs))
        .routes(routes!(runs::compare::compare_runs))
        .routes(routes!(dags::list_dags, dags::register_dag))
        .routes(routes!(dags::validate_dag))
        .routes(routes!(dags::get_dag))
        .route("/dags/{dagId}", post(dag_versions::dag_verb))
        .routes(routes!(dag_versions::list_dag_versions))
        .routes(routes!(dags::get_dag_version))
        .route("/dags/{dagId}/versions/{version}", post(dag_versions::version_verb))
        .routes(routes!(queue::get_queue))
        .routes(routes!(queue::list_waiting))
        .routes(routes!(queue::list_waiting_of_run))
        .routes(routes!(queue::list_workers))
        .routes(routes!(approvals::list_approvals))
        .routes(routes!(control::pause_queue))
        .routes(routes!(control::resume_queue))
        .routes(routes!(control::drain_queue))
        .routes(routes!(control::limit_queue))
        .routes(routes!(schedules::list_schedules, schedules::create_schedule))
        .routes(routes!(schedules::get_schedule))
        .route("/schedules/{scheduleId}", post(schedules::schedule_verb))
        .routes(routes!(control::pause_schedulers))
        .routes(routes!(control::resume_schedulers))
        .routes(routes!(workers::poll_workers))
        .routes(routes!(workers::wait_for_cancellations))
        .routes(routes!(workers::worker_leaves))
        .routes(routes!(warm::warm_workers))
        .route("/leases/{token}", post(workers::lease_verb))
        .routes(routes!(artifacts::append_log))
        .routes(routes!(artifacts::put_artifact))
        .routes(routes!(ledger::ledger_head))
        .routes(routes!(ledger::seal_ledger))
        .routes(routes!(ledger::accept_clock_fault))
        .routes(routes!(ledger::erase_run))
        .routes(routes!(export::export_ledger))
        .routes(routes!(checkpoints::get_checkpoint))
        .routes(routes!(checkpoints::sign_checkpoint))
        .routes(routes!(checkpoints::get_keys))
        .routes(routes!(checkpoints::rotate_key))
        .routes(routes!(proofs::prove_inclusion))
        .routes(routes!(proofs::prove_consistency))
        .routes(routes!(bundle::prove_window))
        .routes(routes!(admin::get_health))
        .routes(routes!(slo::get_slo))
        .routes(routes!(admin::get_projections))
        .routes(routes!(admin::rebuild_projections))
        .routes(routes!(admin::check_projections))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn ask(address: std::net::SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_headers_have_a_limit() {
        let handler = async || -> &'static str { panic!("on purpose") };
        let router = guarded(Router::new().route("/", get(handler)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(crate::serve(listener, router, async {
            let _ = stopped.await;
        }));
        for _ in 0..2 {
            let answer = ask(address, "GET / HTTP/1.1").await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains("\"code\":\"INTERNAL\""), "{answer}");
            assert!(!answer.contains("on purpose"), "{answer}");
        }
        let long = format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(20_000));
        assert!(ask(address, &long).await.starts_with("HTTP/1.1 431 "));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
