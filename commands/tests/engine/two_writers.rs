//! Two nodes write one ledger at once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use futures::future::join_all;
use stella_domain::{
    aggregate::{Aggregate, Outcome, Run, RunStatus},
    event::{Event, RunEvent},
    ids::{RunId, StepId, StreamId},
};
use tempfile::TempDir;

use crate::node::{Node, PATIENCE, TestClock, acme, json, new_run, open, poll_of, worker};

const RUNS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn every_run_ends_and_no_step_succeeds_twice() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let first = Node::new(open(&dir).await, &clock).await;
    let second = Node::start(open(&dir).await, &clock, None);
    let nodes = [first, second];
    let over = AtomicBool::new(false);
    let ends = async {
        let ends = join_all((0..RUNS).map(async |i| {
            let node = &nodes[i % 2];
            let new = new_run("chain", None);
            let end = node.commands.run_end(&acme(), &new.run_id);
            node.run(new).await.unwrap();
            tokio::time::timeout(PATIENCE, end.ended()).await.expect("it ends").unwrap()
        }))
        .await;
        over.store(true, SeqCst);
        ends
    };
    let workers = join_all((0..4).map(|i| work(&nodes[i % 2], i, &over)));
    let (ends, reported) = futures::join!(ends, workers);
    assert!(ends.iter().all(|end| end.status == RunStatus::Succeeded), "{ends:?}");

    let mut accepted: BTreeMap<(RunId, StepId), u32> = BTreeMap::new();
    for step in reported.into_iter().flatten() {
        *accepted.entry(step).or_default() += 1;
    }
    assert_eq!(accepted.len(), 3 * RUNS);
    assert!(accepted.values().all(|times| *times == 1), "{accepted:?}");
    assert_consistent(&nodes[0]).await;
}

/// A worker: the steps whose success was taken.
async fn work(node: &Node, i: usize, over: &AtomicBool) -> Vec<(RunId, StepId)> {
    let name = format!("w{i}");
    let mut accepted = vec![];
    while !over.load(SeqCst) {
        let poll = poll_of(&name, 2, Duration::from_millis(100));
        for grant in node.commands.poll(&acme(), poll).await {
            let outcome = Outcome::Succeeded { outputs: json(r#"{"n":1}"#) };
            let (token, id) = (&grant.token, worker(&name));
            node.commands.complete(&acme(), &id, token, outcome, None, None).await.unwrap();
            accepted.push((grant.token.run_id.clone(), grant.step_id));
        }
    }
    accepted
}

/// The chain holds, streams are dense, and each run is what its events say.
async fn assert_consistent(node: &Node) {
    let mut head = stella_domain::chain::Head::EMPTY;
    let mut runs: BTreeMap<String, (Run, u32)> = BTreeMap::new();
    for recorded in node.commits().await {
        recorded.commit.verify_follows(&head).unwrap();
        head = recorded.commit.head();
        if !matches!(recorded.commit.stream, StreamId::Run(_)) {
            continue;
        }
        let stream = recorded.commit.stream.to_string();
        let (run, succeeded) = runs.entry(stream).or_default();
        assert_eq!(recorded.commit.stream_version, run.version + 1);
        for event in &recorded.events {
            let Event::Run(event) = event else { panic!("{event:?}") };
            *succeeded += u32::from(matches!(event, RunEvent::StepSucceeded(..)));
            run.evolve(event);
        }
    }
    assert_eq!(runs.len(), RUNS);
    for (stream, (run, succeeded)) in runs {
        assert_eq!((run.status(), succeeded), (Some(RunStatus::Succeeded), 3), "{stream}");
    }
}
