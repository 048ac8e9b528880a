//! Runs whose time is over.

use stella_commands::dispatch::Renewal;
use stella_domain::aggregate::{Outcome, RunStatus};
use tempfile::TempDir;

use crate::{
    node::{LEASE_MS, Node, TestClock, acme, open, worker},
    restart::open_work,
};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_run_whose_time_is_over_ends_though_nobody_asks() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("hour").await;
    let end = node.commands.run_end(&acme(), &run_id);
    clock.turn_ms(HOUR_MS);
    // Whatever wakes the writer will do.
    node.at_hand("w9").await;
    assert_eq!(end.ended().await.unwrap().status, RunStatus::TimedOut);
    let history = node.history(&run_id).await;
    assert_eq!(history.last().unwrap(), &["RunDeadlinePassed", "RunTimedOut"]);
    assert!(node.at_hand("w1").await.is_empty(), "nothing of it starts any more");
}

#[tokio::test]
async fn what_runs_when_the_time_is_over_is_ended_as_with_a_cancel_request() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("hour").await;
    let end = node.commands.run_end(&acme(), &run_id);
    let held = node.lease("w1").await;
    let token = [held.token.clone()];
    // The lease is kept up until then.
    for _ in 0..(HOUR_MS / LEASE_MS as i64) {
        let renewed = node.commands.heartbeat(&acme(), &worker("w1"), &token);
        assert_eq!(renewed[0].1, Renewal::Renewed);
        clock.turn_ms(LEASE_MS as i64);
    }
    node.commands.heartbeat(&acme(), &worker("w1"), &token);
    node.at_hand("w9").await;
    node.recorded("RunDeadlinePassed").await;
    let renewed = node.commands.heartbeat(&acme(), &worker("w1"), &token);
    assert_eq!(renewed[0].1, Renewal::Cancel);
    node.report("w1", &held, Outcome::Cancelled).await.unwrap();
    assert_eq!(end.ended().await.unwrap().status, RunStatus::TimedOut);
    assert_eq!(node.history(&run_id).await.last().unwrap(), &["StepCancelled", "RunTimedOut"]);
}

#[tokio::test]
async fn a_deadline_outlives_the_process() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("hour").await;
    let work = open_work(&node.commits().await);
    assert_eq!(work.deadlines.len(), 1);
    node.stop().await;

    clock.turn_ms(HOUR_MS);
    let node = Node::start(open(&dir).await, &clock, Some(work));
    let end = node.commands.run_end(&acme(), &run_id);
    node.at_hand("w9").await;
    node.recorded("RunTimedOut").await;
    drop(end);
    assert_eq!(node.history(&run_id).await.last().unwrap().last(), Some(&"RunTimedOut"));
}

#[tokio::test]
async fn a_run_that_ends_in_time_does_not_time_out() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("hour").await;
    for _ in 0..2 {
        let held = node.lease("w1").await;
        node.succeed("w1", &held, "{}").await;
    }
    clock.turn_ms(HOUR_MS);
    node.at_hand("w9").await;
    assert_eq!(node.history(&run_id).await.last().unwrap().last(), Some(&"RunSucceeded"));
}
