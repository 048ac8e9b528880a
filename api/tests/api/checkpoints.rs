//! Checkpoints, proofs, receipts and keys over HTTP. What is checked here is checked with the
//! pinned key alone, as somebody without the server would.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Value, json};
use stella_api::types::{ConsistencyProof, InclusionProof, Receipt, SigningKeys, WindowProof};
use stella_domain::{
    checkpoint::{Checkpoint, Keyring, SigningKey, VerifierKey},
    hash::{Hash32, event_hash},
    merkle::{verify_consistency, verify_inclusion},
};

use crate::support::{Api, ECHO};

async fn pinned(api: &Api) -> Keyring {
    let keys: SigningKeys = serde_json::from_value(api.get("/ledger/keys").await.body).unwrap();
    Keyring(keys.pins.iter().map(|pin| pin.parse().unwrap()).collect())
}

async fn signed_now(api: &Api, keys: &Keyring) -> (Checkpoint, String) {
    let answer = api.post_nothing("/ledger:sign").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    (keys.verify(&answer.text).unwrap(), answer.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_proved() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let keys = pinned(&api).await;
    let (old, _) = signed_now(&api, &keys).await;
    for n in 0..5 {
        api.finished("echo", &json!({ "n": n })).await;
    }
    let (new, note) = signed_now(&api, &keys).await;
    assert!(new.size > old.size);
    assert_eq!(api.get("/ledger/checkpoint").await.text, note);
    let same = api.get(&format!("/ledger/checkpoint?size={}", new.size)).await;
    assert_eq!(same.text, note);
    let none = api.get(&format!("/ledger/checkpoint?size={}", new.size + 1)).await;
    none.is_problem(404, "CHECKPOINT_NOT_FOUND");

    for seq in [0, old.size, new.size - 1] {
        let answer = api.get(&format!("/ledger/proofs/inclusion?seq={seq}")).await;
        let found: InclusionProof = serde_json::from_value(answer.body).unwrap();
        let of = keys.verify(&found.checkpoint).unwrap();
        assert_eq!((found.seq, found.tree_size), (seq, of.size));
        verify_inclusion(&found.hash, seq, of.size, &of.root, &found.proof).unwrap();
    }
    let beyond = format!("/ledger/proofs/inclusion?seq={}&size={}", old.size, old.size);
    api.get(&beyond).await.is_problem(400, "OUTSIDE_TREE");

    let path = format!("/ledger/proofs/consistency?from={}&to={}", old.size, new.size);
    let found: ConsistencyProof = serde_json::from_value(api.get(&path).await.body).unwrap();
    assert_eq!(found.from_root, old.root);
    verify_consistency((old.size, &old.root), (new.size, &new.root), &found.proof).unwrap();
    let backwards = format!("/ledger/proofs/consistency?from={}&to={}", new.size, old.size);
    api.get(&backwards).await.is_problem(400, "OUTSIDE_TREE");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_proves_a_run_by_itself() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let keys = pinned(&api).await;
    let run = api.finished("echo", &json!({"who": "Ann"})).await;
    let run_id = run["runId"].as_str().unwrap();
    let path = format!("/runs/{run_id}/receipt");
    let text = api.get(&path).await.text;
    // Signed on asking, and the same from then on.
    api.finished("echo", &json!({})).await;
    api.post_nothing("/ledger:sign").await;
    assert_eq!(api.get(&path).await.text, text);

    let receipt: Receipt = serde_json::from_str(&text).unwrap();
    let of = keys.verify(&receipt.checkpoint).unwrap();
    assert_eq!((receipt.tree_size, receipt.ledger), (of.size, of.ledger.to_string()));
    let mut types = vec![];
    for (version, proven) in (1..).zip(&receipt.events) {
        let line: Value = serde_json::from_str(proven.event.as_str()).unwrap();
        let header = &line["header"];
        assert_eq!(header["stream"], format!("run/{run_id}"));
        assert_eq!(header["streamVersion"], version);
        let hash: Hash32 = line["hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(event_hash(&header.to_string()), hash);
        let seq = header["seq"].as_u64().unwrap();
        verify_inclusion(&hash, seq, of.size, &of.root, &proven.proof).unwrap();
        types.push(header["type"].as_str().unwrap().to_owned());
    }
    assert_eq!((types[0].as_str(), types.last().unwrap().as_str()), ("RunCreated", "RunSucceeded"));
    let nobodys = api.get("/runs/0RQ9CWTXP9BPJR3KTYEG0MB9FF/receipt").await;
    nobodys.is_problem(404, "RUN_NOT_FOUND");
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_signs_from_its_seq_on() {
    let api = Api::start().await;
    let keys = pinned(&api).await;
    let (before, old_note) = signed_now(&api, &keys).await;
    let drawn = fs::read_to_string(api.data_dir().join("signing-key")).unwrap();
    let new = SigningKey::from_bytes(&[7; 32]);
    let new_key = VerifierKey::new(before.ledger.clone(), &new).to_string();
    let body = json!({ "newKey": new_key });
    let missing = api.post("/ledger:rotateKey", &body).await;
    missing.is_problem(409, "SIGNING_KEY_UNUSABLE").detail_has("signing-key.next");

    let file = api.data_dir().join("signing-key.next");
    fs::write(&file, hex::encode([8; 32])).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    api.post("/ledger:rotateKey", &body).await.is_problem(409, "SIGNING_KEY_MISSING");
    fs::write(&file, hex::encode([7; 32])).unwrap();
    let rotated = api.post("/ledger:rotateKey", &body).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let again = api.post("/ledger:rotateKey", &body).await;
    assert_eq!(again.body, rotated.body, "asking twice records it once");

    let both = pinned(&api).await;
    assert_eq!(both.0.len(), 2);
    assert_eq!(both.verify(&old_note), Ok(before.clone()));
    let (after, new_note) = signed_now(&api, &both).await;
    assert!(after.size > before.size);
    assert!(keys.verify(&new_note).is_err(), "the old key alone does not speak for it");
    let broken = api.post("/ledger:rotateKey", &json!({"newKey": "x"})).await;
    broken.is_problem(400, "INVALID_BODY");
    let dir = api.stop_keeping_files().await;
    let ledger = files_of_the_ledger(dir.path());
    // What is looked for would be found: the public half stands there, in the event.
    assert!(ledger.windows(new_key.len()).any(|part| part == new_key.as_bytes()));
    for secret in [drawn.trim().to_owned(), hex::encode([7; 32])] {
        let bytes = hex::decode(&secret).unwrap();
        for secret in [secret.as_bytes(), &bytes] {
            assert!(!ledger.windows(secret.len()).any(|part| part == secret), "a key is in there");
        }
    }
}

/// All that the database holds, one file after the other.
fn files_of_the_ledger(dir: &Path) -> Vec<u8> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_ledgers =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().contains("ledger.sqlite");
    let files = files.filter(|path| path.is_file());
    files.filter(is_ledgers).flat_map(|path| fs::read(path).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_drawn_at_the_first_start_and_nothing_stays_unsigned() {
    let api = Api::start().await;
    let data_dir = api.data_dir();
    let mode = fs::metadata(data_dir.join("signing-key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = pinned(&api).await;
    api.register(ECHO).await;
    let head = api.get("/ledger/head").await.body;
    let without_credentials = api.bare(Method::POST, "/api/v1/orchestrator/ledger:sign");
    assert_eq!(without_credentials.send().await.unwrap().status(), 401);
    let kept = data_dir.join("checkpoints/acme");
    let _dir = api.stop_keeping_files().await;
    let kept = keys.verify(&fs::read_to_string(kept).unwrap()).unwrap();
    assert_eq!(kept.size, head["size"].as_u64().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_is_proved_and_signed_on_asking() {
    let api = Api::start().await;
    api.register(ECHO).await;
    let keys = pinned(&api).await;
    let (old, _) = signed_now(&api, &keys).await;
    api.finished("echo", &json!({})).await;
    let sealed = api.post_nothing("/ledger:seal").await.body;
    let to = sealed["recordedAt"].as_str().unwrap();
    let path = format!("/ledger/proofs/window?to={to}");
    let answer = api.get(&path).await;
    let found: WindowProof = serde_json::from_value(answer.body.clone()).unwrap();
    let of = keys.verify(&found.checkpoint).unwrap();
    assert_eq!((found.tree_size, found.first_seq), (of.size, 0));
    assert_eq!(Some(found.end_seq), sealed["seq"].as_u64());
    let right: Value = serde_json::from_str(found.boundary.trim()).unwrap();
    assert_eq!((&right["side"], &right["hash"]), (&"right".into(), &sealed["hash"]));
    assert_eq!((found.extends, found.erasures), (None, String::new()));

    // The same from then on, whatever is signed later.
    api.finished("echo", &json!({})).await;
    signed_now(&api, &keys).await;
    assert_eq!(api.get(&path).await.body, answer.body);
    let since = api.get(&format!("{path}&since={}", old.size)).await.body;
    let since: WindowProof = serde_json::from_value(since).unwrap();
    let extends = since.extends.unwrap();
    assert_eq!((extends.size, extends.root), (old.size, old.root));
    verify_consistency((old.size, &old.root), (of.size, &of.root), &extends.proof).unwrap();
    let beyond = api.get(&format!("{path}&since=999999")).await;
    beyond.is_problem(409, "CHECKPOINT_BEYOND_LEDGER").detail_has("999999");
    api.stop().await;
}
