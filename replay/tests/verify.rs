//! Verification from the outside: golden ledgers hold, and every way of breaking one is found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, sync::Arc};

use common::{a_run_that_succeeds, fixture, golden, retries_and_a_cancel, tenant};
use proptest::prelude::*;
use stella_domain::{
    chain::{Commit, Head},
    hash::Hash32,
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    port::{AppendError, Finding, Ledger, LedgerError},
    sqlite::SqliteLedger,
};
use stella_replay::verify::{
    Broken, LINE_BYTES, Reason, Report, VerifyError, verify_files, verify_ledger, verify_reader,
};

fn verify(bytes: impl AsRef<[u8]>) -> Result<Report, Box<Broken>> {
    verify_reader(bytes.as_ref()).map_err(|error| match error {
        VerifyError::Broken(broken) => broken,
        other => panic!("{other}"),
    })
}

fn reason(bytes: impl AsRef<[u8]>) -> Reason {
    verify(bytes).expect_err("it should not verify").reason
}

/// `UPDATE_GOLDEN=1` rewrites the files.
#[test]
fn golden_ledgers_are_what_the_domain_writes_and_verify() {
    for (name, story) in [
        ("a_run_that_succeeds", a_run_that_succeeds()),
        ("retries_and_a_cancel", retries_and_a_cancel()),
    ] {
        let text = story.ndjson();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(fixture(&format!("ledgers/{name}.ndjson")), &text).unwrap();
        }
        assert_eq!(golden(name), text, "{name}: the format is fixed; this changed it");
        let report = verify(&text).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        let span = report.span.unwrap();
        let last = story.commits.last().unwrap();
        assert_eq!(report.events, story.next_seq());
        assert_eq!(report.bytes, text.len() as u64);
        assert_eq!((span.first_seq, span.last_seq, span.prev), (0, last.seq, Hash32::ZERO));
        assert_eq!(span.head, last.head().hash);
        assert_eq!(span.ledger, "stella.example/acme");
        assert_eq!(span.first_recorded_at, story.commits[0].recorded_at);
        assert_eq!(span.last_recorded_at, last.recorded_at);
    }
}

#[test]
fn the_vectors_lines_are_a_chain() {
    let vectors = fs::read_to_string(fixture("ledger-vectors.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&vectors).unwrap();
    let lines: Vec<&str> =
        vectors["events"].as_array().unwrap().iter().map(|e| e["line"].as_str().unwrap()).collect();
    let report = verify(lines.join("\n") + "\n").unwrap();
    assert_eq!(report.events, 10);
    let head = vectors["events"][9]["hash"].as_str().unwrap();
    assert_eq!(report.span.unwrap().head.to_string(), head);
}

#[test]
fn nothing_is_an_empty_window() {
    let report = verify("").unwrap();
    assert_eq!((report.events, report.span), (0, None));
}

#[test]
fn files_continue_each_other() {
    let text = golden("a_run_that_succeeds");
    let directory = tempfile::tempdir().unwrap();
    // Between any two lines, within a commit too: whoever cuts a file need not know of commits.
    let cut = text.match_indices('\n').nth(3).unwrap().0 + 1;
    let files = [directory.path().join("1.ndjson"), directory.path().join("2.ndjson")];
    fs::write(&files[0], &text[..cut]).unwrap();
    fs::write(&files[1], &text[cut..]).unwrap();
    let mut last = None;
    let whole = verify_files(&files, &mut |progress| last = Some(progress)).unwrap();
    assert_eq!(whole.span, verify(&text).unwrap().span);
    assert_eq!(last.unwrap().bytes, text.len() as u64);

    let swapped = [&files[1], &files[0]];
    let Err(VerifyError::Broken(broken)) = verify_files(&swapped, &mut |_| {}) else { panic!() };
    assert_eq!((broken.file, broken.line), (Some(files[1].clone()), 1));
    fs::write(&files[1], text[cut..].replacen("}\n", "} \n", 2)).unwrap();
    let Err(VerifyError::Broken(broken)) = verify_files(&files, &mut |_| {}) else { panic!() };
    assert_eq!((broken.file, broken.line, broken.seq), (Some(files[1].clone()), 1, Some(4)));

    let missing = [directory.path().join("none.ndjson")];
    let error = verify_files(&missing, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("none.ndjson"), "{error}");
}

#[test]
fn a_window_may_begin_and_end_between_commits() {
    let text = golden("a_run_that_succeeds");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // What a chain alone cannot see: the window is smaller than it was.
    let report = verify(lines[1..5].concat()).unwrap();
    let span = report.span.unwrap();
    assert_eq!((span.first_seq, span.last_seq), (1, 4));
    assert_ne!(span.prev, Hash32::ZERO);
    // Seq 4 is the second event of its commit.
    assert_eq!(reason(lines[4..].concat()), Reason::CutCommit { commit_seq: 3 });
}

#[test]
fn damage_is_named() {
    let text = golden("a_run_that_succeeds");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let with = |i: usize, line: String| {
        let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        lines[i] = line;
        lines.concat()
    };
    assert_eq!(reason(text.replace('\n', "\r\n")), Reason::CarriageReturn);
    assert_eq!(reason(format!("\u{feff}{text}")), Reason::ByteOrderMark);
    assert_eq!(reason(text.trim_end()), Reason::NoLineFeed);
    assert_eq!(reason(format!("{text}\n")), Reason::EmptyLine);
    assert!(matches!(reason(format!("{text}garbage\n")), Reason::Form(_)));
    assert!(matches!(reason(with(2, lines[2].replace("}\n", "}{}\n"))), Reason::Form(_)));
    assert_eq!(reason(b"{\"data\":{\"a\":\"\xff\"}}\n"), Reason::NotUtf8 { offset: 14 });
    let huge = "x".repeat(3 * LINE_BYTES);
    assert_eq!(reason(&huge), Reason::LineTooLong { limit: LINE_BYTES });
    assert_eq!(reason(huge + "\n"), Reason::LineTooLong { limit: LINE_BYTES });
    let duplicate = with(5, lines[5].repeat(2));
    assert_eq!(reason(duplicate), Reason::Seq { expected: 6, found: 5 });
    assert_eq!(reason(with(5, String::new())), Reason::Seq { expected: 5, found: 6 });

    let broken = verify(with(1, lines[1].replace("diamond", "emerald"))).unwrap_err();
    assert_eq!((broken.line, broken.seq), (2, Some(1)));
    let said = broken.to_string();
    assert!(said.starts_with("line 2 (seq 1): the content gives `dataHash`"), "{said}");
    let other_reason = lines.last().unwrap().replace("end of", "START OF");
    let payload = reason(with(lines.len() - 1, other_reason));
    assert!(matches!(payload, Reason::Hash { member: "payloadHash", .. }), "{payload}");
    let actor = reason(with(1, lines[1].replace("user:alice", "user:malice")));
    assert!(matches!(actor, Reason::Hash { member: "hash", .. }), "{actor}");
}

#[test]
fn an_erased_payload_is_counted() {
    let text = golden("a_run_that_succeeds");
    let start = text.rfind(",\"payload\":{\"reason\"").unwrap();
    let erased = format!("{},\"payload\":null,\"salt\":null}}\n", &text[..start]);
    assert_eq!(verify(&text).unwrap().erased, 0);
    assert_eq!(verify(&erased).unwrap().erased, 1);
    let half = erased.replace(",\"salt\":null}\n", ",\"salt\":\"00\"}\n");
    assert!(matches!(reason(half), Reason::Form(_)));
}

#[test]
fn a_live_ledger_is_held_to_the_same_rules() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let story = retries_and_a_cancel();
        let ledger = story.in_sqlite(directory.path()).await;
        let report = verify_ledger(&*ledger, &tenant(), &mut |_| {}).await.unwrap();
        assert_eq!(report.span, verify(story.ndjson()).unwrap().span);
        let nobody = "nobody".parse().unwrap();
        assert_eq!(verify_ledger(&*ledger, &nobody, &mut |_| {}).await.unwrap().events, 0);

        match verify_ledger(&Headless(ledger), &tenant(), &mut |_| {}).await {
            Err(VerifyError::Broken(broken)) => {
                assert_eq!(broken.reason, Reason::Seq { expected: 0, found: 1 });
            }
            other => panic!("{other:?}"),
        }
    });
}

/// A ledger whose first commit somebody deleted.
struct Headless(Arc<SqliteLedger>);

#[async_trait::async_trait]
impl Ledger for Headless {
    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.0.read(tenant, from_seq.max(1), limit).await
    }
    async fn append(&self, commits: &[Arc<Commit>]) -> Result<(), AppendError> {
        self.0.append(commits).await
    }
    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.0.head(tenant).await
    }
    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.0.is_head(tenant, next_seq).await
    }
    async fn read_streams(&self, t: &Tenant, of: &[StreamId]) -> Result<Vec<Commit>, LedgerError> {
        self.0.read_streams(t, of).await
    }
    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.0.first_at_or_after(tenant, time).await
    }
    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.0.tenants(limit).await
    }
    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.0.server_time().await
    }
    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.0.findings().await
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_byte_changed_inserted_or_removed_is_found(
        place in any::<prop::sample::Index>(),
        edit in 0..3_u8,
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"0123456789abcdef\n\r\" {}".to_vec())],
    ) {
        let good = golden("retries_and_a_cancel").into_bytes();
        let mut bytes = good.clone();
        let at = place.index(bytes.len());
        match edit {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        // Removing one of two equal neighbours and the like can also leave what was there.
        if bytes != good {
            prop_assert!(verify(&bytes).is_err(), "byte {}", at);
        }
    }

    #[test]
    fn lines_swapped_dropped_or_repeated_are_found(
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
        edit in 0..3_u8,
    ) {
        let text = golden("retries_and_a_cancel");
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        match edit {
            0 => lines.swap(a, b),
            1 => drop(lines.remove(a)),
            _ => lines.insert(b, lines[a]),
        }
        let edges = edit == 1 && (a == 0 || a == lines.len());
        if lines.concat() != text && !edges {
            prop_assert!(verify(lines.concat()).is_err());
        }
    }
}
