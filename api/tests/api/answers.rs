//! Every documented answer is real: each is asked for, over HTTP, and says what the document says.

use std::{collections::BTreeMap, fmt::Write as _};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Answer, Api, ECHO, GATED, PREFIX, SLOW};

/// Operation, status, path, media type of the body, body. `{run}` has ended, `{slow}` runs,
/// `{gated}` waits for an operator,
/// `{large}` is more text than an event holds, `{huge}` than a body, `{forged}` names an artifact that nobody put there, `{echo}` is a DAG's spec, `{key}` is the signing key.
type Case = (&'static str, u16, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const YAML: &str = "application/yaml";
const NO_RUN: &str = "00000000000000000000000000";

const APPROVE: &str = "post /runs/{runId}/steps/{stepId}:approve";
const REJECT: &str = "post /runs/{runId}/steps/{stepId}:reject";

/// What is asked for by name, in this order. The others follow from what holds for all.
const CASES: &[Case] = &[
    ("get /livez", 200, "/livez", "", ""),
    ("get /readyz", 200, "/readyz", "", ""),
    ("get /metrics", 200, "/metrics", "", ""),
    ("get /runs", 200, "/runs?status=succeeded", "", ""),
    ("post /runs", 201, "/runs", JSON, r#"{"dagId":"echo","runToken":"t"}"#),
    ("post /runs", 200, "/runs", JSON, r#"{"dagId":"echo","runToken":"t"}"#),
    ("post /runs", 404, "/runs", JSON, r#"{"dagId":"nothere"}"#),
    ("post /runs", 404, "/runs", JSON, r#"{"dagId":"echo","dagVersion":9}"#),
    ("post /runs", 409, "/runs", JSON, r#"{"dagId":"slow","runToken":"t"}"#),
    ("post /runs", 422, "/runs", JSON, r#"{"dagId":"echo","inputs":{"n":"one"}}"#),
    ("post /runs", 422, "/runs", JSON, r#"{"dagId":"echo","inputs":{"who":{forged}}}"#),
    ("post /runs", 422, "/runs", JSON, r#"{"dagId":"echo","labels":{"{large}":""}}"#),
    ("get /runs/{runId}", 200, "/runs/{run}", "", ""),
    ("get /runs/{runId}", 404, "/runs/{none}", "", ""),
    ("get /runs/{runId}/steps", 200, "/runs/{run}/steps", "", ""),
    ("get /runs/{runId}/steps", 404, "/runs/{none}/steps", "", ""),
    ("get /runs/{runId}/ledger", 200, "/runs/{run}/ledger", "", ""),
    ("get /runs/{runId}/ledger", 404, "/runs/{none}/ledger", "", ""),
    ("post /ledger:erase", 409, "/ledger:erase", JSON, r#"{"runId":"{slow}","reason":"r"}"#),
    ("post /runs/{runId}:cancel", 422, "/runs/{slow}:cancel", JSON, r#"{"reason":"{large}"}"#),
    ("post /runs/{runId}:cancel", 200, "/runs/{slow}:cancel", "", ""),
    ("post /runs/{runId}:cancel", 404, "/runs/{none}:cancel", "", ""),
    ("post /runs/{runId}:rerun", 422, "/runs/{run}:rerun", JSON, r#"{"reason":"{large}"}"#),
    ("post /runs/{runId}:rerun", 200, "/runs/{run}:rerun", JSON, r#"{"reason":"r"}"#),
    ("post /runs/{runId}:rerun", 200, "/runs/{run}:rerun", "", ""),
    ("post /runs/{runId}:rerun", 404, "/runs/{none}:rerun", "", ""),
    ("post /runs/{runId}:rerun", 409, "/runs/{gated}:rerun", "", ""),
    (
        "post /runs:rerun",
        200,
        "/runs:rerun",
        JSON,
        r#"{"from":"2000-01-01T00:00:00Z","to":"2001-01-01T00:00:00Z"}"#,
    ),
    (
        "post /runs:rerun",
        422,
        "/runs:rerun",
        JSON,
        r#"{"from":"2000-01-01T00:00:00Z","to":"2999-01-01T00:00:00Z","status":"succeeded","cap":1}"#,
    ),
    ("get /runs:compare", 200, "/runs:compare?a={run}&b={slow}", "", ""),
    ("get /runs:compare", 404, "/runs:compare?a={run}&b={none}", "", ""),
    (APPROVE, 422, "/runs/{gated}/steps/first:approve", JSON, r#"{"reason":"{large}"}"#),
    (APPROVE, 200, "/runs/{gated}/steps/first:approve", JSON, r#"{"reason":"as agreed"}"#),
    (APPROVE, 200, "/runs/{gated}/steps/first:approve", "", ""),
    (APPROVE, 404, "/runs/{gated}/steps/nothere:approve", "", ""),
    (APPROVE, 404, "/runs/{none}/steps/first:approve", "", ""),
    (APPROVE, 409, "/runs/{slow}/steps/nap:approve", "", ""),
    (REJECT, 422, "/runs/{gated}/steps/second:reject", JSON, r#"{"reason":"{large}"}"#),
    (REJECT, 409, "/runs/{gated}/steps/first:reject", "", ""),
    (REJECT, 404, "/runs/{gated}/steps/nothere:reject", "", ""),
    (REJECT, 200, "/runs/{gated}/steps/second:reject", "", ""),
    ("get /runs/stream", 426, "/runs/stream", "", ""),
    ("get /dags", 200, "/dags", "", ""),
    ("post /dags", 201, "/dags", YAML, "id: new\nsteps: [{id: a, plugin: core, action: noop}]"),
    ("post /dags", 200, "/dags", YAML, "{echo}"),
    ("post /dags", 422, "/dags", JSON, "{}"),
    ("post /dags:validate", 200, "/dags:validate", YAML, "{echo}"),
    ("post /dags:validate", 422, "/dags:validate", YAML, "id: ["),
    ("get /dags/{dagId}", 200, "/dags/echo", "", ""),
    ("get /dags/{dagId}", 404, "/dags/nothere", "", ""),
    ("get /dags/{dagId}/versions/{version}", 200, "/dags/echo/versions/1", "", ""),
    ("get /dags/{dagId}/versions/{version}", 404, "/dags/echo/versions/9", "", ""),
    ("get /dags/{dagId}/versions/{version}", 404, "/dags/nothere/versions/1", "", ""),
    ("get /dags/{dagId}/versions", 200, "/dags/echo/versions", "", ""),
    ("get /dags/{dagId}/versions", 404, "/dags/nothere/versions", "", ""),
    ("post /dags/{dagId}:rollback", 200, "/dags/two:rollback", JSON, r#"{"toVersion":1}"#),
    ("post /dags/{dagId}:rollback", 404, "/dags/two:rollback", JSON, r#"{"toVersion":9}"#),
    ("post /dags/{dagId}:rollback", 409, "/dags/two:rollback", JSON, r#"{"toVersion":2}"#),
    (
        "post /dags/{dagId}:rollback",
        422,
        "/dags/three:rollback",
        JSON,
        r#"{"toVersion":1,"reason":"{large}"}"#,
    ),
    (
        "post /dags/{dagId}/versions/{version}:activate",
        422,
        "/dags/two/versions/2:activate",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    (
        "post /dags/{dagId}/versions/{version}:disable",
        422,
        "/dags/two/versions/2:disable",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    (
        "post /dags/{dagId}/versions/{version}:disable",
        200,
        "/dags/two/versions/2:disable",
        JSON,
        r#"{"reason":"r"}"#,
    ),
    ("post /dags/{dagId}/versions/{version}:disable", 404, "/dags/two/versions/9:disable", "", ""),
    (
        "post /dags/{dagId}/versions/{version}:activate",
        409,
        "/dags/two/versions/2:activate",
        "",
        "",
    ),
    (
        "post /dags/{dagId}/versions/{version}:enable",
        422,
        "/dags/two/versions/2:enable",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /dags/{dagId}/versions/{version}:enable", 200, "/dags/two/versions/2:enable", "", ""),
    ("post /dags/{dagId}/versions/{version}:enable", 404, "/dags/two/versions/9:enable", "", ""),
    (
        "post /dags/{dagId}/versions/{version}:activate",
        200,
        "/dags/two/versions/2:activate",
        "",
        "",
    ),
    (
        "post /dags/{dagId}/versions/{version}:activate",
        404,
        "/dags/two/versions/9:activate",
        "",
        "",
    ),
    (
        "post /schedules",
        201,
        "/schedules",
        JSON,
        r#"{"scheduleId":"hourly","dagId":"echo","every":"1h"}"#,
    ),
    (
        "post /schedules",
        200,
        "/schedules",
        JSON,
        r#"{"scheduleId":"hourly","dagId":"echo","every":"1h"}"#,
    ),
    (
        "post /schedules",
        409,
        "/schedules",
        JSON,
        r#"{"scheduleId":"hourly","dagId":"echo","every":"1h","priority":1}"#,
    ),
    (
        "post /schedules",
        404,
        "/schedules",
        JSON,
        r#"{"scheduleId":"other","dagId":"nothere","every":"1h"}"#,
    ),
    ("post /schedules", 422, "/schedules", JSON, r#"{"scheduleId":"other","dagId":"echo"}"#),
    (
        "post /schedules",
        422,
        "/schedules",
        JSON,
        r#"{"scheduleId":"other","dagId":"echo","every":"1h","inputs":{"n":"one"}}"#,
    ),
    (
        "post /schedules",
        422,
        "/schedules",
        JSON,
        r#"{"scheduleId":"other","dagId":"echo","every":"1h","inputs":{"who":"{large}"}}"#,
    ),
    ("get /schedules", 200, "/schedules?pageSize=1", "", ""),
    ("get /schedules/{scheduleId}", 200, "/schedules/hourly", "", ""),
    ("get /schedules/{scheduleId}", 404, "/schedules/nothere", "", ""),
    (
        "post /schedules/{scheduleId}:update",
        200,
        "/schedules/hourly:update",
        JSON,
        r#"{"scheduleId":"hourly","dagId":"echo","every":"1h","priority":2}"#,
    ),
    (
        "post /schedules/{scheduleId}:update",
        404,
        "/schedules/nothere:update",
        JSON,
        r#"{"scheduleId":"nothere","dagId":"echo","every":"1h"}"#,
    ),
    (
        "post /schedules/{scheduleId}:update",
        422,
        "/schedules/hourly:update",
        JSON,
        r#"{"scheduleId":"hourly","dagId":"echo","every":"1h","jitter":"2h"}"#,
    ),
    (
        "post /schedules/{scheduleId}:trigger",
        200,
        "/schedules/hourly:trigger",
        JSON,
        r#"{"fireTime":"2026-11-28T00:00:00Z"}"#,
    ),
    ("post /schedules/{scheduleId}:trigger", 404, "/schedules/nothere:trigger", "", ""),
    (
        "post /schedules/{scheduleId}:pause",
        422,
        "/schedules/hourly:pause",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /schedules/{scheduleId}:pause", 200, "/schedules/hourly:pause", "", ""),
    ("post /schedules/{scheduleId}:pause", 404, "/schedules/nothere:pause", "", ""),
    (
        "post /schedules/{scheduleId}:resume",
        422,
        "/schedules/hourly:resume",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /schedules/{scheduleId}:resume", 200, "/schedules/hourly:resume", "", ""),
    ("post /schedules/{scheduleId}:resume", 404, "/schedules/nothere:resume", "", ""),
    ("post /schedules/{scheduleId}:clear", 200, "/schedules/hourly:clear", "", ""),
    ("post /schedules/{scheduleId}:clear", 404, "/schedules/nothere:clear", "", ""),
    (
        "post /schedules/{scheduleId}:cancelBackfill",
        200,
        "/schedules/hourly:cancelBackfill",
        "",
        "",
    ),
    (
        "post /schedules/{scheduleId}:cancelBackfill",
        404,
        "/schedules/nothere:cancelBackfill",
        "",
        "",
    ),
    (
        "post /schedules/{scheduleId}:backfill",
        200,
        "/schedules/hourly:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T03:00:00Z","dryRun":true}"#,
    ),
    (
        "post /schedules/{scheduleId}:backfill",
        404,
        "/schedules/nothere:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T03:00:00Z"}"#,
    ),
    (
        "post /schedules/{scheduleId}:backfill",
        422,
        "/schedules/hourly:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T03:00:00Z","cap":2}"#,
    ),
    (
        "post /schedules/{scheduleId}:backfill",
        422,
        "/schedules/hourly:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:10:00Z","to":"2026-11-01T00:20:00Z"}"#,
    ),
    ("post /queue:pause", 200, "/queue:pause", "", ""),
    (
        "post /schedules/{scheduleId}:backfill",
        200,
        "/schedules/hourly:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T03:00:00Z"}"#,
    ),
    (
        "post /schedules/{scheduleId}:backfill",
        409,
        "/schedules/hourly:backfill",
        JSON,
        r#"{"from":"2026-11-01T00:00:00Z","to":"2026-11-01T03:00:00Z"}"#,
    ),
    ("post /schedules/{scheduleId}:delete", 404, "/schedules/nothere:delete", "", ""),
    (
        "post /schedules/{scheduleId}:delete",
        422,
        "/schedules/hourly:delete",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /schedules/{scheduleId}:delete", 200, "/schedules/hourly:delete", "", ""),
    ("post /queue:resume", 200, "/queue:resume", "", ""),
    ("get /approvals", 200, "/approvals?dagId=gated", "", ""),
    ("get /queue/steps", 200, "/queue/steps?plugin=core", "", ""),
    ("get /runs/{runId}/waiting", 200, "/runs/{run}/waiting", "", ""),
    ("get /runs/{runId}/waiting", 404, "/runs/{none}/waiting", "", ""),
    ("get /workers", 200, "/workers", "", ""),
    ("post /workers:warm", 200, "/workers:warm", "", ""),
    ("post /queue:pause", 200, "/queue:pause", JSON, r#"{"reason":"r"}"#),
    ("post /queue:drain", 409, "/queue:drain", "", ""),
    ("post /queue:resume", 422, "/queue:resume", JSON, r#"{"reason":"{large}"}"#),
    ("post /queue:resume", 200, "/queue:resume", "", ""),
    ("post /queue:pause", 422, "/queue:pause", JSON, r#"{"reason":"{large}"}"#),
    ("post /queue:drain", 422, "/queue:drain", JSON, r#"{"reason":"{large}"}"#),
    ("post /queue:drain", 200, "/queue:drain", JSON, r#"{"thenPause":false}"#),
    ("post /queue:resume", 200, "/queue:resume", "", ""),
    ("post /queue:limit", 200, "/queue:limit", JSON, r#"{"limit":9,"plugin":"none"}"#),
    ("post /queue:limit", 422, "/queue:limit", JSON, r#"{"limit":8,"reason":"{large}"}"#),
    ("post /schedulers:pause", 422, "/schedulers:pause", JSON, r#"{"reason":"{large}"}"#),
    ("post /schedulers:pause", 200, "/schedulers:pause", "", ""),
    ("post /schedulers:resume", 422, "/schedulers:resume", JSON, r#"{"reason":"{large}"}"#),
    ("post /schedulers:resume", 200, "/schedulers:resume", "", ""),
    ("post /dags/{dagId}:pause", 404, "/dags/nothere:pause", "", ""),
    ("post /dags/{dagId}:pause", 422, "/dags/three:pause", JSON, r#"{"reason":"{large}"}"#),
    ("post /dags/{dagId}:pause", 200, "/dags/three:pause", JSON, r#"{"reason":"r"}"#),
    ("post /runs", 409, "/runs", JSON, r#"{"dagId":"three"}"#),
    ("post /dags/{dagId}:resume", 404, "/dags/nothere:resume", "", ""),
    ("post /dags/{dagId}:resume", 422, "/dags/three:resume", JSON, r#"{"reason":"{large}"}"#),
    ("post /dags/{dagId}:resume", 200, "/dags/three:resume", "", ""),
    ("post /runs", 201, "/runs", JSON, r#"{"dagId":"slow"}"#),
    ("post /dags/{dagId}/versions/{version}:clear", 409, "/dags/slow/versions/1:clear", "", ""),
    ("post /dags/{dagId}/versions/{version}:disable", 200, "/dags/slow/versions/1:disable", "", ""),
    ("post /dags/{dagId}/versions/{version}:clear", 404, "/dags/slow/versions/9:clear", "", ""),
    (
        "post /dags/{dagId}/versions/{version}:clear",
        422,
        "/dags/slow/versions/1:clear",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /dags/{dagId}/versions/{version}:clear", 200, "/dags/slow/versions/1:clear", "", ""),
    (
        "post /workers:poll",
        200,
        "/workers:poll",
        JSON,
        r#"{"workerId":"w","plugins":["none"],"waitMs":0}"#,
    ),
    (
        "post /leases/{token}:heartbeat",
        200,
        "/leases/{none}.1:heartbeat",
        JSON,
        r#"{"workerId":"w"}"#,
    ),
    (
        "post /leases/{token}:complete",
        404,
        "/leases/{none}.1:complete",
        JSON,
        r#"{"workerId":"w"}"#,
    ),
    ("post /leases/{token}:complete", 409, "/leases/{run}.3:complete", JSON, r#"{"workerId":"w"}"#),
    ("post /leases/{token}:fail", 404, "/leases/{none}.1:fail", JSON, r#"{"workerId":"w"}"#),
    ("post /leases/{token}:fail", 409, "/leases/{run}.3:fail", JSON, r#"{"workerId":"w"}"#),
    (
        "post /leases/{token}/logs",
        409,
        "/leases/{none}.1/logs?workerId=w&offset=0",
        "text/plain",
        "words",
    ),
    ("post /leases/{token}/logs", 400, "/leases/{none}.1/logs?workerId=w", "text/plain", "words"),
    (
        "post /leases/{token}/logs",
        413,
        "/leases/{none}.1/logs?workerId=w&offset=0",
        "text/plain",
        "{huge}",
    ),
    ("post /leases/{token}/logs", 415, "/leases/{none}.1/logs?workerId=w&offset=0", JSON, "1"),
    (
        "post /leases/{token}/artifacts",
        409,
        "/leases/{none}.1/artifacts?workerId=w&name=a.txt",
        BYTES,
        "words",
    ),
    (
        "post /leases/{token}/artifacts",
        400,
        "/leases/{none}.1/artifacts?workerId=w&name=.hidden",
        BYTES,
        "words",
    ),
    (
        "post /leases/{token}/artifacts",
        415,
        "/leases/{none}.1/artifacts?workerId=w&name=a.txt",
        "text/plain",
        "words",
    ),
    ("get /runs/{runId}/logs/{stepId}", 200, "/runs/{run}/logs/say", "", ""),
    ("get /runs/{runId}/logs/{stepId}", 404, "/runs/{run}/logs/nothere", "", ""),
    ("get /runs/{runId}/artifacts", 200, "/runs/{run}/artifacts", "", ""),
    ("get /runs/{runId}/artifacts", 404, "/runs/{none}/artifacts", "", ""),
    ("get /runs/{runId}/artifacts/{digest}", 404, "/runs/{run}/artifacts/b3:{digest}", "", ""),
    ("get /queue", 200, "/queue", "", ""),
    ("get /ledger/head", 200, "/ledger/head", "", ""),
    ("post /ledger:seal", 200, "/ledger:seal", JSON, r#"{"reason":"why not"}"#),
    ("post /ledger:seal", 422, "/ledger:seal", JSON, r#"{"reason":"{large}"}"#),
    ("post /ledger:accept-clock-fault", 200, "/ledger:accept-clock-fault", "", ""),
    (
        "post /ledger:accept-clock-fault",
        422,
        "/ledger:accept-clock-fault",
        JSON,
        r#"{"reason":"{large}"}"#,
    ),
    ("post /ledger:erase", 404, "/ledger:erase", JSON, r#"{"runId":"{none}","reason":"r"}"#),
    ("post /ledger:erase", 422, "/ledger:erase", JSON, r#"{"runId":"{run}","reason":" "}"#),
    ("post /ledger:erase", 422, "/ledger:erase", JSON, r#"{"runId":"{run}","reason":"{large}"}"#),
    ("post /ledger:erase", 200, "/ledger:erase", JSON, r#"{"runId":"{run}","reason":"r"}"#),
    ("get /runs/{runId}/receipt", 200, "/runs/{run}/receipt", "", ""),
    ("get /runs/{runId}/receipt", 404, "/runs/{none}/receipt", "", ""),
    ("post /ledger:sign", 200, "/ledger:sign", "", ""),
    ("get /ledger/checkpoint", 200, "/ledger/checkpoint", "", ""),
    ("get /ledger/checkpoint", 404, "/ledger/checkpoint?size=999999", "", ""),
    ("get /ledger/proofs/inclusion", 200, "/ledger/proofs/inclusion?seq=0", "", ""),
    ("get /ledger/proofs/inclusion", 404, "/ledger/proofs/inclusion?seq=0&size=999999", "", ""),
    ("get /ledger/proofs/consistency", 200, "/ledger/proofs/consistency?from=1", "", ""),
    ("get /ledger/proofs/consistency", 404, "/ledger/proofs/consistency?from=1&to=999999", "", ""),
    ("get /ledger/proofs/window", 200, "/ledger/proofs/window?to=2020-01-01T00:00:00Z", "", ""),
    ("get /ledger/proofs/window", 409, "/ledger/proofs/window?to=2999-01-01T00:00:00Z", "", ""),
    (
        "get /ledger/proofs/window",
        409,
        "/ledger/proofs/window?to=2020-01-01T00:00:00Z&since=999999",
        "",
        "",
    ),
    ("get /ledger/keys", 200, "/ledger/keys", "", ""),
    ("post /ledger:rotateKey", 200, "/ledger:rotateKey", JSON, r#"{"newKey":"{key}"}"#),
    ("get /ledger/export", 200, "/ledger/export?to=2020-01-01T00:00:00Z", "", ""),
    ("get /ledger/export", 409, "/ledger/export?to=2999-01-01T00:00:00Z", "", ""),
    ("get /admin/slo", 200, "/admin/slo", "", ""),
    ("get /admin/health", 200, "/admin/health", "", ""),
    ("get /admin/projections", 200, "/admin/projections", "", ""),
    ("post /admin/projections:rebuild", 200, "/admin/projections:rebuild", "", ""),
    ("post /admin/projections:check", 200, "/admin/projections:check", JSON, "{}"),
];

/// What a node answers whose ledger another one signs.
const OF_AN_OBSERVER: &[Case] = &[
    ("get /ledger/keys", 409, "/ledger/keys", "", ""),
    ("post /ledger:erase", 501, "/ledger:erase", JSON, r#"{"runId":"{run}","reason":"r"}"#),
    ("post /ledger:sign", 409, "/ledger:sign", "", ""),
    ("post /ledger:rotateKey", 409, "/ledger:rotateKey", JSON, r#"{"newKey":"{key}"}"#),
];

/// These need 32 or 64 MiB of events, a signing key that is lost while the node runs, or a lease
/// (`workers`), or to ask for what never ends (`stream`).
const ELSEWHERE: [(&str, u16); 12] = [
    ("post /leases/{token}/artifacts", 413),
    ("post /leases/{token}/logs", 200),
    ("post /leases/{token}/logs", 422),
    ("post /leases/{token}/artifacts", 200),
    ("get /runs/{runId}/artifacts/{digest}", 200),
    ("get /runs/stream", 200),
    ("post /leases/{token}:complete", 200),
    ("post /leases/{token}:complete", 422),
    ("post /leases/{token}:fail", 200),
    ("get /runs/{runId}/receipt", 422),
    ("get /runs/{runId}/receipt", 409),
    ("get /ledger/proofs/window", 422),
];

/// Answers that need a storage which is damaged or away: its own tests and stories make those.
const OF_STORAGE: [u16; 2] = [500, 503];

/// One documented operation.
struct Operation {
    name: String,
    method: Method,
    path: String,
    takes_query: bool,
    /// The media type of its body, if it takes one.
    media_type: Option<String>,
    /// By status.
    descriptions: BTreeMap<u16, String>,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(stella_api::document()).unwrap();
    let mut found = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let description = |answer: &Value| answer["description"].as_str().unwrap().to_owned();
            let content = operation["requestBody"]["content"].as_object();
            let parameters = operation["parameters"].as_array();
            found.push(Operation {
                name: format!("{method} {}", path.strip_prefix(PREFIX).unwrap_or(path)),
                method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                path: path.clone(),
                takes_query: parameters.is_some_and(|all| all.iter().any(|p| p["in"] == "query")),
                media_type: content.and_then(|content| content.keys().next().cloned()),
                descriptions: responses
                    .iter()
                    .map(|(status, answer)| (status.parse().unwrap(), description(answer)))
                    .collect(),
            });
        }
    }
    found
}

impl Operation {
    /// Its path with names that lead nowhere.
    fn somewhere(&self) -> String {
        let path = self.path.replace("{runId}", NO_RUN).replace("{dagId}", "nothere");
        let path = path.replace("{stepId}", "nothere").replace("{digest}", "nothere");
        path.replace("{version}", "1")
            .replace("{scheduleId}", "nothere")
            .replace("{token}", &format!("{NO_RUN}.1"))
    }

    /// A request that is answered with `status` whatever the operation does, if there is one.
    fn in_general(&self, api: &Api, status: u16) -> Option<reqwest::RequestBuilder> {
        let open = |path: &str| api.bare(self.method.clone(), path);
        let bearer = |path: &str| open(path).header("authorization", api.bearer());
        let path = self.somewhere();
        let body = |media_type: &str, body: Vec<u8>| {
            bearer(&path).header("content-type", media_type).body(body)
        };
        match (status, &self.media_type) {
            (401, _) => Some(open(&path)),
            (403, _) => Some(bearer(&path).header("origin", "https://evil.test")),
            (421, _) => Some(bearer(&path).header("host", "evil.test")),
            (400, Some(media_type)) => Some(body(media_type, vec![0xff])),
            (413, Some(media_type)) => Some(body(media_type, vec![b' '; (1 << 20) + 1])),
            (415, Some(_)) => Some(body("text/html", b"x".into())),
            (400, None) if self.takes_query => Some(bearer(&format!("{path}?colour=red"))),
            (400, None) => Some(bearer(&path.replace(NO_RUN, "x").replace("nothere", "-"))),
            _ => None,
        }
    }

    /// What is wrong with this answer, if anything.
    fn mismatch(&self, status: u16, answer: &Answer) -> Option<String> {
        let Some(description) = self.descriptions.get(&status) else {
            return Some(format!("{} {status} is not documented", self.name));
        };
        let code = answer.body["code"].as_str();
        // Codes of wrong parameters are too many to name.
        let named = status == 400 || code.is_none_or(|code| description.contains(code));
        let fits = answer.status.as_u16() == status && named && (status < 400) == code.is_none();
        (!fits).then(|| format!("{} {status} ({description}): {answer:?}", self.name))
    }
}

/// Send the head of a request, and read the beginning of what comes back.
async fn head(api: &Api, operation: &Operation, headers: &str) -> String {
    let mut stream = TcpStream::connect(api.address()).await.unwrap();
    let (method, mut path) = (&operation.method, operation.somewhere());
    if path.ends_with("/logs") {
        path.push_str("?workerId=w&offset=0");
    }
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    write!(head, "Authorization: {}\r\n{headers}\r\n", api.bearer()).unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_answer_is_real() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.register(SLOW).await;
    api.register(GATED).await;
    for id in ["two", "three"] {
        for step in ["say", "tell"] {
            let spec = ECHO.replace("id: echo", &format!("id: {id}")).replace("say", step);
            api.post_text("/dags", YAML, spec).await;
        }
    }
    let run = api.finished("echo", &json!({})).await;
    let slow = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let gated = api.post("/runs", &json!({"dagId": "gated"})).await.body;
    let of = |run: &Value| run["runId"].as_str().unwrap().to_owned();
    api.get(&format!("/runs?minSeq={}", slow["seq"])).await;
    let observer = api.beside().await;
    let keys = api.get("/ledger/keys").await.body;
    let key = keys["pins"][0].as_str().unwrap().split('@').next().unwrap().to_owned();
    let large = "x".repeat(70_000);
    let huge = "x".repeat((1 << 20) + 1);
    let digest = "0".repeat(64);
    let forged =
        format!(r#"{{"$artifact":{{"digest":"b3:{digest}","mediaType":"text/plain","size":1}}}}"#);
    let operations = operations();
    let (mut wrong, mut asked) = (vec![], vec![]);
    // The observer first: what was not signed yet is soon.
    let observed = OF_AN_OBSERVER.iter().map(|case| (&observer, case));
    for (api, case) in observed.chain(CASES.iter().map(|case| (&api, case))) {
        let (name, status, path, media_type, body) = case;
        let operation = operations.iter().find(|operation| operation.name == *name);
        let operation = operation.unwrap_or_else(|| panic!("{name} is not documented"));
        let path = path.replace("{run}", &of(&run)).replace("{slow}", &of(&slow));
        let path = path.replace("{gated}", &of(&gated));
        let path = path.replace("{none}", NO_RUN).replace("{digest}", &digest);
        let below = operation.path.strip_prefix(PREFIX).map_or("", |_| PREFIX);
        let body = body.replace("{large}", &large).replace("{echo}", ECHO).replace("{key}", &key);
        let body = body.replace("{run}", &of(&run)).replace("{none}", NO_RUN);
        let body = body.replace("{forged}", &forged);
        let body = body.replace("{slow}", &of(&slow)).replace("{huge}", &huge);
        let mut request = api.bare(operation.method.clone(), &format!("{below}{path}"));
        request = request.header("authorization", api.bearer());
        if !media_type.is_empty() {
            request = request.header("content-type", *media_type).body(body);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        wrong.extend(operation.mismatch(*status, &answer));
        asked.push((*name, *status));
    }
    for operation in &operations {
        for status in operation.descriptions.keys().copied() {
            let case = (&*operation.name, status);
            if asked.contains(&case) || ELSEWHERE.contains(&case) {
                continue;
            }
            if let Some(request) = operation.in_general(&api, status) {
                let answer = Answer::of(request.send().await.unwrap()).await;
                wrong.extend(operation.mismatch(status, &answer));
            } else if ![101, 408].contains(&status) && !OF_STORAGE.contains(&status) {
                wrong
                    .push(format!("{} {status} is documented and never asked for", operation.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    observer.stop().await;
    api.stop().await;
}

/// Bodies that never come, all at once: each is waited for as long as a body may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_given_up() {
    let api = Api::start().await;
    let operations = operations();
    // Of a file it is seen first whether its lease is held.
    let late = operations.iter().filter(|operation| {
        operation.descriptions.contains_key(&408) && !operation.path.ends_with("/artifacts")
    });
    let answers = late.map(async |operation| {
        let media_type = operation.media_type.as_ref().unwrap();
        let headers = format!("Content-Type: {media_type}\r\nContent-Length: 9\r\n");
        let answer = head(&api, operation, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{}: {answer}", operation.name);
        assert!(answer.contains("\"code\":\"BODY_TIMEOUT\""), "{}: {answer}", operation.name);
    });
    assert!(join_all(answers).await.len() >= 6);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_switches_protocols_does() {
    let api = Api::start().await;
    let operations = operations();
    let switching = operations.iter().filter(|operation| operation.descriptions.contains_key(&101));
    let switching: Vec<_> = switching.collect();
    assert_eq!(switching.len(), 1);
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = head(&api, switching[0], headers).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    api.stop().await;
}
