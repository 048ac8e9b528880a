//! Steps that fail and are tolerated, lists and approvals, with workers that wait.

use std::time::Duration;

use stella_commands::Refusal;
use stella_domain::aggregate::{RunRefusal, RunStatus, Verdict};
use tempfile::TempDir;

use crate::node::{Node, TestClock, acme, new_run, open, operator, poll_of, refusal};

/// A failure that is tolerated readies other steps in the commit in which one step was to be leased:
/// whoever waited for that one must not be told of another's lease.
#[tokio::test]
async fn a_lease_that_comes_to_nothing_gives_nobody_the_lease_of_another() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let run_id = node.started("rich").await;
    let (wait, tenant) = (Duration::from_millis(200), acme());
    let (one, two) = tokio::join!(
        node.commands.poll(&tenant, poll_of("w1", 1, wait)),
        node.commands.poll(&tenant, poll_of("w2", 1, wait)),
    );
    let granted: Vec<_> = one.iter().chain(&two).map(|grant| grant.step_id.as_str()).collect();
    assert_eq!(granted, ["each.0"], "one step, one lease");
    let started = node.history(&run_id).await.concat();
    assert_eq!(started.iter().filter(|kind| **kind == "StepStarted").count(), 1, "{started:?}");
}

#[tokio::test]
async fn items_are_leased_one_by_one_and_an_operator_lets_the_run_end() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let started = node.run(new_run("rich", None)).await.unwrap();
    let run_id = started.answer.run_id;
    let end = node.commands.run_end(&acme(), &run_id);
    for (index, item) in [7, 8].into_iter().enumerate() {
        let held = node.lease("w1").await;
        assert_eq!(held.step_id.as_str(), format!("each.{index}"));
        assert_eq!(held.with.as_str(), format!(r#"{{"at":{index},"n":{item}}}"#));
        assert!(node.at_hand("w2").await.is_empty(), "one at a time");
        node.succeed("w1", &held, "{}").await;
    }
    assert!(node.at_hand("w1").await.is_empty(), "an operator is asked");
    let decide = async |verdict| {
        let (step, reason) = ("gate".parse().unwrap(), "as agreed".to_owned());
        node.commands.decide_approval(&acme(), &operator(), &run_id, step, verdict, reason).await
    };
    assert!(decide(Verdict::Approved).await.unwrap().receipt.is_some());
    assert!(decide(Verdict::Approved).await.unwrap().receipt.is_none(), "said twice");
    let refused = refusal(decide(Verdict::Rejected).await);
    assert!(matches!(refused, Refusal::Run(RunRefusal::AlreadyDecided { .. })), "{refused}");
    let held = node.lease("w1").await;
    assert_eq!(held.step_id.as_str(), "last");
    node.succeed("w1", &held, "{}").await;
    assert_eq!(end.ended().await.unwrap().status, RunStatus::Succeeded);
}
