//! A bundle is made and verified in memory that does not grow with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path, pin::pin, sync::Arc};

use futures::TryStreamExt as _;
use stella_domain::{
    chain::{Commit, Draft, Head},
    checkpoint::{Checkpoint, PinnedKey, SigningKey, VerifierKey},
    event::EncodedEvent,
    hash::Salt,
    ids::{LedgerId, Tenant},
    json::CanonicalJson,
    merkle::Frontier,
    time::Timestamp,
};
use stella_ledger::{
    checkpoints::{cosigners::Quorum, proofs::Proofs},
    sqlite::SqliteLedger,
    uri::Storage,
};
use stella_replay::{
    bundle::{BundleWriter, Destination, prove},
    export::{Window, chunks},
    verify::judge_ledger,
};
use stella_verify::{Bundle, Trust, Verdict, verify_bundle};

/// Events of the ledger at least, and bytes of each one's payload.
const EVENTS: u64 = 60_000;
const PAYLOAD: usize = 1_400;
/// Events of a commit.
const AT_ONCE: u64 = 100;
/// What four times as much may take on top of what the process has after the first quarter.
const ON_TOP_KIB: u64 = 24 * 1024;

fn id() -> LedgerId {
    "stella.example/acme".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How much more memory the process had at its peak while this was done than before, in KiB.
async fn on_top<T>(done: impl Future<Output = T>) -> (T, u64) {
    // proc_pid_clear_refs(5): the peak is set to what is used now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_kib("VmRSS:");
    let outcome = done.await;
    (outcome, status_kib("VmHWM:").saturating_sub(before))
}

/// A signed ledger, a commit each microsecond.
async fn recorded(storage: &Storage) {
    let (ledger, payload) = (Arc::new(id()), format!(r#"{{"text":"{}"}}"#, "x".repeat(PAYLOAD)));
    let payload = CanonicalJson::parse(&payload).unwrap();
    let data = [r#"{"stepId":"only"}"#, r#"{"format":1,"tenant":"acme"}"#];
    let data = data.map(|text| CanonicalJson::parse(text).unwrap());
    let (mut head, mut tree) = (Head::EMPTY, Frontier::default());
    let mut at = Timestamp::ZERO;
    while head.next_seq < EVENTS {
        at = Timestamp::from_micros(at.as_micros() + 1);
        let is_first = head == Head::EMPTY;
        let event = |_| {
            let (data, payload) =
                (data[usize::from(is_first)].clone(), (!is_first).then(|| payload.clone()));
            let event_type = if is_first { "LedgerOpened" } else { "StepSucceeded" };
            (EncodedEvent { event_type, schema: 1, data, payload }, Salt::from([7; 16]))
        };
        let stream = if is_first { "ledger/acme" } else { "run/01KAR5T0000000000000000001" };
        let draft = Draft {
            stream: stream.parse().unwrap(),
            stream_version: head.next_seq.max(1),
            actor: "worker:w-1".parse().unwrap(),
            events: (0..if is_first { 1 } else { AT_ONCE }).map(event).collect(),
        };
        let commit = Arc::new(Commit::seal(&ledger, &head, at, draft).unwrap());
        commit.events.iter().for_each(|event| tree.append(&event.hash));
        head = commit.head();
        storage.ledger.append(&[commit]).await.unwrap();
    }
    let (size, root) = (tree.size(), tree.root());
    let note = Checkpoint { ledger: id(), size, root }.sign(&key());
    storage.checkpoints.insert_note(&id().tenant, size, &note).await.unwrap();
}

#[tokio::test]
async fn memory_does_not_grow_with_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::of(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
    recorded(&storage).await;
    let tenant: Tenant = id().tenant;
    let trust = Trust::new(vec![PinnedKey::always(VerifierKey::new(id(), &key()))]);
    let proofs = Proofs::new(storage.clone(), id().origin);

    let export = async |commits: u64| {
        let (ledger, to) = (&storage.ledger, Timestamp::from_micros(commits as i64));
        let window = Window::resolve(&**ledger, &tenant, Timestamp::ZERO, to).await.unwrap();
        let quorum = Quorum::default();
        let proof = prove(&**ledger, &proofs, &tenant, window, None, &quorum).await.unwrap();
        let path = dir.path().join(commits.to_string());
        let mut writer = BundleWriter::create(Destination::new(&path), 0).unwrap();
        let mut chunks = pin!(chunks(Arc::clone(ledger), tenant.clone(), window, 0));
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            writer.events(chunk.text.as_bytes()).unwrap();
        }
        (writer.finish(&proof, &mut |_| true).unwrap(), path)
    };
    let verify = async |path: &Path| {
        let report = verify_bundle(&Bundle::open(path).unwrap(), &trust, &mut |_| {}).unwrap();
        assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    };
    let judge = async || judge_ledger(&storage, &tenant, &trust, &mut |_| {}).await.unwrap();

    let commits = EVENTS / AT_ONCE;
    let (small, small_path) = export(commits / 4).await;
    let ((large, large_path), exporting) = on_top(export(commits)).await;
    let [small, large] = [small, large].map(|manifest| manifest.files.events.bytes / 1024);
    assert!(large > 3 * small && large - small > 3 * ON_TOP_KIB, "{small} and {large} KiB");
    assert!(exporting < ON_TOP_KIB, "exporting {large} KiB took {exporting} KiB more");

    verify(&small_path).await;
    let ((), verifying) = on_top(verify(&large_path)).await;
    assert!(verifying < ON_TOP_KIB, "verifying {large} KiB took {verifying} KiB more");

    let (report, judging) = on_top(judge()).await;
    assert_eq!((report.verdict, report.read.events), (Verdict::Verified, EVENTS + 1));
    assert!(judging < ON_TOP_KIB, "judging {large} KiB took {judging} KiB more");
}
