//! The writer, through its public surface, on a SQLite ledger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clock;
mod counter;
mod faulty;
mod node;
mod outage;
mod unconfirmed;

use std::sync::Arc;

use futures::future::join_all;
use stella_domain::ids::{RunId, StreamId};
use stella_ledger::{
    name::check_name,
    port::{Ledger, LedgerError},
};
use tempfile::TempDir;

use crate::{
    counter::{Command, add},
    faulty::Faulty,
    node::{Node, TurnedClock, open, recorded_ids, tenant},
};

#[tokio::test]
async fn answers_come_in_order_with_dense_receipts() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let node = Node::start(ledger.clone());
    let mut next_seq = 0;
    for id in 0..40 {
        let command = Command::Add { run: (id % 3) as u8, id, events: 1 + id as usize % 4 };
        let events = 1 + u64::from(id) % 4;
        let written = node.run(command).await.unwrap();
        let receipt = written.receipt.unwrap();
        assert_eq!((receipt.first_seq, receipt.last_seq), (next_seq, next_seq + events - 1));
        assert_eq!(written.as_of, receipt.last_seq);
        next_seq += events;
        let head = ledger.head(&tenant("acme")).await.unwrap();
        assert_eq!((head.next_seq, head.hash), (next_seq, receipt.hash), "durable when answered");
    }
    let again = node.run(add(0, 0)).await.unwrap();
    assert!(again.receipt.is_none(), "it is recorded already");
    assert_eq!(again.as_of, next_seq - 1);
    assert_eq!(recorded_ids(&*ledger, "acme").await.len() as u64, next_seq);
}

#[tokio::test]
async fn many_callers_share_batches_and_keep_their_order() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let mut answers = vec![];
    for id in 0..200 {
        answers.push(node.send(["acme", "other"][id as usize % 2], add(7, id)).await);
    }
    // The first batch went off with the first command; all others waited for it together.
    ledger.let_through(2);
    let mut seqs = [0, 0];
    for (id, answer) in answers.into_iter().enumerate() {
        let receipt = answer.await.unwrap().unwrap().receipt.unwrap();
        assert_eq!(receipt.first_seq, seqs[id % 2]);
        seqs[id % 2] += 1;
    }
    let expected: Vec<String> = (0..200).map(|id| format!("add {id}")).collect();
    assert_eq!(*node.watched.performed.lock().unwrap(), expected);
    assert_eq!(recorded_ids(&*ledger, "acme").await, (0..200).step_by(2).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_one_ledger_lose_nothing_and_do_nothing_twice() {
    const COMMANDS: u32 = 120;
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let nodes = [Node::start(ledger.clone()), Node::start(open(&dir).await)];
    let mut follower = nodes[0].feed.follow(&tenant("acme"), 0);
    // Every third command goes to both.
    let outcomes = join_all((0..COMMANDS).flat_map(|id| {
        let nodes = &nodes;
        let to = if id % 3 == 0 { 0..2 } else { (id as usize % 2)..(id as usize % 2 + 1) };
        to.map(move |node| async move { (id, nodes[node].run(add(id as u8 % 5, id)).await) })
    }))
    .await;
    let mut receipts: Vec<(u64, u32)> = vec![];
    for (id, outcome) in outcomes {
        let written = outcome.unwrap_or_else(|error| panic!("{id}: {error}"));
        receipts.extend(written.receipt.map(|receipt| (receipt.first_seq, id)));
    }
    receipts.sort_unstable();
    let acknowledged: Vec<u32> = receipts.into_iter().map(|(_, id)| id).collect();
    let recorded = recorded_ids(&*ledger, "acme").await;
    assert_eq!(recorded, acknowledged, "each receipt names the place of its id");
    let mut once = recorded.clone();
    once.sort_unstable();
    assert_eq!(once, (0..COMMANDS).collect::<Vec<_>>());
    let mut followed = vec![];
    while followed.len() < recorded.len() {
        let commits = follower.next(7).await.unwrap();
        followed.extend(commits.iter().map(|recorded| recorded.commit.seq));
    }
    assert_eq!(followed, (0..u64::from(COMMANDS)).collect::<Vec<_>>(), "no gap, no repeat");
}

#[tokio::test]
async fn an_answer_that_records_nothing_is_the_newest() {
    let dir = TempDir::new().unwrap();
    let (one, other) = (Node::start(open(&dir).await), Node::start(open(&dir).await));
    assert_eq!(one.run(add(1, 1)).await.unwrap().answer, 1);
    assert_eq!(other.run(add(1, 2)).await.unwrap().answer, 2);
    let got = one.run(Command::Get { run: 1 }).await.unwrap();
    assert_eq!((got.answer, got.as_of), (2, 1), "what the other wrote is seen");
    assert!(one.run(add(1, 2)).await.unwrap().receipt.is_none());
}

/// The answer shares a batch with a commit of its tenant that finds its place taken.
#[tokio::test]
async fn an_answer_before_an_overtaken_commit_is_given_anew() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let first = node.send("acme", add(1, 1)).await;
    let elsewhere = node.send("other", add(1, 10)).await;
    ledger.let_through(1);
    first.await.unwrap().unwrap();
    ledger.appends(2).await;
    // These two make the third batch.
    let got = node.send("acme", Command::Get { run: 1 }).await;
    let added = node.send("acme", add(1, 3)).await;
    Node::start(open(&dir).await).run(add(1, 2)).await.unwrap();
    ledger.let_through(3);
    elsewhere.await.unwrap().unwrap();
    assert_eq!(got.await.unwrap().unwrap().answer, 2);
    assert_eq!(added.await.unwrap().unwrap().answer, 3);
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1, 2, 3]);
}

/// The answer builds on a commit that was not tried, because another tenant's was refused.
#[tokio::test]
async fn an_answer_waits_for_the_commit_that_it_builds_on() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let node = Node::start(ledger.clone());
    let first = node.send("other", add(1, 1)).await;
    ledger.appends(1).await;
    let landed = node.send("acme", add(1, 5)).await;
    let overtaken = node.send("other", add(1, 3)).await;
    let added = node.send("acme", add(1, 4)).await;
    let again = node.send("acme", add(1, 4)).await;
    ledger.let_through(1);
    first.await.unwrap().unwrap();
    ledger.appends(2).await;
    let rival = Node::start(open(&dir).await);
    rival.writer.execute(&tenant("other"), add(1, 2)).await.unwrap();
    ledger.let_through(4);
    for answer in [landed, overtaken, added, again] {
        answer.await.unwrap().unwrap();
    }
    let performed = node.watched.performed.lock().unwrap().clone();
    let of_acme: Vec<&str> =
        performed.iter().map(String::as_str).filter(|what| what.ends_with('4')).collect();
    assert_eq!(of_acme, ["add 4", "again 4"]);
    assert_eq!(recorded_ids(&*ledger, "other").await, [1, 2, 3]);
    assert_eq!(recorded_ids(&*ledger, "acme").await, [5, 4]);
}

#[tokio::test]
async fn only_what_others_wrote_and_what_was_staged_is_read_again() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::new(open(&dir).await));
    let (one, other) = (Node::start(ledger.clone()), Node::start(open(&dir).await));
    for run in 1..4 {
        one.run(add(run, 1)).await.unwrap();
    }
    other.run(add(2, 2)).await.unwrap();
    ledger.streams_read.lock().unwrap().clear();
    // It finds its place taken.
    one.run(add(1, 3)).await.unwrap();
    for (run, ids) in [(1, 2), (2, 2), (3, 1)] {
        assert_eq!(one.run(Command::Get { run }).await.unwrap().answer, ids);
    }
    let read = ledger.streams_read.lock().unwrap().clone();
    let runs = [1, 2].map(|run| StreamId::Run(RunId::from_bytes([run; 16])));
    assert_eq!(read, runs);
}

#[tokio::test]
async fn much_news_comes_page_by_page() {
    const IDS: u32 = 500;
    let dir = TempDir::new().unwrap();
    let (one, other) = (Node::start(open(&dir).await), Node::start(open(&dir).await));
    one.run(add(1, 0)).await.unwrap();
    let mut follower = one.feed.follow(&tenant("acme"), 0);
    join_all((1..IDS).map(|id| other.run(add(1, id)))).await;
    let got = one.run(Command::Get { run: 1 }).await.unwrap();
    assert_eq!((got.answer, got.as_of), (IDS as usize, u64::from(IDS) - 1));
    assert_eq!(one.feed.next_seq(&tenant("acme")), u64::from(IDS));
    let mut seen = 0;
    while seen < IDS as usize {
        seen += follower.next(1_000).await.unwrap().len();
    }
}

#[tokio::test]
async fn a_ledger_of_another_origin_is_not_written() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    Node::start(ledger.clone()).run(add(1, 1)).await.unwrap();
    let clock = Arc::new(TurnedClock::default());
    let stranger = Node::of_origin("elsewhere.test", ledger.clone(), clock);
    let error = stranger.run(add(1, 2)).await.unwrap_err().to_string();
    assert!(error.contains("--origin stella.test"), "{error}");
    let name = "elsewhere.test/acme".parse().unwrap();
    let error = check_name(&*ledger, &name).await.unwrap_err();
    assert!(matches!(error, LedgerError::OtherName { .. }), "{error}");
    check_name(&*ledger, &"stella.test/acme".parse().unwrap()).await.unwrap();
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1]);
}

#[tokio::test]
async fn work_that_nobody_asked_for_is_done_once() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let node = Node::start(ledger.clone());
    let mut follower = node.feed.follow(&tenant("acme"), 0);
    node.watched.due.lock().unwrap().push((tenant("acme"), add(1, 1)));
    node.writer.wake();
    assert_eq!(follower.next(10).await.unwrap().len(), 1);
    assert_eq!(recorded_ids(&*ledger, "acme").await, [1]);
}

#[tokio::test]
async fn it_ends_when_nobody_can_ask_any_more_and_what_it_took_is_recorded() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Faulty::gated(open(&dir).await));
    let Node { writer, task, watched, .. } = Node::start(ledger.clone());
    for id in 0..20 {
        // The caller goes away before it is answered.
        let acme = tenant("acme");
        let mut asked = Box::pin(writer.execute(&acme, add(1, id)));
        assert!(futures::poll!(&mut asked).is_pending());
    }
    watched.decided(20).await;
    drop(writer);
    ledger.let_through(20);
    task.await.unwrap();
    assert_eq!(recorded_ids(&*ledger, "acme").await, (0..20).collect::<Vec<_>>());
}
