//! Runs from start to end.

use futures::poll;
use stella_commands::dispatch::Renewal;
use stella_domain::aggregate::{Outcome, RunStatus};
use tempfile::TempDir;

use crate::node::{
    Node, PATIENCE, TestClock, acme, failed, json, new_run, open, operator, poll_of, worker,
};

#[tokio::test]
async fn a_lone_run_of_three_steps_makes_four_commits_when_a_worker_waits() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let tenant = acme();
    let mut waiting = Box::pin(node.commands.poll(&tenant, poll_of("w1", 1, PATIENCE)));
    assert!(poll!(&mut waiting).is_pending());
    let new = new_run("chain", None);
    let end = node.commands.run_end(&acme(), &new.run_id);
    let run_id = node.run(new).await.unwrap().answer.run_id;
    let a = waiting.await.remove(0);
    assert_eq!((a.step_id.as_str(), a.attempt, a.with.as_str()), ("a", 1, "{}"));
    let b = node.succeed_and_poll("w1", &a).await.remove(0);
    assert_eq!((b.step_id.as_str(), b.with.as_str()), ("b", r#"{"n":1}"#));
    let c = node.succeed_and_poll("w1", &b).await.remove(0);
    assert!(node.succeed_and_poll("w1", &c).await.is_empty());
    let step = vec!["StepSucceeded", "StepQueued", "StepStarted"];
    assert_eq!(
        node.history(&run_id).await,
        [
            vec!["RunCreated", "StepQueued", "StepStarted"],
            step.clone(),
            step,
            vec!["StepSucceeded", "RunSucceeded"]
        ]
    );
    let end = end.ended().await.unwrap();
    assert_eq!((end.status, end.failure), (RunStatus::Succeeded, None));
    assert_eq!(end.seq + 1, node.next_seq().await);
}

#[tokio::test]
async fn higher_priority_goes_first_then_older() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let (first, second) = (node.started("one").await, node.started("one").await);
    let mut urgent = new_run("one", None);
    urgent.priority = 5;
    let urgent = node.run(urgent).await.unwrap().answer.run_id;
    for expected in [urgent, first, second] {
        assert_eq!(node.lease("w1").await.token.run_id, expected);
    }
}

#[tokio::test]
async fn what_waits_longer_goes_before_the_next_step_of_the_run_at_hand() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.started("chain").await;
    let a = node.lease("w1").await;
    let older = node.started("one").await;
    let next = node.succeed_and_poll("w1", &a).await;
    assert_eq!(next[0].token.run_id, older);
    assert_eq!(node.lease("w1").await.step_id.as_str(), "b");
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_the_last_failure_ends_the_run() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("retry").await;
    let end = node.commands.run_end(&acme(), &run_id);
    let first = node.lease("w1").await;
    node.report("w1", &first, failed("BOOM")).await.unwrap();
    // Half of the backoff at least, whatever the jitter.
    node.clock.turn_ms(499);
    assert!(node.at_hand("w1").await.is_empty(), "not before its time");
    node.clock.turn_ms(501);
    let second = node.lease("w1").await;
    assert_eq!(second.attempt, 2);
    node.report("w1", &second, failed("BOOM")).await.unwrap();
    let end = end.ended().await.unwrap();
    assert_eq!(end.status, RunStatus::Failed);
    assert_eq!(end.failure.unwrap().error_code.as_str(), "BOOM");
}

#[tokio::test]
async fn a_timeout_that_nobody_reports_is_recorded() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.started("retry").await;
    let first = node.lease("w1").await;
    // The step may take 10 s, and its worker has 15 s more to say that it took longer.
    for _ in 0..2 {
        node.clock.turn_ms(12_500);
        node.commands.heartbeat(&acme(), &worker("w1"), std::slice::from_ref(&first.token));
    }
    node.recorded("StepTimedOut").await;
    node.clock.turn_ms(1_000);
    assert_eq!(node.lease("w2").await.attempt, 2);
    let history = node.history(&first.token.run_id).await;
    assert!(history.contains(&vec!["StepTimedOut", "StepRetryScheduled"]), "{history:?}");
}

#[tokio::test]
async fn cancel_reaches_the_worker_and_ends_the_run() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("pair").await;
    let end = node.commands.run_end(&acme(), &run_id);
    let a = node.lease("w1").await;
    let (tenant, ann, w1) = (acme(), operator(), worker("w1"));
    let reason = "wrong file".to_owned();
    let mut told = Box::pin(node.commands.cancellations(&tenant, &w1));
    assert!(poll!(&mut told).is_pending());
    let cancel = node.commands.cancel_run(&tenant, &ann, &run_id, reason.clone());
    let cancelled = cancel.await.unwrap();
    assert_eq!(cancelled.answer.status, RunStatus::Cancelling);
    assert_eq!(told.await, std::slice::from_ref(&a.token));
    let beat = node.commands.heartbeat(&tenant, &w1, std::slice::from_ref(&a.token));
    assert_eq!(beat, [(a.token.clone(), Renewal::Cancel)]);
    let again = node.commands.cancel_run(&tenant, &ann, &run_id, reason).await.unwrap();
    assert!(again.receipt.is_none(), "it is recorded already");
    assert!(node.at_hand("w2").await.is_empty(), "nothing new starts");
    node.report("w1", &a, Outcome::Cancelled).await.unwrap();
    assert_eq!(end.ended().await.unwrap().status, RunStatus::Cancelled);
    let late = Outcome::Succeeded { outputs: json("{}") };
    assert!(node.report("w1", &a, late).await.is_err());
}
