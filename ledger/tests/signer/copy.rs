//! A ledger that moves keeps its checkpoints.

use std::sync::atomic::Ordering;

use stella_domain::checkpoint::{Checkpoint, WitnessKey};
use stella_ledger::{
    checkpoints::{cosigners::Quorum, store::StoredNote},
    conformance::Samples,
    copy::{CopyError, copy},
    uri::Storage,
};
use tempfile::TempDir;

use crate::{
    histories::{commits, config, id, key, open, proofs, turning},
    storage,
};

async fn notes(storage: &Storage) -> Vec<StoredNote> {
    let (mut found, mut from) = (vec![], 0);
    while let Some(note) = storage.checkpoints.note_from(&id().tenant, from).await.unwrap() {
        from = note.size + 1;
        found.push(note);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_and_tiles_go_along() {
    let dirs = [(); 3].map(|()| TempDir::new().unwrap());
    let (source, target) = (storage(dirs[0].path()).await, storage(dirs[1].path()).await);
    let tenant = &id().tenant;
    let mut samples = Samples::new("acme");
    let (signer, _) = open(config(dirs[2].path(), 1), &source).await.unwrap();
    for (rounds, copied) in [(4, 5), (2, 2), (0, 0)] {
        for _ in 0..rounds {
            source.ledger.append(&commits(&mut samples, 300)).await.unwrap();
            signer.sign_new().await.unwrap();
        }
        let done = copy(&source, &target, tenant, |_| {}).await.unwrap();
        // The first checkpoint of all is that of the first event.
        assert_eq!((done.head, done.checkpoints), (samples.head(), copied));
        assert_eq!(notes(&target).await, notes(&source).await);
    }
    // A proof there is made of what was copied, not of all events.
    let counting = turning::Ledger::new(&target, &target);
    let counted = Storage {
        ledger: counting.clone(),
        checkpoints: std::sync::Arc::clone(&target.checkpoints),
    };
    let (from, to) = (proofs(&source), proofs(&counted));
    let covering = from.oldest_checkpoint_covering(tenant, 1_000, &Quorum::default()).await;
    let Checkpoint { size, .. } = covering.unwrap().unwrap().checkpoint;
    let newest = from.newest(tenant).await.unwrap().unwrap().checkpoint;
    let proof = from.consistency(&newest, size).await.unwrap();
    assert_eq!(to.consistency(&newest, size).await.unwrap(), proof);
    let read = counting.events_read.load(Ordering::SeqCst);
    assert!(read < 5 * 256, "{read} of {} events were read", newest.size);
    // And whoever signed goes on there.
    let (signer, gate) = open(config(dirs[2].path(), 1), &target).await.unwrap();
    signer.sign_new().await.unwrap();
    assert_eq!(gate.findings(), []);
}

#[tokio::test]
async fn a_checkpoint_that_is_not_of_the_events_stops_the_copy() {
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let (source, target) = (storage(dirs[0].path()).await, storage(dirs[1].path()).await);
    let tenant = &id().tenant;
    let mut samples = Samples::new("acme");
    source.ledger.append(&commits(&mut samples, 30)).await.unwrap();
    let root = stella_domain::hash::Hash32::ZERO;
    let forged = Checkpoint { ledger: id(), size: 20, root }.sign(&key(1));
    source.checkpoints.insert_note(tenant, 20, &forged).await.unwrap();
    let stopped = copy(&source, &target, tenant, |_| {}).await;
    assert!(matches!(stopped, Err(CopyError::NotAsSigned { size: 20 })), "{stopped:?}");
    assert_eq!(notes(&target).await, []);
}

#[tokio::test]
async fn a_source_whose_end_was_cut_off_is_told_of() {
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let (source, target) = (storage(dirs[0].path()).await, storage(dirs[1].path()).await);
    let tenant = &id().tenant;
    let mut samples = Samples::new("acme");
    source.ledger.append(&commits(&mut samples, 3)).await.unwrap();
    let events = samples.head().next_seq;
    let root = stella_domain::hash::Hash32::ZERO;
    let beyond = Checkpoint { ledger: id(), size: 99, root }.sign(&key(1));
    source.checkpoints.insert_note(tenant, 99, &beyond).await.unwrap();
    let told = copy(&source, &target, tenant, |_| {}).await;
    let is_it = matches!(&told, Err(CopyError::Shorter { size: 99, events: n }) if *n == events);
    assert!(is_it, "{told:?}");
    assert_eq!(target.ledger.head(tenant).await.unwrap(), samples.head());
}

#[tokio::test]
async fn the_oldest_checkpoint_that_enough_witnesses_cosigned_is_found_behind_thousands() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let tenant = &id().tenant;
    let root = stella_domain::hash::Hash32::ZERO;
    let keys = [5, 6].map(|seed| WitnessKey::new("w.example", &key(seed)).unwrap());
    let note = |size, cosigners: &[u8]| {
        let checkpoint = Checkpoint { ledger: id(), size, root };
        let mut note = checkpoint.sign(&key(1));
        for seed in cosigners {
            note += &checkpoint.cosign("w.example", 1_795_424_500, &key(*seed)).unwrap();
        }
        note
    };
    for size in 1..2_500 {
        storage.checkpoints.insert_note(tenant, size, &note(size, &[])).await.unwrap();
    }
    for (size, cosigners) in [(2_500, &[5][..]), (2_501, &[5, 6]), (2_502, &[5, 6])] {
        storage.checkpoints.insert_note(tenant, size, &note(size, cosigners)).await.unwrap();
    }
    let proofs = proofs(&storage);
    for (size, needed, found) in [
        (7, 0, Some(7)),
        (7, 1, Some(2_500)),
        (7, 2, Some(2_501)),
        (2_502, 2, Some(2_502)),
        (2_503, 1, None),
    ] {
        let quorum = Quorum { witnesses: keys.to_vec().into(), needed };
        let oldest = proofs.oldest_checkpoint_covering(tenant, size, &quorum).await.unwrap();
        assert_eq!(oldest.map(|noted| noted.checkpoint.size), found, "{size} {needed}");
    }
}
