//! A DAG's budget of starts does not begin anew with its server.

use harness::server::{On, TestServer};
use rstest::rstest;
use serde_json::{Value, json};

async fn start(server: &TestServer) -> (u16, Value) {
    let answer = server.client.post("/runs", &json!({"dagId": "careful"})).await;
    (answer.status, answer.json())
}

async fn assert_spent(server: &TestServer) {
    let (status, problem) = start(server).await;
    assert_eq!((status, &problem["code"]), (409, &json!("DAG_PAUSED")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("has started 3 runs in 86400 seconds"), "{detail}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_before_a_restart_counts_until_somebody_resumes_the_dag(
    #[values(On::Sqlite, On::MongoDb)] on: On,
) {
    let mut server = TestServer::on(on).await.start().await;
    let step = json!({"id": "a", "plugin": "core", "action": "noop"});
    let spec = json!({"id": "careful", "budget": {"starts": 3, "window": "1d"}, "steps": [step]});
    server.client.register(&spec).await;
    for _ in 0..2 {
        assert_eq!(start(&server).await.0, 201);
    }
    server.stop().await;
    server.restart().await;
    assert_eq!(start(&server).await.0, 201);
    assert_spent(&server).await;
    server.restart().await;
    server.client.post("/dags/careful:resume", &json!({"reason": "seen"})).await.ok();
    assert_eq!(start(&server).await.0, 201);
    server.restart().await;
    for _ in 0..2 {
        assert_eq!(start(&server).await.0, 201, "one since it was resumed");
    }
    assert_spent(&server).await;
}
