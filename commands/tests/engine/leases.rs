//! Leases that expire, are renewed, are reported twice.

use stella_commands::{Refusal, dispatch::Renewal};
use stella_domain::aggregate::{Outcome, RunRefusal};
use tempfile::TempDir;

use crate::node::{LEASE_MS, Node, TestClock, acme, json, open, refusal, worker};

fn succeeded(outputs: &str) -> Outcome {
    Outcome::Succeeded { outputs: json(outputs) }
}

#[tokio::test]
async fn an_expired_lease_goes_to_another_worker_and_its_token_is_stale() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("one").await;
    let lost = node.lease("w1").await;
    node.clock.turn_ms(LEASE_MS as i64);
    let held = node.lease("w2").await;
    assert_eq!((&held.token.run_id, held.attempt), (&run_id, 2));
    let late = refusal(node.report("w1", &lost, succeeded("{}")).await);
    assert!(matches!(late, Refusal::Run(RunRefusal::StaleToken { .. })), "{late}");
    let beat = node.commands.heartbeat(&acme(), &worker("w1"), std::slice::from_ref(&lost.token));
    assert_eq!(beat[0].1, Renewal::Lost);
    node.succeed("w2", &held, "{}").await;
}

#[tokio::test]
async fn a_heartbeat_renews_for_a_whole_term() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("one").await;
    let held = node.lease("w1").await;
    let token = std::slice::from_ref(&held.token);
    for _ in 0..5 {
        node.clock.turn_ms(LEASE_MS as i64 - 1);
        assert!(node.at_hand("w2").await.is_empty());
        let beat = node.commands.heartbeat(&acme(), &worker("w1"), token);
        assert_eq!(beat[0].1, Renewal::Renewed);
        let others = node.commands.heartbeat(&acme(), &worker("w2"), token);
        assert_eq!(others[0].1, Renewal::Lost, "only who holds it renews it");
    }
    node.succeed("w1", &held, "{}").await;
    assert!(!node.history(&run_id).await.concat().contains(&"StepLeaseExpired"));
}

/// It hears no heartbeats any more, and nobody would hear of a lease.
#[tokio::test]
async fn a_node_that_ends_lets_no_lease_expire_and_grants_none() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("one").await;
    let held = node.lease("w1").await;
    node.commands.close();
    node.clock.turn_ms(10 * LEASE_MS as i64);
    node.started("one").await;
    assert!(node.at_hand("w2").await.is_empty());
    assert!(!node.history(&run_id).await.concat().contains(&"StepLeaseExpired"));
    node.succeed("w1", &held, "{}").await;
}

#[tokio::test]
async fn a_report_is_recorded_once_and_another_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("one").await;
    let held = node.lease("w1").await;
    let others = refusal(node.report("w2", &held, succeeded("{}")).await);
    assert!(matches!(others, Refusal::Run(RunRefusal::NotHolder { .. })), "{others}");
    for _ in 0..3 {
        node.succeed("w1", &held, r#"{"n":1}"#).await;
    }
    let other = refusal(node.report("w1", &held, succeeded(r#"{"n":2}"#)).await);
    assert!(matches!(other, Refusal::Run(RunRefusal::AlreadyClosed(_))), "{other}");
    let history = node.history(&run_id).await.concat();
    assert_eq!(history.iter().filter(|event| **event == "StepSucceeded").count(), 1);
}

#[tokio::test]
async fn a_poll_that_does_not_wait_gets_what_is_queued() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let runs = [node.started("one").await, node.started("pair").await];
    let leases = node.at_hand("w1").await;
    let of: Vec<_> = leases.iter().map(|lease| &lease.token.run_id).collect();
    assert_eq!(of, [&runs[0], &runs[1], &runs[1]]);
}
