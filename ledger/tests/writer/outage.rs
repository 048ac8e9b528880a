//! Storage that fails: what callers are told is true, nothing is lost, nothing happens twice.

use std::sync::Arc;

use stella_domain::chain::Head;
use stella_ledger::{
    copy::{CopyError, copy},
    port::Ledger,
    writer::WriteError,
};
use tempfile::TempDir;

use crate::{
    counter::{Command, add},
    faulty::{Fault, Faulty},
    node::{Node, open, recorded_ids, tenant},
};

async fn faulty(dir: &TempDir) -> Arc<Faulty> {
    Arc::new(Faulty::new(open(dir).await))
}

#[tokio::test]
async fn what_passes_is_settled_and_nobody_notices() {
    use Fault::UnknownFirstLanded;
    use Fault::{FalseConflict, None, Unavailable, UnknownAndLost, UnknownButLanded};
    for script in [
        &[UnknownButLanded][..],
        &[UnknownAndLost],
        &[UnknownAndLost, UnknownButLanded],
        &[UnknownFirstLanded, UnknownFirstLanded],
        &[Unavailable, Unavailable],
        &[UnknownAndLost, Unavailable, None],
        &[FalseConflict],
        &[FalseConflict, UnknownFirstLanded, Unavailable],
    ] {
        let dir = TempDir::new().unwrap();
        let ledger = Arc::new(Faulty::gated(open(&dir).await));
        let node = Node::start(ledger.clone());
        let mut answers = vec![node.send("acme", add(1, 0)).await];
        for id in 1..5 {
            answers.push(node.send(["acme", "other"][id as usize % 2], add(1, id)).await);
        }
        ledger.let_through(1);
        answers.remove(0).await.unwrap().unwrap();
        ledger.script(script);
        ledger.let_through(100);
        for answer in answers {
            let written = answer.await.unwrap();
            assert!(written.unwrap().receipt.is_some(), "{script:?}");
        }
        assert_eq!(recorded_ids(&*ledger, "acme").await, [0, 2, 4], "{script:?}");
        assert_eq!(recorded_ids(&*ledger, "other").await, [1, 3], "{script:?}");
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_said_so_and_recovers() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    ledger.reads_fail(true);
    let node = Node::start(ledger.clone());
    let error = node.run(add(1, 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    ledger.reads_fail(false);
    node.run_until_done(add(1, 1)).await;
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1]);
}

/// Each of these waits until the writer gives up on an append, so they wait together.
#[tokio::test]
async fn what_does_not_pass_is_told_as_it_is() {
    tokio::join!(
        what_was_not_written_is_refused_and_writing_resumes(),
        what_may_be_written_and_is_not_is_unknown(),
        what_may_be_written_and_is_is_unknown(),
        work_that_nobody_asked_for_survives_an_outage(),
        a_restored_backup_is_not_written_on(),
    );
}

async fn what_was_not_written_is_refused_and_writing_resumes() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    ledger.always(Fault::Unavailable);
    let tried = node.send("acme", add(1, 2)).await;
    ledger.appends(2).await;
    let behind = node.send("other", add(1, 9)).await;
    for refused in [tried, behind] {
        let error = refused.await.unwrap().unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    }
    let error = node.run(Command::Get { run: 1 }).await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "refused at once: {error}");
    ledger.always(Fault::None);
    node.run_until_done(add(1, 3)).await;
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 3], "what was refused is not there");
    assert!(recorded_ids(&*ledger, "other").await.is_empty());
}

async fn what_may_be_written_and_is_not_is_unknown() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    ledger.script(&[Fault::UnknownAndLost]);
    ledger.always(Fault::Unavailable);
    let error = node.run(add(1, 2)).await.unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown(_)), "{error}");
    ledger.always(Fault::None);
    assert!(node.run_until_done(add(1, 2)).await.receipt.is_some());
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 2]);
}

async fn what_may_be_written_and_is_is_unknown() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    ledger.reads_fail(true);
    ledger.script(&[Fault::UnknownButLanded]);
    ledger.always(Fault::Unavailable);
    let error = node.run(add(1, 2)).await.unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown(_)), "{error}");
    ledger.reads_fail(false);
    ledger.always(Fault::None);
    let again = node.run_until_done(add(1, 2)).await;
    assert!(again.receipt.is_none(), "it was recorded the first time");
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 2]);
}

async fn work_that_nobody_asked_for_survives_an_outage() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    ledger.always(Fault::Unavailable);
    let tried = node.send("acme", add(1, 2)).await;
    node.watched.due.lock().unwrap().push((tenant("acme"), add(1, 5)));
    node.writer.wake();
    assert!(tried.await.unwrap().is_err());
    ledger.always(Fault::None);
    node.run_until_done(add(1, 3)).await;
    let mut follower = node.feed.follow(&tenant("acme"), 0);
    let mut seen = 0;
    while seen < 3 {
        seen += follower.next(10).await.unwrap().len();
    }
    let mut ids = recorded_ids(&*ledger, "acme").await;
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 5]);
}

async fn a_restored_backup_is_not_written_on() {
    let (dir, backup_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = faulty(&dir).await;
    let backup = open(&backup_dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    copy(&*ledger, &*backup, &tenant("acme"), |_| {}).await.unwrap();
    node.run(add(1, 2)).await.unwrap();
    ledger.replace(backup.clone());
    let error = node.run(add(1, 3)).await.unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
    let error = loop {
        match node.run(add(1, 3)).await {
            Err(WriteError::Unavailable(_)) => pause.tick().await,
            outcome => break outcome.unwrap_err(),
        };
    };
    assert!(error.to_string().contains("was a backup restored?"), "{error}");
    assert_eq!(recorded_ids(&*backup, "acme").await, [1]);
}

#[tokio::test]
async fn a_copy_is_the_same_resumes_and_never_mixes() {
    let dirs = [(); 3].map(|()| TempDir::new().unwrap());
    let (source, target) = (open(&dirs[0]).await, open(&dirs[1]).await);
    let node = Node::start(source.clone());
    let acme = tenant("acme");
    let copied = copy(&*source, &*target, &acme, |_| {}).await.unwrap();
    assert_eq!((copied.already_there, copied.head), (0, Head::EMPTY));
    for round in 0..3 {
        let before = target.head(&acme).await.unwrap().next_seq;
        for id in 0..700 {
            drop(
                node.send("acme", Command::Add { run: 1, id: 1_000 * round + id, events: 2 }).await,
            );
        }
        node.run(Command::Get { run: 1 }).await.unwrap();
        let mut seen = vec![];
        let copied = copy(&*source, &*target, &acme, |events| seen.push(events)).await.unwrap();
        assert_eq!(copied.already_there, before);
        assert_eq!(copied.head, source.head(&acme).await.unwrap());
        assert_eq!(seen.last(), Some(&copied.head.next_seq));
        assert!(seen.is_sorted());
    }
    let (from, to) = (recorded_ids(&*source, "acme").await, recorded_ids(&*target, "acme").await);
    assert_eq!(from, to);
    assert_eq!(source.head(&acme).await.unwrap(), target.head(&acme).await.unwrap());

    // A target that knows more, and one that knows something else.
    let ahead = Node::start(target.clone());
    ahead.run(add(2, 1)).await.unwrap();
    let error = copy(&*source, &*target, &acme, |_| {}).await.unwrap_err();
    assert!(matches!(error, CopyError::Differs { seq: 4_200, .. }), "{error}");
    let other = open(&dirs[2]).await;
    Node::start(other.clone()).run(add(1, 0)).await.unwrap();
    let error = copy(&*source, &*other, &acme, |_| {}).await.unwrap_err();
    assert!(matches!(error, CopyError::Differs { seq: 0, .. }), "{error}");
    assert_eq!(recorded_ids(&*other, "acme").await, [0]);
}

#[tokio::test]
async fn a_copy_settles_what_the_target_leaves_open() {
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let (source, target) = (open(&dirs[0]).await, faulty(&dirs[1]).await);
    let node = Node::start(source.clone());
    for id in 0..10 {
        node.run(add(1, id)).await.unwrap();
    }
    let acme = tenant("acme");
    target.script(&[Fault::UnknownFirstLanded, Fault::UnknownAndLost, Fault::UnknownButLanded]);
    copy(&*source, &*target, &acme, |_| {}).await.unwrap();
    assert_eq!(recorded_ids(&*target, "acme").await, (0..10).collect::<Vec<_>>());

    node.run(add(1, 10)).await.unwrap();
    target.script(&[Fault::Unavailable]);
    let error = copy(&*source, &*target, &acme, |_| {}).await.unwrap_err();
    assert!(matches!(error, CopyError::Refused(_)), "{error}");
    copy(&*source, &*target, &acme, |_| {}).await.unwrap();
    assert_eq!(target.head(&acme).await.unwrap(), source.head(&acme).await.unwrap());
}
