//! Whole ledgers, as they are stored, against the checkpoint beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use stella_domain::{
    chain::{Commit, Draft, Head},
    checkpoint::{Checkpoint, PinnedKey, SigningKey, VerifierKey},
    event::EncodedEvent,
    hash::{Hash32, Salt},
    ids::LedgerId,
    json::CanonicalJson,
    merkle::root,
    time::Timestamp,
};
use stella_verify::{LedgerJudge, LedgerReport, Trust, Verdict};

const RUN: &str = "run/01KAR5T0000000000000000001";

fn id() -> LedgerId {
    "stella.example/acme".parse().unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn trust(seed: u8) -> Trust {
    let pinned: PinnedKey = VerifierKey::new(id(), &key(seed)).to_string().parse().unwrap();
    Trust::new(vec![pinned])
}

/// Lines of a ledger, and the hashes of their events.
#[derive(Clone)]
struct Ledger {
    lines: Vec<String>,
    hashes: Vec<Hash32>,
}

/// Eight events: opened, a run of six of which 2, 4 and 6 have payloads, and, last, the erasure of the
/// payload of 2. `note` is in each payload: two notes make two histories.
fn ledger(note: &str) -> Ledger {
    let event = |event_type, data: &str, payload: Option<String>| EncodedEvent {
        event_type,
        schema: 1,
        data: CanonicalJson::parse(data).unwrap(),
        payload: payload.map(|text| CanonicalJson::parse(&text).unwrap()),
    };
    let named = r#"{"runId":"01KAR5T0000000000000000001","seqs":[2]}"#;
    let mut story =
        vec![("ledger/acme", 1, event("LedgerOpened", r#"{"format":1,"tenant":"acme"}"#, None))];
    for n in 1..7 {
        let payload = (n % 2 == 0).then(|| format!(r#"{{"note":"{note}"}}"#));
        story.push((RUN, n, event("StepQueued", "{}", payload)));
    }
    let reason = Some(r#"{"reason":"asked"}"#.to_owned());
    story.push(("ledger/acme", 2, event("DataErased", named, reason)));
    let (mut head, mut made) = (Head::EMPTY, Ledger { lines: vec![], hashes: vec![] });
    for (at, (stream, stream_version, event)) in (1..).zip(story) {
        let (stream, actor) = (stream.parse().unwrap(), "user:ann".parse().unwrap());
        let draft =
            Draft { stream, stream_version, actor, events: vec![(event, Salt::from([9; 16]))] };
        let at = Timestamp::from_micros(at);
        let commit = Commit::seal(&Arc::new(id()), &head, at, draft).unwrap();
        head = commit.head();
        let mut line = String::new();
        commit.write_ndjson(&mut line);
        made.lines.push(line);
        made.hashes.push(head.hash);
    }
    made
}

impl Ledger {
    fn note(&self, size: usize, seed: u8) -> String {
        let root = root(&self.hashes[..size]);
        Checkpoint { ledger: id(), size: size as u64, root }.sign(&key(seed))
    }

    /// Without the payload of this event.
    fn blanked(mut self, seq: usize) -> Self {
        let line = &mut self.lines[seq];
        let from = line.find(",\"payload\":").unwrap();
        line.replace_range(from.., ",\"payload\":null,\"salt\":null}\n");
        self
    }

    /// The verdict on these lines, shown in two parts.
    fn judged(&self, newest: Option<&str>, trust: &Trust) -> LedgerReport {
        let mut judge = LedgerJudge::new(newest, trust);
        let (first, second) = self.lines.split_at(self.lines.len() / 2);
        judge.read(first.concat().as_bytes());
        judge.read(second.concat().as_bytes());
        judge.report()
    }
}

#[test]
fn a_whole_ledger_gets_a_verdict() {
    use Verdict::{Incomplete, Tampered, Untrusted, Verified, VerifiedWithErasures};
    let good = ledger("as told");
    let all = good.note(8, 1);
    let without = |seq: usize| {
        let mut ledger = good.clone();
        ledger.lines.remove(seq);
        ledger
    };
    let edited = |seq: usize, from: &str, to: &str| {
        let mut ledger = good.clone();
        assert!(ledger.lines[seq].contains(from));
        ledger.lines[seq] = ledger.lines[seq].replacen(from, to, 1);
        ledger
    };
    let cases = [
        ("good", good.clone(), Some(&all), Verified, None),
        ("erased", good.clone().blanked(2), Some(&all), VerifiedWithErasures, None),
        ("not all is signed", good.clone(), Some(&good.note(3, 1)), Verified, None),
        ("no checkpoint", good.clone(), None, Incomplete, None),
        ("cut", without(7), Some(&all), Incomplete, Some(7)),
        ("nothing left", Ledger { lines: vec![], hashes: vec![] }, Some(&all), Incomplete, Some(0)),
        ("begins late", without(0), Some(&all), Incomplete, Some(0)),
        ("deleted", without(3), Some(&all), Tampered, Some(3)),
        ("edited", edited(4, "as told", "as TOLD"), Some(&all), Tampered, Some(4)),
        ("a line cut", edited(4, "\n", ""), Some(&all), Tampered, Some(4)),
        ("written anew", ledger("another tale"), Some(&all), Tampered, None),
        ("unlogged", good.clone().blanked(4), Some(&all), Tampered, Some(4)),
        ("logged unsigned", good.clone().blanked(2), Some(&good.note(7, 1)), Incomplete, Some(2)),
        ("another key", good.clone(), Some(&good.note(8, 2)), Untrusted, None),
        ("no note", good.clone(), Some(&"a note".to_owned()), Tampered, None),
    ];
    for (name, ledger, newest, verdict, seq) in cases {
        let report = ledger.judged(newest.map(|note| &**note), &trust(1));
        assert_eq!((report.verdict, report.seq), (verdict, seq), "{name}: {report:?}");
        assert_eq!(report.reason.is_none(), verdict.is_good(), "{name}: {report:?}");
    }
    let report = good.judged(Some(&good.note(3, 1)), &trust(1));
    assert_eq!((report.unsigned, report.read.events), (5, 8));
    assert_eq!(report.checkpoint.unwrap().tree_size, 3);
}

#[test]
fn it_extends_the_checkpoint_that_was_kept() {
    use Verdict::{Incomplete, Tampered, Untrusted, Verified};
    let (good, other) = (ledger("as told"), ledger("another tale"));
    let newest = good.note(7, 1);
    for (name, since, verdict) in [
        ("older", good.note(5, 1), Verified),
        ("the same", newest.clone(), Verified),
        ("of nothing", good.note(0, 1), Verified),
        ("of another history", other.note(5, 1), Tampered),
        ("of another history, as large", other.note(7, 1), Tampered),
        ("newer", good.note(8, 1), Incomplete),
        ("by another key", good.note(5, 2), Untrusted),
        ("no note", "a note".to_owned(), Untrusted),
    ] {
        let report = good.judged(Some(&newest), &trust(1).since(since));
        assert_eq!(report.verdict, verdict, "{name}: {report:?}");
    }
}

#[test]
fn what_the_storage_says_is_damaged_is_tampered() {
    let good = ledger("as told");
    let newest = good.note(8, 1);
    let mut judge = LedgerJudge::new(Some(&newest), &trust(1));
    judge.read(good.lines[..3].concat().as_bytes());
    assert_eq!((judge.next_seq(), judge.wants_more()), (3, true));
    judge.damaged(Some(3), "a page is gone".to_owned());
    assert!(!judge.wants_more());
    let report = judge.report();
    assert_eq!((report.verdict, report.seq), (Verdict::Tampered, Some(3)));
    assert_eq!(report.reason.as_deref(), Some("a page is gone"));
}
