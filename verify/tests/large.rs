//! A bundle that is read in many pieces: commits that lie across them, damage anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use proptest::prelude::*;
use stella_domain::{
    chain::{Commit, Draft, Head},
    checkpoint::{Checkpoint, PinnedKey, SigningKey, VerifierKey},
    event::EncodedEvent,
    hash::{Hash32, Salt},
    ids::LedgerId,
    json::CanonicalJson,
    merkle::{range_proof, root},
    time::Timestamp,
};
use stella_verify::{
    Bundle, Report, Trust, Verdict,
    manifest::{BUNDLE_FORMAT, FileDigest, Files, Manifest, WindowTimes, names},
    verify_bundle,
};

const START: i64 = 1_795_424_400_000_000;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn ledger_id() -> Arc<LedgerId> {
    Arc::new("stella.example/acme".parse().unwrap())
}

/// Commits of 1 to 1,000 events until there are `events` and one more commit, of one event.
fn commits(events: u64) -> Vec<Commit> {
    let (id, mut head, mut commits) = (ledger_id(), Head::EMPTY, vec![]);
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    while commits.last().is_none_or(|commit: &Commit| commit.seq < events) {
        let number = commits.len() as u64;
        let size = match number {
            0 => 1,
            _ if head.next_seq >= events => 1,
            _ => [1, 3, 2, 1_000, 1, 400][(number % 6) as usize].min(events - head.next_seq),
        };
        let stream = match number {
            0 => "ledger/acme".to_owned(),
            _ => format!("run/01KAR5T00000000000000000{:02}", number % 7),
        };
        let version = versions.entry(stream.clone()).or_insert(0);
        let stream_version = *version + 1;
        *version += size;
        let event = |i: u64| {
            let event_type = if number == 0 { "LedgerOpened" } else { "StepSucceeded" };
            let data = CanonicalJson::parse(&format!("{{\"attempt\":{i},\"stepId\":\"only\"}}"));
            let payload = CanonicalJson::parse(r#"{"outputs":{"text":"as it came out"}}"#);
            let (data, payload) = (data.unwrap(), i.is_multiple_of(3).then(|| payload.unwrap()));
            (EncodedEvent { event_type, schema: 1, data, payload }, Salt::from([7; 16]))
        };
        let draft = Draft {
            stream: stream.parse().unwrap(),
            stream_version,
            actor: "worker:w-1".parse().unwrap(),
            events: (0..size).map(event).collect(),
        };
        let at = Timestamp::from_micros(START + i64::try_from(number).unwrap());
        let commit = Commit::seal(&id, &head, at, draft).unwrap();
        head = commit.head();
        commits.push(commit);
    }
    commits
}

/// The bundle of everything before the last commit, in `dir`; its lines.
fn write(dir: &Path, commits: &[Commit]) -> Vec<String> {
    let mut text = String::new();
    let (last, before) = commits.split_last().unwrap();
    before.iter().for_each(|commit| commit.write_ndjson(&mut text));
    let hashes: Vec<Hash32> =
        commits.iter().flat_map(|commit| commit.events.iter().map(|event| event.hash)).collect();
    let (size, events) = (hashes.len() as u64, last.seq);
    let proof = range_proof(&hashes[..], 0..size, size).unwrap();
    let checkpoint = Checkpoint { ledger: (*ledger_id()).clone(), size, root: root(&hashes) };
    let note = checkpoint.sign(&key());
    let (hash, header) = (hashes[hashes.len() - 1], last.header(0));
    let boundary = format!("{{\"hash\":\"{hash}\",\"header\":{header},\"side\":\"right\"}}\n");
    let manifest = Manifest {
        consistency: None,
        erased: 0,
        events,
        files: Files {
            boundary: FileDigest::of(boundary.as_bytes()),
            checkpoint: FileDigest::of(note.as_bytes()),
            erasures: FileDigest::of(b""),
            events: FileDigest::of(text.as_bytes()),
        },
        first_seq: 0,
        format: BUNDLE_FORMAT,
        last_hash: last.prev,
        last_seq: Some(events - 1),
        ledger: (*ledger_id()).clone(),
        left: proof.left,
        prev: Hash32::ZERO,
        right: proof.right,
        tree_size: size,
        window: WindowTimes { from: Timestamp::ZERO, to: last.recorded_at },
    };
    fs::write(dir.join(names::MANIFEST), manifest.to_text()).unwrap();
    fs::write(dir.join(names::CHECKPOINT), note).unwrap();
    fs::write(dir.join(names::BOUNDARY), boundary).unwrap();
    fs::write(dir.join(names::ERASURES), "").unwrap();
    fs::write(dir.join(names::EVENTS), &text).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn verify(dir: &Path) -> Report {
    let key =
        PinnedKey { key: VerifierKey::new((*ledger_id()).clone(), &key()), sizes: 0..=u64::MAX };
    verify_bundle(&Bundle::open(dir).unwrap(), &Trust::new(vec![key]), &mut |_| {}).unwrap()
}

fn write_events(dir: &Path, lines: &[String]) {
    fs::write(dir.join(names::EVENTS), lines.join("\n") + "\n").unwrap();
}

/// `LARGE_EVENTS` makes it larger, to measure.
#[test]
fn a_large_bundle_verifies() {
    let events = std::env::var("LARGE_EVENTS").map_or(4_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let lines = write(dir.path(), &commits(events));
    let report = verify(dir.path());
    assert_eq!((report.verdict, report.reason.as_deref()), (Verdict::Verified, None));
    assert_eq!(lines.len() as u64, events);
    let rate = events as f64 / report.elapsed.as_secs_f64();
    println!("{events} events, {:?}, {rate:.0} events/s", report.elapsed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Wherever the pieces are cut, the first line that is wrong is the one that is named.
    #[test]
    fn damage_is_found_at_its_line(at in 1_usize..3_999, edit in 0..6_u8) {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = write(dir.path(), &commits(4_000));
        let seq = at as u64;
        let expected = match edit {
            0 => {
                lines[at] = lines[at].replacen("only", "ONLY", 1);
                (Verdict::Tampered, Some(seq))
            }
            1 => {
                drop(lines.remove(at));
                (Verdict::Tampered, Some(seq))
            }
            2 => {
                lines.insert(at, lines[at].clone());
                (Verdict::Tampered, Some(seq + 1))
            }
            3 => {
                lines.truncate(at);
                (Verdict::Incomplete, Some(seq))
            }
            4 => {
                lines[at].push('\r');
                (Verdict::Tampered, Some(seq))
            }
            _ => {
                drop(lines.drain(..at));
                (Verdict::Incomplete, Some(0))
            }
        };
        write_events(dir.path(), &lines);
        let report = verify(dir.path());
        let why = report.reason.unwrap_or_default();
        prop_assert_eq!((report.verdict, report.seq), expected, "{}", why);
    }
}
