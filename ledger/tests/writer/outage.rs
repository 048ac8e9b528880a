//! Storage that fails: what callers are told is true, nothing is lost, nothing happens twice.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use async_trait::async_trait;
use stella_domain::{chain::Head, hash::Hash32, ids::Tenant, merkle::Tile};
use stella_ledger::{
    checkpoints::store::{CheckpointStore, StoredNote},
    copy::{CopyError, copy},
    port::{Ledger, LedgerError},
    uri::Storage,
    writer::WriteError,
};
use tempfile::TempDir;

use crate::{
    counter::{Command, add},
    faulty::{Fault, Faulty},
    node::{Answer, Node, open, recorded_ids, tenant},
};

/// A ledger without checkpoints.
fn stored<L: Ledger>(ledger: &Arc<L>) -> Storage {
    Storage { ledger: Arc::clone(ledger) as Arc<dyn Ledger>, checkpoints: Arc::new(NoCheckpoints) }
}

struct NoCheckpoints;

#[async_trait]
impl CheckpointStore for NoCheckpoints {
    async fn insert_tiles(&self, _: &Tenant, _: &[Tile]) -> Result<(), LedgerError> {
        Ok(())
    }
    async fn tile_roots(
        &self,
        _: &Tenant,
        _: u32,
        _: Range<u64>,
    ) -> Result<Vec<Hash32>, LedgerError> {
        Ok(vec![])
    }
    async fn insert_note(&self, _: &Tenant, _: u64, _: &str) -> Result<bool, LedgerError> {
        Ok(true)
    }
    async fn note_of(&self, _: &Tenant, _: u64) -> Result<Option<StoredNote>, LedgerError> {
        Ok(None)
    }
    async fn notes_from(
        &self,
        _: &Tenant,
        _: u64,
        _: usize,
    ) -> Result<Vec<StoredNote>, LedgerError> {
        Ok(vec![])
    }
    async fn newest_note(&self, _: &Tenant) -> Result<Option<StoredNote>, LedgerError> {
        Ok(None)
    }
}

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
        all_that_may_be_written_is_unknown(Fault::UnknownAndLost, 0),
        all_that_may_be_written_is_unknown(Fault::UnknownFirstLanded, 1),
        an_append_that_never_ends_is_unknown(),
        an_outage_lasts_until_the_storage_answers(),
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

/// A batch of three commits, of which the first `landed` are found; behind it, one that was not
/// sent.
async fn all_that_may_be_written_is_unknown(fault: Fault, landed: usize) {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let first = node.send("acme", add(1, 1)).await;
    ledger.appends(1).await;
    let mut sent: Vec<Answer> = vec![];
    for (of, id) in [("acme", 2), ("other", 3), ("acme", 4)] {
        sent.push(node.send(of, add(1, id)).await);
    }
    sent.push(node.send("acme", add(1, 4)).await);
    ledger.script(&[Fault::None, fault]);
    ledger.always(Fault::Unavailable);
    ledger.let_through(1);
    first.await.unwrap().unwrap();
    ledger.appends(2).await;
    let unsent = node.send("acme", add(1, 5)).await;
    ledger.let_through(1_000);
    for (i, answer) in sent.into_iter().enumerate() {
        match answer.await.unwrap() {
            Ok(written) => assert!(i < landed && written.receipt.is_some(), "{fault:?}: {i}"),
            Err(WriteError::OutcomeUnknown(_)) => assert!(i >= landed, "{fault:?}: {i}"),
            Err(other) => panic!("{fault:?}: {i}: {other}"),
        }
    }
    let error = unsent.await.unwrap().unwrap_err();
    assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
    ledger.always(Fault::None);
    for id in [2, 4] {
        node.run_until_done(add(1, id)).await;
    }
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 2, 4]);
}

async fn an_append_that_never_ends_is_unknown() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let error = node.run(add(1, 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::OutcomeUnknown(_)), "{error}");
    ledger.let_through(1_000);
    node.run_until_done(add(1, 1)).await;
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1]);
}

async fn an_outage_lasts_until_the_storage_answers() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    node.run(add(1, 1)).await.unwrap();
    ledger.always(Fault::Unavailable);
    ledger.heads_fail.store(true, SeqCst);
    node.run(add(1, 2)).await.unwrap_err();
    let mut pause = tokio::time::interval(std::time::Duration::from_millis(50));
    while ledger.head_checks_so_far() == 0 {
        pause.tick().await;
        node.run(Command::Get { run: 1 }).await.unwrap_err();
    }
    // One was let through, and proved nothing.
    for _ in 0..5 {
        node.run(Command::Get { run: 1 }).await.unwrap_err();
    }
    assert_eq!(ledger.head_checks_so_far(), 1, "refused at once");
}

#[tokio::test]
async fn a_batch_that_landed_unheard_is_not_sent_again() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let first = node.send("acme", add(1, 0)).await;
    ledger.appends(1).await;
    let mut answers = vec![];
    for id in 1..300 {
        answers.push(node.send(["acme", "other"][id as usize % 2], add(1, id)).await);
    }
    ledger.script(&[Fault::None, Fault::UnknownButLanded]);
    ledger.let_through(1_000);
    first.await.unwrap().unwrap();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(ledger.appends_so_far(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_concerns_those_who_need_it() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    *ledger.unreadable.lock().unwrap() = Some("run/02081040G2081040G2081040G2".parse().unwrap());
    let outcomes = futures::future::join_all((1..6).map(|run| node.run(add(run, 1)))).await;
    for (run, outcome) in (1..6).zip(outcomes) {
        match outcome {
            Ok(_) => assert_ne!(run, 2),
            Err(WriteError::Unreadable(reason)) => assert_eq!(run, 2, "{reason}"),
            Err(other) => panic!("{run}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_load_that_panics_is_told_and_another_one_is_made() {
    let dir = TempDir::new().unwrap();
    let ledger = faulty(&dir).await;
    let node = Node::start(ledger.clone());
    ledger.stream_reads_panic.store(true, SeqCst);
    let error = node.run(add(1, 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::Unreadable(_)), "{error}");
    ledger.stream_reads_panic.store(false, SeqCst);
    node.run(add(1, 1)).await.unwrap();
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
    copy(&stored(&ledger), &stored(&backup), &tenant("acme"), |_| {}).await.unwrap();
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
    let copied = copy(&stored(&source), &stored(&target), &acme, |_| {}).await.unwrap();
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
        let copied = copy(&stored(&source), &stored(&target), &acme, |events| seen.push(events))
            .await
            .unwrap();
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
    let error = copy(&stored(&source), &stored(&target), &acme, |_| {}).await.unwrap_err();
    assert!(matches!(error, CopyError::Differs { seq: 4_200, .. }), "{error}");
    let other = open(&dirs[2]).await;
    Node::start(other.clone()).run(add(1, 0)).await.unwrap();
    let error = copy(&stored(&source), &stored(&other), &acme, |_| {}).await.unwrap_err();
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
    copy(&stored(&source), &stored(&target), &acme, |_| {}).await.unwrap();
    assert_eq!(recorded_ids(&*target, "acme").await, (0..10).collect::<Vec<_>>());

    node.run(add(1, 10)).await.unwrap();
    target.script(&[Fault::Unavailable]);
    let error = copy(&stored(&source), &stored(&target), &acme, |_| {}).await.unwrap_err();
    assert!(matches!(error, CopyError::Refused(_)), "{error}");
    copy(&stored(&source), &stored(&target), &acme, |_| {}).await.unwrap();
    assert_eq!(target.head(&acme).await.unwrap(), source.head(&acme).await.unwrap());
}
