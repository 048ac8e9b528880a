//! Approvals that nobody decides about in time.

use stella_domain::{
    aggregate::{RunStatus, Verdict},
    event::{Event, RunEvent},
    ids::{Actor, RunId},
};
use tempfile::TempDir;

use crate::{
    node::{Node, PATIENCE, TestClock, acme, open, operator},
    restart::open_work,
};

const TWO_DAYS_MS: i64 = 2 * 86_400_000;

async fn node(dir: &TempDir, clock: &std::sync::Arc<TestClock>) -> Node {
    let node = Node::new(open(dir).await, clock).await;
    for (id, approval) in
        [("ask", r#"{"timeout":"2d"}"#), ("lenient", r#"{"timeout":"2d","onTimeout":"approve"}"#)]
    {
        let gate = format!(r#"{{"id":"gate","approval":{approval}}}"#);
        node.register(&format!(r#"{{"id":"{id}","steps":[{gate}]}}"#)).await;
    }
    node
}

async fn ends(node: &Node, run_id: &RunId) -> RunStatus {
    let end = node.commands.run_end(&acme(), run_id);
    // Whatever wakes the writer will do.
    node.at_hand("w9").await;
    tokio::time::timeout(PATIENCE, end.ended()).await.expect("it ends").unwrap().status
}

/// Who decided, and why, as the ledger has it.
async fn verdict(node: &Node) -> (Actor, &'static str, String) {
    let commits = node.commits().await;
    let found = commits.iter().rev().find_map(|recorded| {
        recorded.events.iter().find_map(|event| match event {
            Event::Run(
                event @ (RunEvent::StepApproved(_, said) | RunEvent::StepRejected(_, said)),
            ) => {
                let reason = said.clone().unwrap().reason;
                Some((recorded.commit.actor.clone(), event.event_type(), reason))
            }
            _ => None,
        })
    });
    found.expect("a verdict")
}

#[tokio::test]
async fn what_nobody_decides_in_time_is_decided_by_the_system_as_its_dag_says() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = node(&dir, &clock).await;
    for (dag, status, event) in [
        ("ask", RunStatus::Failed, "StepRejected"),
        ("lenient", RunStatus::Succeeded, "StepApproved"),
    ] {
        let run_id = node.started(dag).await;
        clock.turn_ms(TWO_DAYS_MS - 1);
        node.at_hand("w9").await;
        assert_eq!(node.history(&run_id).await.len(), 1, "not before its time");
        clock.turn_ms(1);
        assert_eq!(ends(&node, &run_id).await, status);
        let (actor, what, reason) = verdict(&node).await;
        assert_eq!((actor, what), (Actor::dispatch(), event));
        assert_eq!(reason, "nobody decided within 2d, the timeout of this approval");
    }
}

#[tokio::test]
async fn the_deadline_of_an_approval_outlives_the_process() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let first = node(&dir, &clock).await;
    let run_id = first.started("ask").await;
    let work = open_work(&first.commits().await);
    assert_eq!(work.approvals.len(), 1);
    first.stop().await;

    clock.turn_ms(TWO_DAYS_MS);
    let node = Node::start(open(&dir).await, &clock, Some(work));
    node.at_hand("w9").await;
    node.recorded("StepRejected").await;
    assert_eq!(node.history(&run_id).await.last().unwrap(), &["StepRejected", "RunFailed"]);
}

#[tokio::test]
async fn an_approval_that_was_decided_in_time_leaves_no_timer_behind() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = node(&dir, &clock).await;
    let (approved, cancelled) = (node.started("ask").await, node.started("ask").await);
    let (step_id, reason) = ("gate".parse().unwrap(), "fine".to_owned());
    let (tenant, actor) = (acme(), operator());
    let decided = node.commands.decide_approval(
        &tenant,
        &actor,
        &approved,
        step_id,
        Verdict::Approved,
        reason,
    );
    assert_eq!(decided.await.unwrap().answer.status, RunStatus::Succeeded);
    node.commands.cancel_run(&tenant, &actor, &cancelled, "no".to_owned()).await.unwrap();
    let seq = node.next_seq().await;
    clock.turn_ms(TWO_DAYS_MS);
    node.at_hand("w9").await;
    assert_eq!(node.next_seq().await, seq);
}
