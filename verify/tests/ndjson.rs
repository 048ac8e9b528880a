//! Lines verified from the outside: golden ledgers hold, and every way of breaking one is found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use stella_domain::hash::Hash32;
use stella_verify::{
    LINE_BYTES, Reason,
    ndjson::{Broken, Report, VerifyError, verify_files, verify_reader},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn golden(name: &str) -> String {
    fs::read_to_string(fixture(&format!("ledgers/{name}.ndjson"))).expect("golden ledger")
}

fn verify(bytes: impl AsRef<[u8]>) -> Result<Report, Box<Broken>> {
    verify_reader(bytes.as_ref()).map_err(|error| match error {
        VerifyError::Broken(broken) => broken,
        other => panic!("{other}"),
    })
}

fn reason(bytes: impl AsRef<[u8]>) -> Reason {
    verify(bytes).expect_err("it should not verify").reason
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
    let report = verify(&erased).unwrap();
    assert_eq!((report.erased, report.erased_seqs), (1, vec![report.events - 1]));
    let half = erased.replace(",\"salt\":null}\n", ",\"salt\":\"00\"}\n");
    assert!(matches!(reason(half), Reason::Form(_)));
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
