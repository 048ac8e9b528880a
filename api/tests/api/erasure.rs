//! Erasing the payloads of a run: what goes, what stays, what is refused.

use reqwest::Method;
use serde_json::{Value, json};
use stella_domain::{checkpoint::Note, hash::Hash32, merkle};

use crate::support::{Api, ECHO, SLOW};

/// A run with labels, a token, inputs and outputs; it has ended.
async fn ended(api: &Api) -> Value {
    let body = json!({"dagId": "echo", "inputs": {"who": "ann"}, "labels": {"for": "ann"},
        "runToken": "ann-1"});
    let answer = api.post("/runs?wait=30s", &body).await;
    assert_eq!(answer.body["status"], "succeeded", "{answer:?}");
    answer.body
}

fn erase(run: &Value) -> Value {
    json!({"runId": run["runId"], "reason": "request 17"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_and_plugins_wrote_goes_and_the_rest_stays() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let (run, other) = (ended(&api).await, api.finished("echo", &json!({"who": "bob"})).await);
    let path = format!("/runs/{}", run["runId"].as_str().unwrap());
    let before = api.get(&format!("{path}?minSeq={}", run["seq"])).await.body;
    let events_before = api.get(&format!("{path}/ledger")).await.body;

    let erased = api.post("/ledger:erase", &erase(&run)).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    // What was asked for, and what the step gave.
    assert_eq!((&erased.body["payloads"], &erased.body["replayed"]), (&json!(2), &json!(false)));
    let seq = &erased.body["seq"];

    let after = api.get(&format!("{path}?minSeq={seq}")).await.body;
    assert_eq!((&after["erasedSeq"], &after["labels"]), (seq, &json!({})));
    assert!(after["runToken"].is_null() && before["runToken"] == "ann-1");
    for stays in ["status", "createdAt", "endedAt", "inputsHash", "dagDigest", "lastSeq"] {
        assert_eq!(after[stays], before[stays], "{stays}");
    }
    let steps = api.get(&format!("{path}/steps")).await.text;
    let listed = api.get("/runs?label=for%3Aann").await.body["items"].clone();
    assert!(!steps.contains("ann") && !steps.contains("outputs"), "{steps}");
    assert!(!listed.to_string().contains("ann"), "{listed}");
    let events = api.get(&format!("{path}/ledger")).await.body;
    let pairs = events_before["items"].as_array().unwrap().iter().zip(events["items"].as_array());
    for (was, is) in pairs.flat_map(|(was, all)| all.iter().map(move |is| (was, is))) {
        if was["seq"] == is["seq"] {
            assert!(is["payload"].is_null() && is["salt"].is_null());
            assert_eq!((&is["hash"], &is["payloadHash"]), (&was["hash"], &was["payloadHash"]));
        }
    }
    let as_of = api.get(&format!("{path}?asOf={}", run["seq"])).await;
    assert!(as_of.status.is_success() && !as_of.text.contains("ann"), "{as_of:?}");

    // Others keep theirs, and the read models are what the ledger gives.
    let other = format!("/runs/{}/ledger", other["runId"].as_str().unwrap());
    assert!(api.get(&other).await.text.contains("bob"));
    let check = api.post("/admin/projections:check", &json!({})).await;
    assert_eq!(check.body["identical"], true, "{check:?}");
    let rebuilt = api.post_nothing("/admin/projections:rebuild").await;
    assert!(rebuilt.status.is_success(), "{rebuilt:?}");
    assert_eq!(api.get(&path).await.body, after);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_again_and_starting_again_change_nothing() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = ended(&api).await;
    let first = api.post("/ledger:erase", &erase(&run)).await.body;
    let head = api.get("/ledger/head").await.body;
    for reason in ["request 17", "another"] {
        let body = json!({"runId": run["runId"], "reason": reason});
        let again = api.post("/ledger:erase", &body).await;
        assert_eq!(again.body["replayed"], true, "{again:?}");
        for same in ["runId", "seq", "payloads", "recordedAt"] {
            assert_eq!(again.body[same], first[same]);
        }
    }
    // The token is gone; the run's id was derived from it, and its inputs are known by their hash.
    let start = json!({"dagId": "echo", "inputs": {"who": "ann"}, "runToken": "ann-1"});
    let started = api.post("/runs", &start).await;
    assert_eq!((started.status.as_u16(), &started.body["runId"]), (200, &run["runId"]));
    let other = json!({"dagId": "echo", "inputs": {"who": "bob"}, "runToken": "ann-1"});
    api.post("/runs", &other).await.is_problem(409, "RUN_TOKEN_CONFLICT");
    assert_eq!(api.get("/ledger/head").await.body, head);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_no_trace() {
    let api = Api::start().await;
    api.register(ECHO).await;
    api.register(SLOW).await;
    let run = ended(&api).await;
    let slow = api.post("/runs", &json!({"dagId": "slow"})).await.body;
    let observer = api.beside().await;
    observer.get("/ledger/head").await;
    let head = api.get("/ledger/head").await.body;
    let refused = api.post("/ledger:erase", &erase(&slow)).await;
    refused.is_problem(409, "RUN_NOT_ENDED").detail_has("cancel it");
    let unknown = json!({"runId": "0RQ9CWTXP9BPJR3KTYEG0MB9FF", "reason": "r"});
    api.post("/ledger:erase", &unknown).await.is_problem(404, "RUN_NOT_FOUND");
    let id = &run["runId"];
    let missing = api.post("/ledger:erase", &json!({"runId": id})).await;
    missing.is_problem(400, "INVALID_BODY").detail_has("reason");
    for reason in ["".to_owned(), " \n".to_owned(), "x".repeat(1_025)] {
        let body = json!({"runId": id, "reason": reason});
        let refused = api.post("/ledger:erase", &body).await;
        refused.is_problem(422, "REASON_REFUSED").detail_has("for ever");
    }
    let not_here = observer.post("/ledger:erase", &erase(&run)).await;
    not_here.is_problem(501, "ERASURE_NOT_CONFIGURED").detail_has("--erasure-ledger-file");
    // Steps of the slow run are leased, which is an event: nothing else was recorded.
    let now = api.get("/ledger/head").await.body;
    let new = now["size"].as_u64().unwrap() - head["size"].as_u64().unwrap();
    assert!(new <= 1, "{head} {now}");
    let path = format!("/runs/{}/ledger", id.as_str().unwrap());
    assert!(api.get(&path).await.text.contains("ann"));
    observer.stop().await;
    api.stop().await;
}

/// The hash and the proof of an event of a receipt.
fn holds(event: &Value, size: u64, root: &Hash32) {
    let hash = event["event"]["hash"].as_str().unwrap().parse().unwrap();
    let seq = event["event"]["header"]["seq"].as_u64().unwrap();
    let proof: Vec<Hash32> = serde_json::from_value(event["proof"].clone()).unwrap();
    merkle::verify_inclusion(&hash, seq, size, root, &proof).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_explains_what_was_erased() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let run = ended(&api).await;
    let path = format!("/runs/{}/receipt", run["runId"].as_str().unwrap());
    let whole = api.get(&path).await.body;
    assert_eq!(whole["erasures"], json!([]));
    let erased = api.post("/ledger:erase", &erase(&run)).await.body;
    let other = api.finished("echo", &json!({})).await;
    api.post("/ledger:erase", &self::erase(&other)).await;
    let answer = api.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let receipt: Value = serde_json::from_str(&answer).unwrap();
    let erasures = receipt["erasures"].as_array().unwrap();
    assert_eq!(erasures.len(), 1, "and not that of another run: {receipt}");
    let explaining = &erasures[0]["event"];
    assert_eq!(explaining["header"]["seq"], erased["seq"]);
    assert_eq!(explaining["payload"], json!({"reason": "request 17"}));
    let named = explaining["data"]["seqs"].as_array().unwrap();
    let note = Note::parse(receipt["checkpoint"].as_str().unwrap()).unwrap();
    let checkpoint = note.checkpoint();
    assert_eq!(receipt["treeSize"], checkpoint.size);
    assert!(checkpoint.size > erased["seq"].as_u64().unwrap(), "it covers the erasure");
    let zeros = "0".repeat(64);
    for event in receipt["events"].as_array().unwrap().iter().chain(erasures) {
        holds(event, checkpoint.size, &checkpoint.root);
        let header = &event["event"]["header"];
        let erased = event["event"]["payload"].is_null() && header["payloadHash"] != zeros;
        assert_eq!(erased, named.contains(&header["seq"]), "{header}");
    }
    api.post_nothing("/ledger:seal").await;
    api.post_nothing("/ledger:sign").await;
    let again = api.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    assert_eq!(again, answer, "the same bytes each time");
    api.stop().await;
}
