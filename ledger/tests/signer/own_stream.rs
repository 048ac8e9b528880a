//! The ledger's own stream, with as many erasures in it as there may be in years.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stella_domain::{
    chain::{Commit, Draft, Head},
    checkpoint::SigningKeyRotated,
    event::{DataErased, Event, LedgerEvent, NoData, Reason},
    hash::Salt,
    ids::RunId,
    time::Timestamp,
};
use stella_ledger::{
    checkpoints::signer::Signer,
    conformance::Samples,
    erasure::{self, Erasures, Known, Mark},
    uri::Storage,
};
use tempfile::TempDir;

use crate::{
    histories::{commits, config, id, key, open, turning},
    storage,
};

/// The run that this erasure is of.
fn run_id(n: u64) -> RunId {
    format!("{n:026}").parse().unwrap()
}

/// The own stream in the making, between samples of other streams.
struct Own {
    head: Head,
    version: u64,
}

impl Own {
    fn commit(&mut self, event: LedgerEvent) -> Arc<Commit> {
        let draft = Draft {
            stream: "ledger/acme".parse().unwrap(),
            stream_version: self.version + 1,
            actor: "user:admin".parse().unwrap(),
            events: vec![(Event::Ledger(event).encode(), Salt::ZERO)],
        };
        let at = Timestamp::from_micros(self.head.recorded_at.as_micros() + 1);
        let commit = Commit::seal(&Arc::new(id()), &self.head, at, draft).unwrap();
        (self.head, self.version) = (commit.head(), self.version + 1);
        Arc::new(commit)
    }

    /// The erasure of the run with this number, which names the event with it.
    fn erasure(&mut self, n: u64) -> Arc<Commit> {
        let reason = Some(Reason { reason: "request 17".to_owned() });
        let erased = DataErased { run_id: run_id(n), seqs: vec![n] };
        self.commit(LedgerEvent::DataErased(erased, reason))
    }
}

/// A ledger whose key was rotated early, and that then had so many erasures.
async fn with_erasures(dir: &TempDir, erasures: u64) -> (Storage, Own) {
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    storage.ledger.append(&commits(&mut samples, 3)).await.unwrap();
    let mut own = Own { head: samples.head(), version: 0 };
    let rotation = Box::new(SigningKeyRotated::sign(&id(), &key(1), &key(2)));
    let rotated = own.commit(LedgerEvent::SigningKeyRotated(rotation));
    storage.ledger.append(&[rotated]).await.unwrap();
    let all: Vec<_> = (0..erasures).map(|n| own.erasure(n)).collect();
    storage.ledger.append(&all).await.unwrap();
    (storage, own)
}

/// The same ledger, counting what is read of it.
fn counted(storage: &Storage) -> (Arc<turning::Ledger>, Storage) {
    let counting = turning::Ledger::new(storage, storage);
    let checkpoints = Arc::clone(&storage.checkpoints);
    (Arc::clone(&counting), Storage { ledger: counting, checkpoints })
}

async fn pins(signer: &Signer) -> Vec<String> {
    signer.pinned().await.0.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_start_reads_little_of_a_thousand_erasures_and_knows_the_keys() {
    let dir = TempDir::new().unwrap();
    let (storage, mut own) = with_erasures(&dir, 2_000).await;
    let (signer, _) = open(config(dir.path(), 2), &storage).await.unwrap();
    signer.sign_new().await.unwrap().unwrap();
    let known = pins(&signer).await;
    assert_eq!(known.len(), 2, "{known:?}");
    // It is kept in a while.
    let kept = dir.path().join("snapshots/acme/ledger/acme.json");
    let is_kept = async {
        while !kept.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_kept).await.expect("a snapshot is kept");
    let further: Vec<_> = (2_000..2_100).map(|n| own.erasure(n)).collect();
    storage.ledger.append(&further).await.unwrap();
    signer.sign_new().await.unwrap().unwrap();

    let (counting, again) = counted(&storage);
    let (signer, _) = open(config(dir.path(), 2), &again).await.unwrap();
    assert_eq!(pins(&signer).await, known);
    let read = counting.events_read.swap(0, Ordering::SeqCst);
    assert!(read < 100 + 2 * 256, "{read} events were read at the start");

    // Without it, all are: what was counted is what is saved.
    std::fs::remove_file(kept).unwrap();
    let (signer, _) = open(config(dir.path(), 2), &again).await.unwrap();
    assert_eq!(pins(&signer).await, known);
    let read = counting.events_read.load(Ordering::SeqCst);
    assert!(read > 2_100, "{read} events were read at the start");
}

#[tokio::test]
async fn an_erasure_is_found_by_what_it_comes_after() {
    let dir = TempDir::new().unwrap();
    let (storage, own) = with_erasures(&dir, 3_000).await;
    let first = own.head.next_seq - 3_000;
    let (counting, storage) = counted(&storage);
    let tenant = &id().tenant;
    for seq in [0, first - 1, first, first + 1, first + 15, first + 1_234, own.head.next_seq - 1] {
        let mut erasures = Erasures::after(&*storage.ledger, tenant, seq).await.unwrap();
        let page = erasures.next().await.unwrap();
        let begins = page.first().map(|recorded| recorded.commit.seq);
        // With some before it, at most a page.
        assert!(begins.is_some_and(|begins| begins <= seq.max(first)), "{begins:?} for {seq}");
        assert!(begins.is_some_and(|begins| begins + 32 > seq), "{begins:?} for {seq}");
    }
    let read = counting.events_read.swap(0, Ordering::SeqCst);
    assert!(read < 7 * 50, "{read} events were read");
    let mut beyond = Erasures::after(&*storage.ledger, tenant, u64::MAX - 1).await.unwrap();
    beyond.next().await.unwrap();
    assert!(beyond.next().await.unwrap().is_empty());

    let of_run = erasure::of_run(&*storage.ledger, tenant, &run_id(2_990), first + 2_900).await;
    let seqs: Vec<u64> = of_run.unwrap().iter().map(|recorded| recorded.commit.seq).collect();
    assert_eq!(seqs, [first + 2_990]);
    let read = counting.events_read.load(Ordering::SeqCst);
    assert!(read < 7 * 50 + 200, "{read} events were read");
}

#[tokio::test]
async fn how_far_erasures_are_carried_out_counts_in_the_ledger_that_it_was_found_in() {
    let dir = TempDir::new().unwrap();
    let (storage, mut own) = with_erasures(&dir, 5).await;
    let (ledger, tenant) = (&*storage.ledger, &id().tenant);
    let mark = Mark::new(dir.path().join("erasures/acme"));
    assert_eq!(mark.load(ledger, tenant).await.unwrap(), Known::NOTHING);
    let last = ledger.read(tenant, own.head.next_seq - 1, 1).await.unwrap().remove(0);
    mark.store(&last).await;
    let known = Known { from_version: own.version + 1, carried_out: own.head.next_seq };
    assert_eq!(mark.load(ledger, tenant).await.unwrap(), known);
    let sealed = own.commit(LedgerEvent::LedgerSealed(NoData {}, None));
    ledger.append(&[sealed]).await.unwrap();
    assert_eq!(mark.load(ledger, tenant).await.unwrap(), known);

    // Another history, a shorter one, and what is no mark.
    let others = TempDir::new().unwrap();
    let (other, mut rival) = with_erasures(&others, 4).await;
    assert_eq!(mark.load(&*other.ledger, tenant).await.unwrap(), Known::NOTHING);
    other.ledger.append(&[rival.erasure(7), rival.erasure(8)]).await.unwrap();
    assert_eq!(mark.load(&*other.ledger, tenant).await.unwrap(), Known::NOTHING);
    std::fs::write(dir.path().join("erasures/acme"), "{}").unwrap();
    assert_eq!(mark.load(ledger, tenant).await.unwrap(), Known::NOTHING);
}
