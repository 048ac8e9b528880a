//! The auditor's way, on both ledgers: pin a key, keep a checkpoint, take bundles away, verify them
//! with nothing else, by both verifiers.

use std::{collections::BTreeMap, fs, path::Path};

use harness::{mongo::Database, server::TestServer, stella, verifiers::judged};
use serde_json::{Value, json};

fn spec() -> Value {
    json!({"id": "two", "steps": [
        {"id": "a", "plugin": "core", "action": "echo", "with": {"text": "naïve – “quotes” 😀"}},
        {"id": "b", "plugin": "core", "action": "noop", "needs": ["a"]},
    ]})
}

fn manifest(bundle: &str) -> Value {
    let text = fs::read_to_string(Path::new(bundle).join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn files_in(bundle: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

async fn an_auditor_takes_bundles_away(server: TestServer) {
    let client = &server.client;
    client.register(&spec()).await;
    client.run(&json!({"dagId": "two"})).await;
    let pin = server.stella(&["ledger", "key", "show"], 0).await;
    let key = ["--key", pin.trim()];
    let kept = server.scratch("kept.checkpoint");
    server.stella(&["ledger", "checkpoint", "--sign-now", "--file", &kept], 0).await;
    let export = async |args: &[&str], name: &str| {
        let out = server.scratch(name);
        let said = server.stella(&[&["ledger", "export", "--out", &out], args].concat(), 0).await;
        assert!(said.contains(": VERIFIED\n"), "{said}");
        out
    };

    // Everything so far, from the very first event on, just sealed.
    let first = export(&["--seal"], "first").await;
    judged(&[&first], &key, 0).await;
    let edge = manifest(&first)["window"]["to"].as_str().unwrap().to_owned();
    assert_eq!(manifest(&first)["firstSeq"], 0);

    // What came since, as an extension of the checkpoint that was kept.
    for _ in 0..3 {
        client.run(&json!({"dagId": "two"})).await;
    }
    let next = export(&["--from", &edge, "--since", &kept, "--seal"], "next").await;
    let since = [&key[..], &["--since", &kept]].concat();
    judged(&[&next], &since, 0).await;
    judged(&[&first], &since, 11).await;
    judged(&[&first, &next], &key, 0).await;
    judged(&[&next, &first], &key, 11).await;
    let end = manifest(&next)["window"]["to"].as_str().unwrap().to_owned();

    // A window in which nothing happened is proven as well, where there is no event before it too.
    for (from, to) in [(&*end, &*end), ("1970-01-01", "1980-01-01")] {
        let name = format!("empty-{to}");
        let empty = export(&["--from", from, "--to", to], &name).await;
        assert_eq!(manifest(&empty)["events"], 0);
        judged(&[&empty], &key, 0).await;
    }

    // The same window is the same bytes, whatever was recorded and signed since.
    let window = ["--from", &*edge, "--to", &end, "--since", &kept];
    let archive = export(&window, "one.tar.zst").await;
    judged(&[&archive], &since, 0).await;
    client.run(&json!({"dagId": "two"})).await;
    server.stella(&["ledger", "checkpoint", "--sign-now"], 0).await;
    let again = export(&window, "again").await;
    assert_eq!(files_in(&again), files_in(&next));
    let again = export(&window, "two.tar.zst").await;
    assert_eq!(fs::read(&again).unwrap(), fs::read(&archive).unwrap());

    // What is changed afterwards is noticed, and so is another key.
    let events = Path::new(&next).join("events.ndjson");
    let text = fs::read_to_string(&events).unwrap();
    assert!(text.contains("naïve"));
    fs::write(&events, text.replacen("naïve", "naive", 1)).unwrap();
    judged(&[&next], &key, 12).await;
    let file = server.scratch("other.key");
    let other = stella::run(&["ledger", "key", "generate", "--out", &file], 0).await;
    judged(&[&first], &["--key", other.trim()], 13).await;
}

#[tokio::test]
async fn an_auditor_takes_bundles_away_from_a_file() {
    an_auditor_takes_bundles_away(TestServer::start().await).await;
}

/// A node that leaves the signing to another waits for it.
#[tokio::test]
async fn a_window_that_was_just_sealed_is_exported_where_another_node_signs() {
    let database = Database::new().await;
    let signing = TestServer::builder().ledger(&database.uri).start().await;
    signing.client.register(&spec()).await;
    let pin = signing.stella(&["ledger", "key", "show"], 0).await;
    let other = TestServer::builder().ledger(&database.uri).start().await;
    other.client.post_empty("/ledger:sign").await.problem(409, "SIGNED_ELSEWHERE");
    let out = other.scratch("out");
    let said = other.stella(&["ledger", "export", "--seal", "--out", &out], 0).await;
    assert!(said.contains(": written\n"), "it knows no key to verify with: {said}");
    judged(&[&out], &["--key", pin.trim()], 0).await;
}

#[tokio::test]
async fn an_auditor_takes_bundles_away_from_mongodb() {
    let database = Database::new().await;
    let server = TestServer::builder().ledger(&database.uri).start().await;
    an_auditor_takes_bundles_away(server).await;
}
