//! The ledger as a whole: head, sealing, export.

use reqwest::Method;
use serde_json::{Value, json};
use stella_api::types::{LedgerHead, ReceiptView};

use crate::support::{Api, ECHO};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_window_is_exported_whole_and_in_parts() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.finished("echo", &json!({"n": 1})).await;
    let sealed = api.post("/ledger:seal", &json!({"reason": "audit"})).await;
    assert_eq!(sealed.status, 200, "{sealed:?}");
    let seal: ReceiptView = serde_json::from_value(sealed.body).unwrap();
    let head: LedgerHead = serde_json::from_value(api.get("/ledger/head").await.body).unwrap();
    assert_eq!((head.size, &head.hash), (seal.seq + 1, &seal.hash));
    assert_eq!(head.ledger, "stella.test/acme");

    let path = format!("/ledger/export?to={}", seal.recorded_at);
    let whole = api.get(&path).await;
    assert_eq!(whole.header("content-type"), "application/x-ndjson");
    assert_eq!(whole.header("ledger-end-seq"), seal.seq.to_string());
    let lines: Vec<&str> = whole.text.split_inclusive('\n').collect();
    assert_eq!(lines.len() as u64, seal.seq);
    for (i, line) in lines.iter().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["header"]["seq"], i);
    }
    for from_seq in 0..=seal.seq {
        let rest = api.get(&format!("{path}&fromSeq={from_seq}")).await;
        assert_eq!(rest.text, lines[from_seq as usize..].concat(), "from {from_seq}");
    }
    let accepted = api.post_nothing("/ledger:accept-clock-fault").await;
    assert_eq!(accepted.body["seq"], head.size);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_folds_of_the_ledger() {
    let api = Api::start().await;
    api.register(ECHO).await;
    for n in 0..3 {
        let run = api.finished("echo", &json!({ "n": n })).await;
        api.get(&format!("/runs?minSeq={}", run["seq"])).await;
    }
    let request = api.bare(Method::GET, "/metrics").header("authorization", api.bearer());
    let request = request.header("accept", "application/openmetrics-text");
    let text = request.send().await.unwrap().text().await.unwrap();
    for line in [
        r#"orchestrator_runs_started_total{dag="echo"} 3"#,
        r#"orchestrator_runs_total{dag="echo",status="succeeded"} 3"#,
        r#"orchestrator_run_duration_seconds_count{dag="echo"} 3"#,
        r#"orchestrator_run_duration_seconds_bucket{le="+Inf",dag="echo"} 3"#,
        r#"orchestrator_queue_depth{plugin="core",state="queued"} 0"#,
        "# TYPE orchestrator_step_retries counter",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    api.stop().await;
}
