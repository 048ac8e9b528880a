//! A server and a witness, two processes: what is signed is cosigned, a second history never is,
//! and a witness that is away holds nobody up.

use std::{fs, net::TcpListener};

use harness::{
    server::{Builder, TestServer},
    stella,
    witness::{NAME, TestWitness},
};
use serde_json::{Value, json};
use stella_domain::checkpoint::{Checkpoint, Note, SigningKey, VerifierKey, WitnessKey};
use tempfile::TempDir;

fn spec() -> Value {
    json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]})
}

/// A ledger's key, drawn before there is a ledger.
struct Signing {
    dir: TempDir,
    key: String,
}

impl Signing {
    async fn draw() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let key = ["ledger", "key", "generate", "--out", file.to_str().unwrap()];
        let key = stella::run(&key, 0).await.trim().to_owned();
        Self { dir, key }
    }

    /// A server that signs with it, and asks `witness`.
    fn server(&self, witness: &TestWitness) -> Builder {
        let file = self.dir.path().join("key");
        let asked = witness.serve_args();
        TestServer::builder()
            .args(&["--signing-key", file.to_str().unwrap()])
            .args(&asked.each_ref().map(String::as_str))
    }
}

async fn sign_now(server: &TestServer) -> String {
    server.stella(&["ledger", "checkpoint", "--sign-now"], 0).await
}

fn cosigned(note: &str, witness: &WitnessKey) -> usize {
    Note::parse(note).unwrap().cosigned_by(std::slice::from_ref(witness)).unwrap().len()
}

async fn component(server: &TestServer, name: &str) -> Value {
    let health = server.client.get("/admin/health").await.ok();
    let components = health["components"].as_array().unwrap().clone();
    components.into_iter().find(|component| component["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_cosigned_over_restarts_of_both() {
    let signing = Signing::draw().await;
    let mut witness = TestWitness::start(&[&signing.key]).await;
    let mut server = signing.server(&witness).start().await;
    server.client.register(&spec()).await;
    let run = server.client.run(&json!({"dagId": "one"})).await;
    let note = sign_now(&server).await;
    assert_eq!(cosigned(&note, &witness.key), 1, "{note}");
    // The same note everywhere.
    let size = Note::parse(&note).unwrap().checkpoint().size.to_string();
    assert_eq!(server.stella(&["ledger", "checkpoint", "--size", &size], 0).await, note);
    let kept = fs::read_to_string(server.data_dir().join("checkpoints/main")).unwrap();
    assert_eq!(kept, note);
    let receipt = server.stella(&["run", "receipt", run["runId"].as_str().unwrap()], 0).await;
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(cosigned(receipt["checkpoint"].as_str().unwrap(), &witness.key), 1);
    let health = component(&server, "checkpoints").await;
    assert_eq!(health["status"], "green", "{health}");
    let metrics = server.client.get("metrics").await;
    assert!(metrics.text.contains("orchestrator_checkpoint_cosignatures 1"));

    // What the witness remembers is on its disk; what the server believes of it need not be.
    witness.restart().await;
    server.client.run(&json!({"dagId": "one"})).await;
    assert_eq!(cosigned(&sign_now(&server).await, &witness.key), 1);
    server.restart().await;
    server.client.run(&json!({"dagId": "one"})).await;
    assert_eq!(cosigned(&sign_now(&server).await, &witness.key), 1);
    // Nothing was refused on the way.
    assert_eq!(fs::read_dir(witness.data_dir().join("evidence")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_history_is_refused_and_both_sides_are_kept() {
    let signing = Signing::draw().await;
    let mut witness = TestWitness::start(&[&signing.key]).await;
    let mut first = signing.server(&witness).start().await;
    first.client.register(&spec()).await;
    for _ in 0..2 {
        first.client.run(&json!({"dagId": "one"})).await;
    }
    let shown = sign_now(&first).await;
    let size = Note::parse(&shown).unwrap().checkpoint().size;
    // From a power of two a proof does not tell which side is another one.
    assert!(!size.is_power_of_two(), "{size}: choose another history");
    first.stop().await;
    // It has forgotten nothing by then.
    witness.restart().await;

    // The same name and key, and other events.
    let second = signing.server(&witness).start().await;
    assert_eq!(cosigned(&sign_now(&second).await, &witness.key), 0);
    let behind = component(&second, "ledger").await;
    let says = format!("it has cosigned {size} events of this ledger, more than");
    assert!(behind["message"].as_str().unwrap().contains(&says), "{behind}");
    second.client.register(&spec()).await;
    for _ in 0..3 {
        second.client.run(&json!({"dagId": "one"})).await;
    }
    let note = sign_now(&second).await;
    assert_eq!(cosigned(&note, &witness.key), 0, "{note}");
    let health = component(&second, "ledger").await;
    assert_eq!(health["status"], "yellow", "it serves nevertheless: {health}");
    let message = health["message"].as_str().unwrap();
    assert!(message.contains("WITNESS_REFUSED"), "{message}");
    assert!(message.contains("signed two histories"), "{message}");

    let files = fs::read_dir(witness.data_dir().join("evidence")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("one file of evidence: {files:?}") };
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("fork-"), "{name}");
    assert!(message.contains(name), "the operator is told where it is: {message}");
    assert!(witness.log().contains(name), "and so is the witness's: {}", witness.log());
    let evidence = fs::read_to_string(file).unwrap();
    assert!(evidence.contains(&shown), "{evidence}");
    assert!(evidence.contains(&note), "{evidence}");
    // The first history goes on being cosigned.
    first.restart().await;
    first.client.run(&json!({"dagId": "one"})).await;
    assert_eq!(cosigned(&sign_now(&first).await, &witness.key), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_away_or_silent_is_left_out_and_reported() {
    let signing = Signing::draw().await;
    let mut witness = TestWitness::start(&[&signing.key]).await;
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}/w/", silent.local_addr().unwrap());
    let silent_key = WitnessKey::new("silent", &SigningKey::from_bytes(&[7; 32])).unwrap();
    let server = signing.server(&witness).args(&[
        "--witness",
        &silent_url,
        "--witness-key",
        &silent_key.to_string(),
    ]);
    let server = server.start().await;
    server.client.register(&spec()).await;
    let note = sign_now(&server).await;
    assert_eq!((cosigned(&note, &witness.key), cosigned(&note, &silent_key)), (1, 0));
    let health = component(&server, "checkpoints").await;
    assert_eq!(health["status"], "yellow", "{health}");
    assert!(health["message"].as_str().unwrap().contains("by 1 of 2"), "{health}");

    witness.kill();
    let gone = server.client.run(&json!({"dagId": "one"})).await;
    let alone = sign_now(&server).await;
    assert_eq!(cosigned(&alone, &witness.key), 0, "{alone}");
    let found = component(&server, "ledger").await["message"].to_string();
    assert!(found.contains(&format!("WITNESS_ABSENT: the witness {NAME}")), "{found}");
    assert!(found.contains("no answer within"), "{found}");
    assert!(server.log().contains(NAME), "{}", server.log());
    server.client.run(&json!({"dagId": "one"})).await;

    // What is stored stays as it is; what comes next is cosigned again.
    witness.restart().await;
    assert_eq!(cosigned(&sign_now(&server).await, &witness.key), 1);
    let size = Note::parse(&alone).unwrap().checkpoint().size.to_string();
    assert_eq!(server.stella(&["ledger", "checkpoint", "--size", &size], 0).await, alone);

    // The window that ends with the run whose checkpoint nobody cosigned, in two bundles.
    let to = gone["endedAt"].as_str().unwrap();
    let witnessed = async |name: &str, options: &[&str], code: i32| {
        let out = server.scratch(name);
        let export = ["ledger", "export", "--to", to, "--out", &out];
        server.stella(&[&export[..], options].concat(), 0).await;
        let key = witness.key.to_string();
        let verify = ["ledger", "verify", &out, "--key", &signing.key, "--witness", &key];
        stella::run(&verify, code).await;
        Note::parse(&fs::read_to_string(format!("{out}/checkpoint")).unwrap())
            .unwrap()
            .checkpoint()
            .size
    };
    let oldest = witnessed("oldest", &[], 13).await;
    let cosigned = witnessed("cosigned", &["--witnesses-needed", "1"], 0).await;
    assert_eq!(oldest.to_string(), size);
    assert!(cosigned > oldest);
    let receipt = ["run", "receipt", gone["runId"].as_str().unwrap(), "--witnesses-needed"];
    let text = server.stella(&[&receipt[..], &["1"]].concat(), 0).await;
    let receipt_note: Value = serde_json::from_str(&text).unwrap();
    let receipt_note = Note::parse(receipt_note["checkpoint"].as_str().unwrap()).unwrap();
    assert_eq!(receipt_note.checkpoint().size, cosigned);
    // One of the two never cosigns, and there is no third.
    let path = format!("/runs/{}/receipt?witnessesNeeded=", gone["runId"].as_str().unwrap());
    server.client.get(&format!("{path}2")).await.problem(503, "NOT_COSIGNED_YET");
    server.client.get(&format!("{path}3")).await.problem(422, "TOO_FEW_WITNESSES");
    let window = format!("/ledger/proofs/window?to={to}&witnessesNeeded=");
    server.client.get(&format!("{window}3")).await.problem(422, "TOO_FEW_WITNESSES");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_submission_is_answered_as_the_protocol_has_it() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let ledger: stella_domain::ids::LedgerId = "stella.example/acme".parse().unwrap();
    let vkey = VerifierKey::new(ledger.clone(), &key).to_string();
    let mut witness = TestWitness::start(&[&vkey]).await;
    let note = |size, root: u8| {
        let root = stella_domain::hash::Hash32::from([root; 32]);
        Checkpoint { ledger: ledger.clone(), size, root }.sign(&key)
    };
    let http = reqwest::Client::new();
    let url = format!("{}/add-checkpoint", witness.url());
    let post = async |body: Vec<u8>| {
        let answer = http.post(&url).body(body).send().await.unwrap();
        let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), media_type, answer.text().await.unwrap())
    };
    let submit = async |old: u64, proof: &str, note: &str| {
        post(format!("old {old}\n{proof}\n{note}").into_bytes()).await
    };
    let (status, _, line) = submit(0, "", &note(5, 1)).await;
    assert_eq!(status, 200, "{line}");
    assert_eq!(cosigned(&format!("{}{line}", note(5, 1)), &witness.key), 1);

    let plain = "text/plain; charset=utf-8";
    let size_type = "text/x.tlog.size";
    let forged = Checkpoint {
        ledger: ledger.clone(),
        size: 9,
        root: stella_domain::hash::Hash32::from([1; 32]),
    };
    let forged = forged.sign(&SigningKey::from_bytes(&[4; 32]));
    let elsewhere = note(9, 1).replace("acme", "other");
    let hash = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    for (old, proof, note, status, media_type) in [
        (0, "", note(9, 1), 409, size_type),
        (0, "", elsewhere, 404, plain),
        (5, "", forged, 403, plain),
        (10, "", note(9, 1), 400, plain),
        (5, "", note(5, 2), 409, plain),
        (5, hash, note(9, 1), 422, plain),
        (5, "x\n", note(9, 1), 400, plain),
        (5, "", "no note".to_owned(), 400, plain),
    ] {
        let (found, found_type, said) = submit(old, proof, &note).await;
        assert_eq!((found, &*found_type), (status, media_type), "{old} {proof}{note}: {said}");
        if media_type == size_type {
            assert_eq!(said, "5\n");
        }
    }
    assert_eq!(post(vec![0xff, 0xfe]).await.0, 400);
    assert_eq!(post(vec![b'a'; 70_000]).await.0, 413);
    assert_eq!(http.get(&url).send().await.unwrap().status().as_u16(), 405);
    assert_eq!(http.get(witness.url()).send().await.unwrap().status().as_u16(), 404);
    // Both sides of the two that show, or may show, another history.
    assert_eq!(fs::read_dir(witness.data_dir().join("evidence")).unwrap().count(), 2);
    // And it still cosigns what it knows.
    assert_eq!(submit(5, "", &note(5, 1)).await.0, 200);

    // Two of them on one memory, or one that has lost it, could cosign two histories.
    let args = witness.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    stella::run(&args, 1).await;
    witness.kill();
    for file in fs::read_dir(witness.data_dir().join("logs")).unwrap() {
        fs::write(file.unwrap().path(), "forgotten").unwrap();
    }
    stella::run(&args, 1).await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (data, key) = (path("data"), path("key"));
    let witness = ["witness", "--data-dir", &data];
    let vkey = stella::run(&["ledger", "key", "generate", "--out", &key], 0).await;
    let (vkey, name) = (vkey.trim(), ["--name", "w1"]);
    for more in [
        &name[..],
        &["--log", vkey],
        &["--log", vkey, "--name", "two words"],
        &["--log", "stella.local/main+00000000+AQ==", "--name", "w1"],
        // A witness's key is no log's.
        &["--log", "w1+1dd0b5a5+BFFafrEGlqv49YpmR2Z5tc4Hrbp+VLfuILZP/B6FbQWV", "--name", "w1"],
        &["--log", vkey, "--name", "w1", "--key-file", "nowhere"],
    ] {
        stella::run(&[&witness[..], more].concat(), 2).await;
    }
    let url = "http://127.0.0.1:1";
    let wkey = path("witness-key");
    let wkey = ["ledger", "key", "generate", "--witness", "w1", "--out", &wkey];
    let wkey = stella::run(&wkey, 0).await;
    let wkey = wkey.trim();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    for more in [
        &["--witness", url][..],
        &["--witness-key", wkey],
        &["--witness", url, "--witness-key", vkey],
        &["--witness", "ftp://127.0.0.1", "--witness-key", wkey],
        &["--witness", url, "--witness-key", wkey, "--witness", url, "--witness-key", wkey],
    ] {
        stella::run(&[&serve[..], more].concat(), 2).await;
    }
}
