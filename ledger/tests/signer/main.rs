//! Checkpoints on SQLite: signing, keys, proofs, damage, restarts. What is about the storage
//! itself runs on MongoDB too.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod copy;
#[path = "../common/histories.rs"]
mod histories;
mod keys;
mod own_stream;
mod proofs;
mod restart;

use std::{path::Path, sync::Arc};

use histories::{commits, config, id, open};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use stella_ledger::{
    checkpoints::{
        SignerError, conformance,
        gate::Gate,
        proofs::Noted,
        signer::{Opened, Signer},
    },
    conformance::Samples,
    sqlite::SqliteLedger,
    uri::Storage,
};
use tempfile::TempDir;

pub(crate) async fn storage(dir: &Path) -> Storage {
    Storage::of(SqliteLedger::open(dir.join("ledger.db")).await.unwrap())
}

/// Run `sql` behind everybody's back.
pub(crate) async fn run_sql(dir: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(dir.join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_conforms() {
    let dir = TempDir::new().unwrap();
    conformance::suite(storage(dir.path()).await.checkpoints).await;
}

#[tokio::test]
async fn nothing_stored_is_changed_or_removed() {
    let dir = TempDir::new().unwrap();
    let store = storage(dir.path()).await.checkpoints;
    store.insert_note(&id().tenant, 1, "note").await.unwrap();
    for sql in ["UPDATE checkpoints SET note = 'x'", "DELETE FROM checkpoints"] {
        let options = SqliteConnectOptions::new().filename(dir.path().join("ledger.db"));
        let mut connection = options.connect().await.unwrap();
        assert!(sqlx::raw_sql(sql).execute(&mut connection).await.is_err(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_extend_is_refused() {
    let dirs = std::sync::Mutex::new(vec![]);
    histories::what_does_not_extend_is_refused(async || {
        let dir = TempDir::new().unwrap();
        let storage = storage(dir.path()).await;
        dirs.lock().unwrap().push(dir);
        storage
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_extend_what_was_seen_is_refused() {
    let dirs = std::sync::Mutex::new(vec![]);
    histories::what_does_not_extend_what_was_seen_is_refused(async || {
        let dir = TempDir::new().unwrap();
        let storage = storage(dir.path()).await;
        dirs.lock().unwrap().push(dir);
        storage
    })
    .await;
}

#[tokio::test]
async fn new_events_are_signed_once_and_the_first_one_alone() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let (signer, gate) = open(config(dir.path(), 1), &storage).await.unwrap();
    assert_eq!(signer.sign_new().await.unwrap(), None, "there is nothing to sign yet");
    let mut samples = Samples::new("acme");
    storage.ledger.append(&commits(&mut samples, 5)).await.unwrap();
    let Noted { checkpoint, note } = signer.sign_new().await.unwrap().unwrap();
    assert_eq!(checkpoint.size, samples.head().next_seq);
    let keyring = signer.pinned().await;
    assert_eq!(keyring.verify(&note).as_ref(), Ok(&checkpoint));
    let again = signer.sign_new().await.unwrap().unwrap();
    assert_eq!(again.note, note);
    let first = storage.checkpoints.note_of(&id().tenant, 1).await.unwrap().unwrap();
    assert_eq!(keyring.verify(&first.note).unwrap().size, 1);
    for kept in ["kept", "elsewhere/kept"] {
        assert_eq!(std::fs::read_to_string(dir.path().join(kept)).unwrap(), note);
    }
    assert_eq!(gate.findings(), []);
}

#[tokio::test]
async fn what_was_kept_and_not_stored_is_stored_at_the_next_start() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut samples = Samples::new("acme");
    let all = commits(&mut samples, 400);
    let signed_there = storage(dir.path()).await;
    signed_there.ledger.append(&all).await.unwrap();
    let (signer, _) = open(config(dir.path(), 1), &signed_there).await.unwrap();
    let newest = signer.sign_new().await.unwrap().unwrap();
    // Copied without its checkpoints.
    let copied = storage(copy.path()).await;
    copied.ledger.append(&all).await.unwrap();
    open(config(dir.path(), 1), &copied).await.unwrap();
    let found = copied.checkpoints.newest_note(&id().tenant).await.unwrap().unwrap();
    assert_eq!(found.note, newest.note);
}

#[tokio::test]
async fn a_kept_checkpoint_that_cannot_be_read_stops_the_node() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    for text in ["", "half a no", "stella.test/acme\n1\nAAAA\n\n— x y\n"] {
        std::fs::write(dir.path().join("kept"), text).unwrap();
        let refused = open(config(dir.path(), 1), &storage).await.err();
        assert!(matches!(refused, Some(SignerError::Kept { .. })), "{text:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_key_sign_one_history() {
    let dir = TempDir::new().unwrap();
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    let mut nodes = vec![];
    for dir in &dirs {
        nodes.push(open(config(dir.path(), 1), &storage).await.unwrap());
    }
    for _ in 0..20 {
        storage.ledger.append(&commits(&mut samples, 30)).await.unwrap();
        let signed = nodes.iter().map(|(signer, _)| signer.sign_new());
        for signed in futures::future::join_all(signed).await {
            assert_eq!(signed.unwrap().unwrap().checkpoint.size, samples.head().next_seq);
        }
    }
    for (_, gate) in &nodes {
        assert_eq!(gate.findings(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_nodes_that_drew_keys_one_signs_and_the_others_leave_it_to_it() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    storage.ledger.append(&commits(&mut Samples::new("acme"), 9)).await.unwrap();
    let dirs: Vec<_> = (0..4).map(|_| TempDir::new().unwrap()).collect();
    let mut nodes = vec![];
    for (seed, dir) in (1..).zip(&dirs) {
        let drawn = histories::drawn(dir.path(), seed);
        nodes.push(open(drawn, &storage).await.unwrap());
    }
    let signed = futures::future::join_all(nodes.iter().map(|(node, _)| node.sign_new())).await;
    let winners: Vec<usize> = (0..4).filter(|i| signed[*i].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{signed:?}");
    for (i, (_, gate)) in nodes.iter().enumerate() {
        let codes: Vec<_> = gate.findings().iter().map(|f| (f.code, f.blocks_writes)).collect();
        let expected = if winners == [i] { vec![] } else { vec![("NOT_SIGNED", false)] };
        assert_eq!(codes, expected, "node {i}");
    }
    for (i, (seed, dir)) in (1..).zip(&dirs).enumerate() {
        let gate = Arc::new(Gate::default());
        let drawn = histories::drawn(dir.path(), seed);
        let proofs = histories::proofs(&storage);
        let opened = Signer::open(drawn, storage.clone(), proofs, gate).await.unwrap();
        let signs = matches!(opened, Opened::Signing(_));
        assert_eq!(signs, winners == [i], "node {i} at its next start");
    }
    // Given by somebody, another key is a mistake.
    let other = TempDir::new().unwrap();
    let refused = open(config(other.path(), 9), &storage).await.err();
    assert!(matches!(refused, Some(SignerError::Foreign { .. })), "{refused:?}");
}
