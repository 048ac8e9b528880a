//! Whatever is wrong with a request, the answer says what and where, and nothing is recorded.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Api, ECHO};

/// Body of `POST /runs`, status, code, and what the detail has to name.
const BODIES: &[(&str, u16, &str, &str)] = &[
    ("{", 400, "MALFORMED_JSON", "line 1"),
    ("", 400, "MALFORMED_JSON", "EOF"),
    (r#"{"dagId":"echo"} x"#, 400, "MALFORMED_JSON", "trailing"),
    (r#"{"dagId":"echo","dagId":"echo"}"#, 400, "MALFORMED_JSON", "duplicate member \"dagId\""),
    (r#"{"dagId":"echo","inputs":{"a":1,"\u0061":2}}"#, 400, "MALFORMED_JSON", "\"a\""),
    (r#"{"dagId":"echo","labels":{"a":"1","a":"2"}}"#, 400, "MALFORMED_JSON", "duplicate"),
    (r#"{"dagId":"echo","inputs":{"n":9007199254740992}}"#, 400, "MALFORMED_JSON", "byte 30"),
    (r#"{"dagId":"echo","inputs":{"n":1e400}}"#, 400, "MALFORMED_JSON", "out of range"),
    (r#"{"dagId":"echo","inputs":{"who":"\u0000"}}"#, 400, "MALFORMED_JSON", "U+0000"),
    (r#"{"dagId":"echo","inputs":{"who":"\ud800"}}"#, 400, "MALFORMED_JSON", "column 40"),
    (r#"{"dagId":"echo","color":"red"}"#, 400, "INVALID_BODY", "color"),
    (r#"{"inputs":{}}"#, 400, "INVALID_BODY", "dagId"),
    (r#"{"dagId":"-"}"#, 400, "INVALID_BODY", "dagId"),
    (r#"{"dagId":7}"#, 400, "INVALID_BODY", "string"),
    (r#"{"dagId":"echo","dagVersion":-1}"#, 400, "INVALID_BODY", "-1"),
    (r#"{"dagId":"echo","labels":{"a":1}}"#, 400, "INVALID_BODY", "string"),
    (r#"{"dagId":"echo","runToken":""}"#, 400, "INVALID_BODY", "runToken"),
    (r#"{"dagId":"echo","priority":3000000000}"#, 400, "INVALID_BODY", "3000000000"),
    ("[]", 400, "INVALID_BODY", "StartRunBody"),
    (r#"{"dagId":"nothere"}"#, 404, "DAG_NOT_FOUND", "nothere"),
    (r#"{"dagId":"echo","dagVersion":9}"#, 404, "DAG_VERSION_NOT_FOUND", "version 9"),
    (r#"{"dagId":"echo","inputs":[]}"#, 422, "INPUTS_INVALID", "echo"),
];

/// Path below the prefix, status, code, and what the detail has to name.
const PATHS: &[(&str, u16, &str, &str)] = &[
    ("/runs?status=happy", 400, "INVALID_QUERY", "happy"),
    ("/runs?colour=red", 400, "INVALID_QUERY", "colour"),
    ("/runs?pageSize=0", 400, "INVALID_QUERY", "1 to 500"),
    ("/runs?pageSize=501", 400, "INVALID_QUERY", "1 to 500"),
    ("/runs?pageToken=AAAA", 400, "INVALID_QUERY", "nextPageToken"),
    ("/runs?from=yesterday", 400, "INVALID_QUERY", "yesterday"),
    ("/runs?from=2026-02-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400, "WINDOW_INVALID", "swap"),
    ("/runs?label=team", 400, "INVALID_QUERY", "name=value"),
    ("/runs/short", 400, "INVALID_PATH", "runId"),
    ("/runs/00000000000000000000000000", 404, "RUN_NOT_FOUND", "0000000000"),
    ("/runs/00000000000000000000000000?wait=10", 400, "INVALID_QUERY", "10s"),
    ("/runs/00000000000000000000000000?wait=61s", 400, "INVALID_QUERY", "60s"),
    ("/runs/00000000000000000000000000?wait=0s", 400, "INVALID_QUERY", "1s"),
    ("/runs/00000000000000000000000000?asOf=1&minSeq=1", 400, "INVALID_QUERY", "asOf"),
    ("/runs/00000000000000000000000000?asOf=99999", 400, "SEQ_BEYOND_HEAD", "99999"),
    ("/runs/00000000000000000000000000?asOf=0", 404, "RUN_NOT_FOUND", "0000000000"),
    ("/runs/00000000000000000000000000/steps", 404, "RUN_NOT_FOUND", "0000000000"),
    ("/runs/00000000000000000000000000/ledger", 404, "RUN_NOT_FOUND", "0000000000"),
    ("/runs/stream", 426, "UPGRADE_REQUIRED", "WebSocket"),
    ("/dags/nothere", 404, "DAG_NOT_FOUND", "nothere"),
    ("/dags/-", 400, "INVALID_PATH", "dagId"),
    ("/dags/nothere/versions/1", 404, "DAG_NOT_FOUND", "nothere"),
    ("/dags/echo/versions/2", 404, "DAG_VERSION_NOT_FOUND", "newest is 1"),
    ("/dags/echo/versions/x", 400, "INVALID_PATH", "x"),
    ("/ledger/export", 400, "INVALID_QUERY", "to"),
    ("/ledger/export?to=2999-01-01T00:00:00Z", 409, "WINDOW_OPEN", "seal"),
    (
        "/ledger/export?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        400,
        "WINDOW_INVALID",
        "swap",
    ),
    ("/ledger/export?to=2020-01-01T00:00:00Z&fromSeq=5", 400, "SEQ_OUTSIDE_WINDOW", "seq 5"),
    ("/nothing", 404, "ROUTE_NOT_FOUND", "nothing"),
    ("/ledger:seal", 405, "METHOD_NOT_ALLOWED", "GET"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_is_told_what_is_wrong() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let before = api.get("/ledger/head").await.body;
    let mut wrong = vec![];
    for (body, status, code, names) in BODIES {
        let answer = api.post_text("/runs", "application/json", *body).await;
        wrong.extend(answer.mismatch(*status, code, names).map(|why| format!("{body}: {why}")));
    }
    for (path, status, code, names) in PATHS {
        let answer = api.get(path).await;
        wrong.extend(answer.mismatch(*status, code, names).map(|why| format!("{path}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(api.get("/ledger/head").await.body, before, "something was recorded");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_type_a_size_and_an_encoding() {
    let api = Api::start().await;
    let body = r#"{"dagId":"echo"}"#;
    for (path, content_type) in
        [("/runs", "text/plain"), ("/dags", "text/html"), ("/ledger:seal", "text/plain")]
    {
        let answer = api.post_text(path, content_type, body).await;
        answer.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    api.post_nothing("/runs").await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    let utf8 = "application/json; charset=utf-8";
    api.post_text("/runs", utf8, body).await.is_problem(404, "DAG_NOT_FOUND");
    for (path, content_type) in
        [("/runs", "application/json"), ("/dags", "application/yaml"), ("/ledger:seal", "")]
    {
        let answer = api.post_text(path, content_type, vec![b' '; (1 << 20) + 1]).await;
        answer.is_problem(413, "BODY_TOO_LARGE").detail_has("1048576");
    }
    let answer = api.post_text("/runs", "application/json", vec![b'"', 0xff, b'"']).await;
    answer.is_problem(400, "MALFORMED_TEXT").detail_has("byte 1");
    api.stop().await;
}

/// A body that nobody reads would be a client's mistake that nobody tells it of.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_no_body_refuses_one() {
    let api = Api::start().await;
    for path in ["/admin/projections:rebuild", "/admin/projections:check"] {
        let json = "application/json";
        api.post_text(path, "text/plain", "now").await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
        api.post_text(path, json, "{").await.is_problem(400, "MALFORMED_JSON");
        let answer = api.post_text(path, json, r#"{"dryRun":true}"#).await;
        answer.is_problem(400, "INVALID_BODY").detail_has("dryRun");
        let large = vec![b' '; (1 << 20) + 1];
        api.post_text(path, json, large).await.is_problem(413, "BODY_TOO_LARGE");
        assert_eq!(api.post_text(path, json, "{}").await.status, 200);
        assert_eq!(api.post_nothing(path).await.status, 200);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_violations_are_listed() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let body = json!({"dagId": "echo", "inputs": {"n": "seven", "who": 7}});
    let answer = api.post("/runs", &body).await;
    answer.is_problem(422, "INPUTS_INVALID");
    let mut paths: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["n", "who"]);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_an_event_is_refused() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let many: serde_json::Map<_, _> = (0..20_000).map(|i| (i.to_string(), json!(i))).collect();
    let body = json!({"dagId": "echo", "inputs": many});
    api.post("/runs", &body).await.is_problem(422, "EVENT_TOO_LARGE").detail_has("the inputs");
    let labels: serde_json::Map<_, _> = (0..33).map(|i| (i.to_string(), json!("x"))).collect();
    let body = json!({"dagId": "echo", "labels": labels});
    api.post("/runs", &body).await.is_problem(422, "LABEL_REFUSED").detail_has("at most 32");
    let body = json!({"dagId": "echo", "labels": {"\u{1f600}": "x"}});
    api.post("/runs", &body).await.is_problem(422, "LABEL_REFUSED").detail_has("64");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_token_stands_for_one_request() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let first = json!({"dagId": "echo", "inputs": {"n": 1}, "runToken": "once"});
    assert_eq!(api.post("/runs", &first).await.status, 201);
    let other = json!({"dagId": "echo", "inputs": {"n": 2}, "runToken": "once"});
    let answer = api.post("/runs", &other).await;
    answer.is_problem(409, "RUN_TOKEN_CONFLICT").detail_has("b3:");
    // Also when it asks for what does not exist: the token is looked at first.
    for (other, names) in [
        (json!({"dagId": "nothing", "runToken": "once"}), "DAG nothing"),
        (json!({"dagId": "echo", "dagVersion": 9, "runToken": "once"}), "DAG echo version 9"),
    ] {
        let answer = api.post("/runs", &other).await;
        answer.is_problem(409, "RUN_TOKEN_CONFLICT").detail_has(names);
        answer.detail_has("DAG echo version 1");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_verbs_and_methods_are_problems_too() {
    let api = Api::start().await;
    let run = "/runs/00000000000000000000000000";
    api.post_nothing(run).await.is_problem(405, "METHOD_NOT_ALLOWED");
    api.post_nothing(&format!("{run}:explode")).await.is_problem(404, "ROUTE_NOT_FOUND");
    api.post_nothing(&format!("{run}:cancel")).await.is_problem(404, "RUN_NOT_FOUND");
    api.post_nothing("/runs/x:cancel").await.is_problem(400, "INVALID_PATH");
    let delete = api.request(Method::DELETE, "/runs").send().await.unwrap();
    Answer::of(delete).await.is_problem(405, "METHOD_NOT_ALLOWED");
    api.stop().await;
}

/// Reasons are shown in lists, and recorded for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_reason_has_a_length() {
    let api = Api::start().await;
    let reason = |bytes: usize| json!({"reason": "r".repeat(bytes)});
    for path in ["/queue:pause", "/queue:drain", "/schedulers:pause", "/ledger:seal"] {
        let answer = api.post(path, &reason(1_025)).await;
        answer.is_problem(400, "INVALID_BODY").detail_has("at most 1024 bytes, this one has 1025");
    }
    assert_eq!(api.post("/queue:pause", &reason(1_024)).await.status, 200);
    api.stop().await;
}
