//! Erasing a run's payloads: decided once, and forgotten in memory.

use stella_commands::Refusal;
use stella_domain::{aggregate::LedgerRefusal, chain::StoredPayload, ids::RunId};
use stella_ledger::{erasure, sqlite::SqliteEraser};
use tempfile::TempDir;

use crate::node::{Node, TestClock, acme, json, new_run, open, operator, refusal};

const SECRET: &str = "a name that is not to be kept";

/// A run that has ended, with its only lease.
async fn ended(node: &Node) -> (RunId, stella_commands::dispatch::Grant) {
    let mut new = new_run("one", Some("t"));
    new.inputs = json(&format!(r#"{{"who":"{SECRET}"}}"#));
    let run_id = node.run(new).await.unwrap().answer.run_id;
    let grant = node.lease("w1").await;
    node.succeed("w1", &grant, &format!(r#"{{"who":"{SECRET}"}}"#)).await;
    (run_id, grant)
}

#[tokio::test]
async fn what_was_erased_is_not_followed_from_memory() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let (run_id, grant) = ended(&node).await;
    let secrets = |recorded: &[std::sync::Arc<stella_ledger::recorded::Recorded>]| {
        let commits = recorded.iter().map(|recorded| &recorded.commit);
        let events = commits.flat_map(|commit| &commit.events);
        events.filter_map(|e| e.payload.json()).filter(|p| p.as_str().contains(SECRET)).count()
    };
    assert_eq!(secrets(&node.followed().await), 2);
    let reason = "request 17".parse().unwrap();
    let erased = node.commands.erase_run(&acme(), &operator(), &run_id, reason, 1).await.unwrap();
    assert_eq!((erased.payloads, erased.replayed), (2, false));
    let eraser = SqliteEraser::open(dir.path().join("ledger.db")).await.unwrap();
    for recorded in node.commits().await {
        for (_, erased) in recorded.erasures() {
            erasure::carry_out(&*node.ledger, &eraser, &acme(), erased).await.unwrap();
        }
    }
    node.commands.forget_run(&acme(), &run_id).await.unwrap();
    let followed = node.followed().await;
    assert_eq!(secrets(&followed), 0);
    let events = followed.iter().flat_map(|recorded| &recorded.commit.events);
    assert_eq!(events.filter(|e| matches!(e.payload, StoredPayload::Erased(_))).count(), 2);
    // A worker that missed the answer says it again: there is nothing left to compare it with.
    let before = node.next_seq().await;
    node.succeed("w1", &grant, &format!(r#"{{"who":"{SECRET}"}}"#)).await;
    let again = node.run(new_run_like_the_first()).await.unwrap();
    assert!(again.answer.replayed && again.answer.run_id == run_id);
    assert_eq!(node.next_seq().await, before);
}

fn new_run_like_the_first() -> stella_commands::engine::NewRun {
    let mut new = new_run("one", Some("t"));
    new.inputs = json(&format!(r#"{{"who":"{SECRET}"}}"#));
    new
}

#[tokio::test]
async fn two_nodes_that_erase_at_once_name_each_payload_once() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let one = Node::new(open(&dir).await, &clock).await;
    let two = Node::start(open(&dir).await, &clock, None);
    let (run_id, _) = ended(&one).await;
    let erase = async |node: &Node| {
        let reason = "request 17".parse().unwrap();
        node.commands.erase_run(&acme(), &operator(), &run_id, reason, 1).await.unwrap()
    };
    let (a, b) = futures::future::join(erase(&one), erase(&two)).await;
    assert_eq!((a.seq, a.payloads), (b.seq, b.payloads));
    assert!(a.replayed != b.replayed, "{a:?} {b:?}");
    let named: Vec<u64> = one
        .commits()
        .await
        .iter()
        .flat_map(|recorded| recorded.erasures().flat_map(|(_, erased)| erased.seqs.clone()))
        .collect();
    assert_eq!(named.len(), 2);
}

#[tokio::test]
async fn a_run_under_way_keeps_its_payloads() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("one").await;
    let unknown = "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap();
    let before = node.next_seq().await;
    for (run_id, expected) in [(&run_id, "RunNotEnded"), (&unknown, "RunUnknown")] {
        let reason = "request 17".parse().unwrap();
        let refused = node.commands.erase_run(&acme(), &operator(), run_id, reason, 1).await;
        let Refusal::Ledger(refused) = refusal(refused) else { panic!("another refusal") };
        match refused {
            LedgerRefusal::RunNotEnded { .. } => assert_eq!(expected, "RunNotEnded"),
            LedgerRefusal::RunUnknown(_) => assert_eq!(expected, "RunUnknown"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(node.next_seq().await, before);
}

#[tokio::test]
async fn many_runs_are_erased_at_once() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let mut runs = vec![];
    for n in 0..24 {
        let mut new = new_run("one", Some(&format!("t{n}")));
        new.inputs = json(&format!(r#"{{"who":"{SECRET}"}}"#));
        runs.push(node.run(new).await.unwrap().answer.run_id);
        let grant = node.lease("w1").await;
        node.succeed("w1", &grant, &format!(r#"{{"who":"{SECRET}"}}"#)).await;
    }
    let erasing = runs.iter().map(async |run_id| {
        let reason = "request 17".parse().unwrap();
        node.commands.erase_run(&acme(), &operator(), run_id, reason, 1).await.unwrap()
    });
    let mut erased = futures::future::join_all(erasing).await;
    assert!(erased.iter().all(|erased| (erased.payloads, erased.replayed) == (2, false)));
    erased.dedup_by_key(|erased| erased.seq);
    assert_eq!(erased.len(), runs.len(), "each has its own");
}
