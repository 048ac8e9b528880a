//! Proofs out of tiles, against a tree that is computed from all events.

use stella_domain::{
    checkpoint::Checkpoint,
    hash::Hash32,
    merkle::{self, RangeFold},
};
use stella_ledger::{
    checkpoints::{
        ProofError,
        cosigners::Quorum,
        receipt::{ReceiptError, receipt},
    },
    conformance::Samples,
    uri::Storage,
};
use tempfile::TempDir;

use crate::{
    histories::{commits, config, id, open, proofs},
    run_sql, storage,
};

/// A signed ledger of a little more than `events`, and the hashes of its events.
async fn signed(storage: &Storage, dir: &TempDir, events: u64) -> (Checkpoint, Vec<Hash32>) {
    let (mut samples, mut hashes) = (Samples::new("acme"), vec![]);
    while samples.head().next_seq < events {
        let batch = commits(&mut samples, 500);
        hashes.extend(batch.iter().flat_map(|c| c.events.iter().map(|event| event.hash)));
        storage.ledger.append(&batch).await.unwrap();
    }
    let (signer, _) = open(config(dir.path(), 1), storage).await.unwrap();
    (signer.sign_new().await.unwrap().unwrap().checkpoint, hashes)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_proof_is_the_naive_trees() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let (of, hashes) = signed(&storage, &dir, 3_000).await;
    let (size, naive) = (of.size, &hashes[..]);
    assert_eq!(of.root, merkle::root(naive));
    let proofs = proofs(&storage);
    let places = (0..size).step_by(97).chain([0, 255, 256, 257, 511, 512, size - 2, size - 1]);
    for seq in places {
        let hash = &naive[seq as usize];
        let proof = proofs.inclusion(&of, seq, hash).await.unwrap();
        assert_eq!(proof, merkle::inclusion_proof(naive, seq, size).unwrap(), "{seq}");
        let (old_root, proof) = proofs.consistency(&of, seq).await.unwrap();
        assert_eq!(old_root, merkle::root(&naive[..seq as usize]), "{seq}");
        assert_eq!(proof, merkle::consistency_proof(naive, seq, size).unwrap(), "{seq}");
        for end in [seq, seq + 1, (seq + 300).min(size), size] {
            let range = seq..end.max(seq);
            let proof = proofs.range_proof(&of, range.clone()).await.unwrap();
            assert_eq!(proof, merkle::range_proof(naive, range.clone(), size).unwrap());
            let mut fold = RangeFold::new(range.clone(), size, &proof).unwrap();
            naive[range.start as usize..range.end as usize]
                .iter()
                .for_each(|hash| fold.push(hash).unwrap());
            assert_eq!(fold.root().unwrap(), of.root, "{range:?}");
        }
    }
    let outside = proofs.inclusion(&of, size, &naive[0]).await;
    assert!(matches!(outside, Err(ProofError::Merkle(_))), "{outside:?}");
    assert!(matches!(proofs.consistency(&of, size + 1).await, Err(ProofError::Merkle(_))));
    assert!(matches!(proofs.range_proof(&of, 1..size + 1).await, Err(ProofError::Merkle(_))));
    let other_event = proofs.inclusion(&of, 7, &naive[8]).await;
    assert!(matches!(other_event, Err(ProofError::Contradiction { .. })), "{other_event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_tile_is_computed_again_and_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let (of, hashes) = signed(&storage, &dir, 2_000).await;
    let expected = merkle::inclusion_proof(&hashes[..], 3, of.size).unwrap();
    for damage in [
        "UPDATE tiles SET root = zeroblob(32) WHERE position = 2",
        "UPDATE tiles SET root = zeroblob(32) WHERE position < 2",
        "UPDATE tiles SET root = x'00' WHERE position = 4",
        "DELETE FROM tiles WHERE position = 3",
        "DELETE FROM tiles",
    ] {
        let unguarded = "DROP TRIGGER IF EXISTS tiles_no_update;
            DROP TRIGGER IF EXISTS tiles_no_delete;";
        run_sql(dir.path(), &format!("{unguarded} {damage}")).await;
        // Nothing in memory from before.
        let proofs = proofs(&storage);
        assert_eq!(proofs.inclusion(&of, 3, &hashes[3]).await.unwrap(), expected, "{damage}");
        open(config(dir.path(), 1), &storage).await.unwrap();
    }
    // The events themselves are the lowest row: nothing can be computed from what is not there.
    let edited = r#"DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete;
        DELETE FROM ledger WHERE seq > 1000"#;
    run_sql(dir.path(), edited).await;
    let refused = proofs(&storage).inclusion(&of, 3, &hashes[3]).await;
    assert!(matches!(refused, Err(ProofError::Contradiction { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_holds_the_runs_events_and_their_proofs() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let run = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
    let run_id = run.parse().unwrap();
    let proofs = proofs(&storage);
    let tenant = id().tenant;
    let unknown = receipt(&*storage.ledger, &proofs, &tenant, &run_id, &Quorum::default()).await;
    assert!(matches!(unknown, Err(ReceiptError::UnknownRun(_))), "{unknown:?}");

    let mut samples = Samples::new("acme");
    let mut all = commits(&mut samples, 100);
    all.push(samples.commit(&format!("run/{run}"), 1, 3, 1_000_000));
    all.push(samples.commit("dag/y", 1, 2, 1_000_000));
    all.push(samples.commit(&format!("run/{run}"), 4, 2, 1_000_001));
    storage.ledger.append(&all).await.unwrap();
    let early = receipt(&*storage.ledger, &proofs, &tenant, &run_id, &Quorum::default()).await;
    assert!(matches!(early, Err(ReceiptError::NotSigned { .. })), "{early:?}");
    let (signer, _) = open(config(dir.path(), 1), &storage).await.unwrap();
    let checkpoint = signer.sign_new().await.unwrap().unwrap().checkpoint;
    let text =
        receipt(&*storage.ledger, &proofs, &tenant, &run_id, &Quorum::default()).await.unwrap();
    // The oldest checkpoint that holds it: the same bytes for ever.
    storage.ledger.append(&[samples.commit("dag/z", 1, 2, 2_000_000)]).await.unwrap();
    signer.sign_new().await.unwrap();
    assert_eq!(
        receipt(&*storage.ledger, &proofs, &tenant, &run_id, &Quorum::default()).await.unwrap(),
        text
    );

    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let canonical = stella_domain::json::CanonicalJson::from_value(&value).unwrap();
    assert_eq!(format!("{canonical}\n"), text);
    let note = value["checkpoint"].as_str().unwrap();
    assert_eq!(signer.pinned().await.verify(note).unwrap(), checkpoint);
    let events = value["events"].as_array().unwrap();
    assert_eq!(events.len(), 5);
    for (version, event) in (1..).zip(events) {
        let header = &event["event"]["header"];
        assert_eq!((&header["streamVersion"], &value["runId"]), (&version.into(), &run.into()));
        let hash = event["event"]["hash"].as_str().unwrap().parse().unwrap();
        let proof: Vec<Hash32> = serde_json::from_value(event["proof"].clone()).unwrap();
        let seq = header["seq"].as_u64().unwrap();
        merkle::verify_inclusion(&hash, seq, checkpoint.size, &checkpoint.root, &proof).unwrap();
    }
}
