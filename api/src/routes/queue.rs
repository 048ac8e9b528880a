//! `GET /queue`: what waits for workers.

use axum::{Json, extract::State};
use stella_domain::time::Timestamp;
use stella_projections::QueueDepth;

use crate::{
    auth::Caller,
    problem::ApiError,
    state::AppState,
    types::{DagQueueView, PluginQueueView, QueueDepthView, QueueView},
};

/// How much waits for workers, and for how long: in all, by DAG, by plugin.
#[utoipa::path(get, path = "/queue", tag = "queue",
    responses((status = 200, description = "The queue.", body = QueueView)))]
pub(crate) async fn get_queue(
    State(app): State<AppState>,
    caller: Caller,
) -> Result<Json<QueueView>, ApiError> {
    let report = app.projections.queue(&caller.tenant).await?;
    let now = app.clock.now();
    let by_dag = report.by_dag.into_iter();
    let by_plugin = report.by_plugin.into_iter();
    Ok(Json(QueueView {
        total: view(report.total, now),
        by_dag: by_dag.map(|(dag_id, d)| DagQueueView { dag_id, depth: view(d, now) }).collect(),
        by_plugin: by_plugin
            .map(|(plugin, d)| PluginQueueView { plugin, depth: view(d, now) })
            .collect(),
    }))
}

fn view(depth: QueueDepth, now: Timestamp) -> QueueDepthView {
    QueueDepthView {
        queued: depth.queued,
        running: depth.running,
        backing_off: depth.backing_off,
        oldest_queued_at: depth.oldest_queued_at,
        oldest_age_ms: depth.oldest_queued_at.map(|queued_at| now.ms_since(queued_at)),
    }
}
