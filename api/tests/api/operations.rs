//! Health, the queue, and the care of projections.

use reqwest::Method;
use serde_json::json;
use stella_api::types::{
    CheckReport, Health, HealthStatus, ProjectionStatus, QueueView, RebuildReport,
};

use crate::support::{Api, ECHO};

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted() {
    let api = Api::without_worker().await;
    api.register(ECHO).await;
    let mut seq = json!(0);
    for _ in 0..3 {
        seq = api.post("/runs", &json!({"dagId": "echo"})).await.body["seq"].clone();
    }
    api.get(&format!("/runs?minSeq={seq}")).await;
    let queue: QueueView = serde_json::from_value(api.get("/queue").await.body).unwrap();
    assert_eq!((queue.total.queued, queue.total.running), (3, 0));
    assert!(queue.total.oldest_age_ms.is_some() && queue.total.oldest_queued_at.is_some());
    assert_eq!(queue.by_dag[0].dag_id.as_str(), "echo");
    assert_eq!(queue.by_dag[0].depth.queued, 3);
    assert_eq!(queue.by_plugin[0].plugin.as_str(), "core");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_are_checked_and_rebuilt_while_serving() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = api.finished("echo", &json!({})).await;
    let runs = api.get(&format!("/runs?minSeq={}", run["seq"])).await.body;
    let report = api.post_nothing("/admin/projections:check").await.body;
    let report: CheckReport = serde_json::from_value(report).unwrap();
    assert!(report.identical && report.models.len() > 3, "{report:?}");
    let rebuilt = api.post_nothing("/admin/projections:rebuild").await.body;
    let rebuilt: RebuildReport = serde_json::from_value(rebuilt).unwrap();
    assert_eq!((rebuilt.position, rebuilt.diverged), (report.position, vec![]));
    assert_eq!(api.get("/runs").await.body, runs);
    let status = api.get("/admin/projections").await.body;
    let status: ProjectionStatus = serde_json::from_value(status).unwrap();
    assert_eq!((status.position, status.lag), (rebuilt.position, 0));
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_well_is_green() {
    let api = Api::start().await;
    let health: Health = serde_json::from_value(api.get("/admin/health").await.body).unwrap();
    assert_eq!(health.status, HealthStatus::Green, "{health:?}");
    let names: Vec<_> = health.components.iter().map(|part| part.name.as_str()).collect();
    let parts = [
        "ledger",
        "checkpoints",
        "clock",
        "artifacts",
        "projections",
        "queue",
        "workers",
        "schedulers",
    ];
    assert_eq!(names, parts);
    let ready = api.bare(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!((ready.status().as_u16(), ready.text().await.unwrap().trim()), (200, "ok"));
    api.stop().await;
}
