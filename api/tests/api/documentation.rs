//! The OpenAPI document is what the router does.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use stella_domain::aggregate::RunStatus;

use crate::support::{Answer, Api};

fn document() -> Value {
    serde_json::to_value(stella_api::document()).unwrap()
}

/// Review a change with `cargo insta review`, or by setting `INSTA_UPDATE=always` and reading the
/// difference.
#[test]
fn the_document_is_as_it_was() {
    let mut document = document();
    document["info"]["version"] = "of the workspace".into();
    insta::assert_json_snapshot!("openapi", document);
}

#[test]
fn every_answer_refers_to_something() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let text = document.to_string();
    let mut references = BTreeSet::new();
    for part in text.split("\"$ref\":\"").skip(1) {
        references.insert(part.split('"').next().unwrap().to_owned());
    }
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let statuses: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
    assert_eq!(
        document.pointer("/components/schemas/RunStatus/enum").unwrap(),
        &serde_json::json!(statuses)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_is_there() {
    let api = Api::start().await;
    let served = api.bare(Method::GET, "/openapi.json").send().await.unwrap();
    assert_eq!(Answer::of(served).await.body, document());
    let document = document();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .replace("{runId}", "00000000000000000000000000")
            .replace("{stepId}", "nothere")
            .replace("{digest}", &format!("b3:{}", "0".repeat(64)))
            .replace("{dagId}", "nothere")
            .replace("{version}", "1")
            .replace("{scheduleId}", "nothere")
            .replace("{token}", "00000000000000000000000000.1");
        assert!(!filled.contains('{'), "{path}");
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = api.bare(method.clone(), &filled).header("authorization", api.bearer());
            let answer = Answer::of(request.send().await.unwrap()).await;
            let status = answer.status.as_u16().to_string();
            let documented = &item[method.as_str().to_lowercase()]["responses"];
            assert!(documented[&status].is_object(), "{method} {path} answered {answer:?}");
            assert_ne!(answer.body["code"], "ROUTE_NOT_FOUND", "{method} {path}");
            seen += 1;
        }
    }
    assert!(seen >= 24, "only {seen} operations are documented");
    // And nothing else: what is not documented for a path is refused there.
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.contains('{') {
            continue;
        }
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = api.bare(method, path).header("authorization", api.bearer());
            Answer::of(request.send().await.unwrap()).await.is_problem(405, "METHOD_NOT_ALLOWED");
        }
    }
    api.stop().await;
}

/// A path that only looks like a documented one is none.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_undocumented_answers() {
    let api = Api::start().await;
    for path in ["/runs:forget", "/schedules:next", "/plugins", "/ledger/proofs"] {
        let answer = api.get(path).await;
        answer.is_problem(404, "ROUTE_NOT_FOUND");
    }
    api.stop().await;
}
