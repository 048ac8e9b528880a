//! What is found when a storage is looked over after somebody went behind the ledger's back: on
//! any storage.

use std::{collections::BTreeMap, sync::Arc};

use stella_domain::{
    chain::{Commit, Draft, Head, StoredPayload},
    checkpoint::{Checkpoint, Keyring, PinnedKey, VerifierKey},
    event::{DataErased, LedgerEvent, NoData, Reason},
    hash::{Hash32, Salt},
};
use stella_ledger::{
    conformance::Samples,
    fsck::{LISTED, Report, fsck, scan::Scan},
    uri::Storage,
};

use crate::histories;

/// What is done to the commit that begins at a seq, or to what is stored beside the commits.
pub(crate) enum Damage {
    /// Its data says something else.
    Data(u64),
    /// Everybody's commits were somebody else's.
    Actors,
    /// Nothing keeps commits from being put in between others any more.
    Order,
    /// It is gone.
    Removed(u64),
    /// It links to another event.
    Prev(u64),
    /// It was recorded at the beginning of time.
    Time(u64),
    /// It is somebody else's.
    Origin(u64),
    /// It ends elsewhere, by its own column.
    LastSeq(u64),
    /// It has no events that could be read.
    Unreadable(u64),
    /// The lowest tile of this index has another root, or none.
    Tile(u64, Option<Hash32>),
    /// Another note stands under this size.
    Note(u64, String),
}

/// A storage, and the way behind its back.
pub(crate) trait Place {
    fn storage(&self) -> &Storage;
    fn scan(&self) -> &Arc<dyn Scan>;
    async fn damage(&self, damage: Damage);
}

/// A signed ledger; answers where its commits begin, and the sizes that were signed.
async fn recorded(place: &impl Place) -> (Vec<u64>, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let mut samples = Samples::new("acme");
    let (mut begins, mut signed) = (vec![], vec![1]);
    let storage = place.storage();
    let (signer, _) = histories::open(histories::config(dir.path(), 1), storage).await.unwrap();
    for count in [150, 150] {
        let commits = histories::commits(&mut samples, count);
        begins.extend(commits.iter().map(|commit| commit.seq));
        storage.ledger.append(&commits).await.unwrap();
        signed.push(signer.sign_new().await.unwrap().unwrap().checkpoint.size);
    }
    (begins, signed)
}

async fn looked_over(place: &impl Place, keys: Option<&Keyring>) -> Report {
    let (storage, tenant) = (place.storage(), histories::id().tenant);
    fsck(storage, place.scan(), &tenant, keys, &mut |_| {}).await.unwrap()
}

fn keyring(seed: u8) -> Keyring {
    let key = VerifierKey::new(histories::id(), &histories::key(seed));
    Keyring(vec![PinnedKey::always(key)])
}

pub(crate) async fn everything_wrong_is_found<P: Place>(fresh: impl AsyncFn() -> P) {
    let good = fresh().await;
    let (begins, signed) = recorded(&good).await;
    let report = looked_over(&good, Some(&keyring(1))).await;
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.commits, report.streams), (300, 1));
    assert_eq!((report.events, report.checkpoints), (signed[2], 3));
    assert_eq!(report.tiles, signed[2] / 256);
    let foreign = looked_over(&good, Some(&keyring(2))).await;
    assert_eq!(foreign.counts, BTreeMap::from([("CHECKPOINT_NOT_SIGNED", 3)]));

    let (seq, last) = (begins[100], begins[299]);
    let forged = Checkpoint { ledger: histories::id(), size: signed[1], root: Hash32::ZERO };
    let forged = forged.sign(&histories::key(1));
    let other = Some(Hash32::from([7; 32]));
    for (damages, counts) in [
        (vec![Damage::Data(seq)], &[("CONTENT_CHANGED", 1)][..]),
        (vec![Damage::Actors], &[("CONTENT_CHANGED", 300)]),
        (
            vec![Damage::Removed(seq)],
            &[("EVENTS_MISSING", 1), ("STREAM_GAP", 1), ("TREE_INTERRUPTED", 1)],
        ),
        (vec![Damage::Prev(seq)], &[("CHAIN_BROKEN", 1), ("CONTENT_CHANGED", 1)]),
        (vec![Damage::Time(seq)], &[("CONTENT_CHANGED", 1), ("TIME_BACKWARDS", 1)]),
        (vec![Damage::Origin(seq)], &[("CONTENT_CHANGED", 1), ("OTHER_LEDGER", 1)]),
        (vec![Damage::LastSeq(seq)], &[("COMMIT_MISPLACED", 1), ("STREAM_GAP", 1)]),
        (vec![Damage::Unreadable(seq)], &[("COMMIT_UNREADABLE", 1), ("TREE_INTERRUPTED", 1)]),
        (vec![Damage::Tile(1, other)], &[("TILE_WRONG", 1)]),
        (vec![Damage::Tile(1, None)], &[("TILE_MISSING", 1)]),
        (vec![Damage::Note(signed[1], forged)], &[("CHECKPOINT_CONTRADICTS", 1)]),
        (vec![Damage::Note(signed[1], "no note".into())], &[("CHECKPOINT_UNREADABLE", 1)]),
        (vec![Damage::Removed(last)], &[("CHECKPOINT_BEYOND_END", 1)]),
        // One does not hide the other.
        (
            vec![Damage::Data(seq), Damage::Data(begins[200]), Damage::Tile(0, other)],
            &[("CONTENT_CHANGED", 2), ("TILE_WRONG", 1)],
        ),
        (
            vec![Damage::Unreadable(seq), Damage::Removed(begins[200])],
            &[
                ("COMMIT_UNREADABLE", 1),
                ("EVENTS_MISSING", 1),
                ("STREAM_GAP", 1),
                ("TREE_INTERRUPTED", 1),
            ],
        ),
    ] {
        let place = fresh().await;
        recorded(&place).await;
        for damage in damages {
            place.damage(damage).await;
        }
        let report = looked_over(&place, None).await;
        assert_eq!(report.counts, counts.iter().copied().collect(), "{:?}", report.problems);
        assert!(!report.is_sound());
        let all: u64 = report.counts.values().sum();
        assert_eq!(report.problems.len() as u64, all.min(LISTED as u64));
    }
}

/// A commit that somebody put in the midst of another one's events.
pub(crate) async fn commits_that_overlap_are_found<P: Place>(fresh: impl AsyncFn() -> P) {
    let place = fresh().await;
    let (begins, _) = recorded(&place).await;
    let i = (100..).find(|i| begins[i + 1] - begins[*i] == 3).unwrap();
    let tenant = histories::id().tenant;
    let within = place.storage().ledger.read(&tenant, begins[i], 1).await.unwrap().remove(0);
    let head = Head { next_seq: begins[i] + 2, hash: within.events[1].hash, ..within.head() };
    let event = LedgerEvent::LedgerSealed(NoData {}, None).encode();
    let draft = Draft {
        stream: "ledger/acme".parse().unwrap(),
        stream_version: 1,
        actor: "user:a".parse().unwrap(),
        events: vec![(event, Salt::from([1; 16]))],
    };
    let put_in = Commit::seal(&within.ledger, &head, head.recorded_at, draft).unwrap();
    place.damage(Damage::Order).await;
    place.storage().ledger.append(&[Arc::new(put_in)]).await.unwrap();
    let report = looked_over(&place, None).await;
    let counts = [("CHAIN_BROKEN", 1), ("EVENTS_TWICE", 1), ("TREE_INTERRUPTED", 1)];
    assert_eq!(report.counts, counts.into_iter().collect(), "{:?}", report.problems);
    assert_eq!(report.problems[0].seq, Some(begins[i] + 2));
}

/// A payload that is gone without a word, and one that is there although it should be gone.
pub(crate) async fn payloads_and_erasures_fit<P: Place>(fresh: impl AsyncFn() -> P) {
    let mut samples = Samples::new("acme");
    let mut commits = histories::commits(&mut samples, 3);
    let (gone, there) = (commits[1].seq, commits[2].seq);
    let payload = &mut Arc::make_mut(&mut commits[1]).events[0].payload;
    assert!(payload.json().is_some());
    *payload = StoredPayload::Erased(payload.hash());
    let erased = |seqs: &[u64]| {
        let run_id = "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap();
        let reason = Some(Reason { reason: "request 17".to_owned() });
        let event = LedgerEvent::DataErased(DataErased { run_id, seqs: seqs.to_vec() }, reason);
        let draft = Draft {
            stream: "ledger/acme".parse().unwrap(),
            stream_version: 1,
            actor: "user:a".parse().unwrap(),
            events: vec![(event.encode(), Salt::from([1; 16]))],
        };
        let (ledger, head) = (&commits[0].ledger, samples.head());
        Arc::new(Commit::seal(ledger, &head, head.recorded_at, draft).unwrap())
    };
    for (more, problems) in [
        (None, &[("ERASURE_UNLOGGED", gone)][..]),
        (Some(erased(&[gone])), &[]),
        (Some(erased(&[there])), &[("ERASURE_UNFINISHED", there), ("ERASURE_UNLOGGED", gone)]),
    ] {
        let place = fresh().await;
        let commits: Vec<_> = commits.iter().cloned().chain(more).collect();
        place.storage().ledger.append(&commits).await.unwrap();
        let report = looked_over(&place, None).await;
        let found: Vec<_> = report.problems.iter().map(|p| (p.code, p.seq.unwrap())).collect();
        assert_eq!(found, problems, "{:?}", report.problems);
        assert_eq!(report.is_sound(), problems.is_empty());
    }
}
