//! Answers that nothing is recorded for, and reads that take their time.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use stella_ledger::writer::WriteError;
use tempfile::TempDir;

use crate::{
    counter::{Command, add},
    faulty::Faulty,
    node::{Answer, Node, open, recorded_ids, tenant},
};

async fn with_one(dir: &TempDir) -> (Arc<Faulty>, Node) {
    let ledger = Arc::new(Faulty::new(open(dir).await));
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    (ledger, node)
}

/// Something is asked, and nobody says yet where the ledger ends.
async fn asked(dir: &TempDir) -> (Arc<Faulty>, Node, Answer) {
    let (ledger, node) = with_one(dir).await;
    ledger.heads_held.send_replace(true);
    let got = node.send("acme", Command::Get { run: 1 }).await;
    ledger.head_checks(1).await;
    (ledger, node, got)
}

#[tokio::test]
async fn what_is_to_be_written_does_not_wait_for_them_and_confirms_them() {
    let dir = TempDir::new().unwrap();
    let (ledger, node, got) = asked(&dir).await;
    let elsewhere = node.send("other", Command::Get { run: 1 }).await;
    ledger.head_checks(2).await;
    // Nobody says where the ledgers end, from here to the end of the test.
    assert_eq!(node.run(add(1, 2)).await.unwrap().answer, 2);
    let got = got.await.unwrap().unwrap();
    assert_eq!((got.answer, got.as_of), (1, 0), "as it was when it was decided");
    assert!(!elsewhere.is_finished(), "a commit of another tenant says nothing about it");
}

#[tokio::test]
async fn what_others_wrote_meanwhile_is_seen() {
    let dir = TempDir::new().unwrap();
    let (ledger, node, got) = asked(&dir).await;
    Node::start(open(&dir).await).run(add(1, 2)).await.unwrap();
    let later = node.send("acme", Command::Get { run: 1 }).await;
    ledger.heads_held.send_replace(false);
    for got in [got, later] {
        let got = got.await.unwrap().unwrap();
        assert_eq!((got.answer, got.as_of), (2, 1));
    }
}

#[tokio::test]
async fn a_read_that_sees_what_this_node_is_writing_is_no_conflict() {
    let dir = TempDir::new().unwrap();
    let (ledger, node, got) = asked(&dir).await;
    ledger.acks_held.send_replace(true);
    let added = node.send("acme", add(1, 2)).await;
    while recorded_ids(&*ledger, "acme").await != [1, 2] {
        tokio::task::yield_now().await;
    }
    ledger.heads_held.send_replace(false);
    // It has read, and asks again.
    ledger.head_checks(2).await;
    ledger.acks_held.send_replace(false);
    assert_eq!(got.await.unwrap().unwrap().answer, 1);
    assert_eq!(added.await.unwrap().unwrap().answer, 2);
    assert_eq!(node.watched.decided_so_far(), 3, "nothing was decided again");
}

#[tokio::test]
async fn of_work_that_nobody_asked_for_nothing_is_read() {
    let dir = TempDir::new().unwrap();
    let (ledger, node) = with_one(&dir).await;
    ledger.heads_held.send_replace(true);
    node.watched.due.lock().unwrap().push((tenant("acme"), Command::Get { run: 1 }));
    node.writer.wake();
    while node.watched.performed.lock().unwrap().last().is_none_or(|last| last != "get") {
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger.head_checks_so_far(), 0);
}

#[tokio::test]
async fn a_read_that_panics_is_told_and_another_one_is_made() {
    let dir = TempDir::new().unwrap();
    let (ledger, node) = with_one(&dir).await;
    ledger.heads_panic.store(true, SeqCst);
    let error = node.run(Command::Get { run: 1 }).await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    ledger.heads_panic.store(false, SeqCst);
    assert_eq!(node.run(Command::Get { run: 1 }).await.unwrap().answer, 1);
}
