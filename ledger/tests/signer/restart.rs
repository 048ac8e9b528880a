//! What a start reads does not grow with the ledger.

use std::sync::atomic::Ordering;

use stella_ledger::{conformance::Samples, uri::Storage};
use tempfile::TempDir;

use crate::{
    histories::{commits, config, id, open, proofs, turning},
    storage,
};

/// Events that a start, and then a proof of the first event, read of a ledger of this length.
async fn read_at_restart(events: u64) -> (u64, u64) {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    while samples.head().next_seq < events {
        storage.ledger.append(&commits(&mut samples, 2_000)).await.unwrap();
    }
    let (signer, _) = open(config(dir.path(), 1), &storage).await.unwrap();
    let signed = signer.sign_new().await.unwrap().unwrap();

    let counting = turning::Ledger::new(&storage, &storage);
    let counted = Storage { ledger: counting.clone(), checkpoints: storage.checkpoints };
    let (again, gate) = open(config(dir.path(), 1), &counted).await.unwrap();
    let newest = again.sign_new().await.unwrap().unwrap();
    assert_eq!(newest, signed);
    assert_eq!(gate.findings(), []);
    let restart = counting.events_read.swap(0, Ordering::SeqCst);
    let first = counted.ledger.read(&id().tenant, 0, 1).await.unwrap().remove(0);
    let proofs = proofs(&counted);
    proofs.inclusion(&signed.checkpoint, 0, &first.events[0].hash).await.unwrap();
    (restart, counting.events_read.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_reads_as_much_of_a_long_ledger_as_of_a_short_one() {
    // The second has whole tiles of two levels.
    for events in [4_000, 70_000] {
        let (restart, proof) = read_at_restart(events).await;
        // A page may begin or end within a commit of three.
        assert!(restart < 2 * 256 + 16, "{restart} of {events} events were read at the start");
        assert!(proof < 3 * 256 + 16, "{proof} of {events} events were read for a proof");
    }
}
