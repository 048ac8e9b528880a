//! Every documented answer is real: each is asked for, over HTTP, and says what the document says.

mod cases;

use std::{collections::BTreeMap, fmt::Write as _};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use stella_ledger::clock::{Clock as _, SystemClock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use self::cases::{CASES, ELSEWHERE, NO_RUN, OF_AN_OBSERVER, OF_STORAGE, YAML};
use crate::support::{Answer, Api, ECHO, GATED, PREFIX, SLOW};

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
    for _ in 0..2 {
        let gated = api.post("/runs", &json!({"dagId": "gated"})).await.body;
        let cancel = format!("/runs/{}:cancel", gated["runId"].as_str().unwrap());
        api.post(&cancel, &json!({})).await;
    }
    let slow = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let gated = api.post("/runs", &json!({"dagId": "gated"})).await.body;
    let loose = "id: loose\nsteps:\n  - {id: a, plugin: core, action: noop}\n";
    let strict = format!("inputs: {{type: object, required: [n]}}\n{loose}");
    api.post_text("/dags", YAML, loose).await;
    let loose = api.finished("loose", &json!({})).await;
    api.post_text("/dags", YAML, strict).await;
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
        let path = path.replace("{gated}", &of(&gated)).replace("{loose}", &of(&loose));
        let path = path.replace("{none}", NO_RUN).replace("{digest}", &digest);
        let below = operation.path.strip_prefix(PREFIX).map_or("", |_| PREFIX);
        let body = body.replace("{large}", &large).replace("{echo}", ECHO).replace("{key}", &key);
        let body = body.replace("{run}", &of(&run)).replace("{none}", NO_RUN);
        let body = body.replace("{forged}", &forged);
        let body = body.replace("{now}", &SystemClock.now().to_string());
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
