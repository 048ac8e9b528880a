//! A second process goes on from what a projection knew.

use std::collections::{BTreeMap, BTreeSet};

use stella_commands::dispatch::Renewal;
use stella_domain::{
    aggregate::{Outcome, RunStatus},
    chain::Head,
    event::{Event, RunEvent},
    ids::{FencingToken, StreamId},
    open_work::{
        OpenLease, OpenRun, OpenWork, PendingApproval, PendingRetry, QueuedStep, RunDeadline,
    },
};
use stella_ledger::recorded::Recorded;
use tempfile::TempDir;

use crate::node::{LEASE_MS, Node, TestClock, acme, failed, open, operator, worker};

#[tokio::test]
async fn leases_queue_and_retries_are_continued() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let retried = node.started("retry").await;
    let failing = node.lease("w1").await;
    node.report("w1", &failing, failed("BOOM")).await.unwrap();
    node.started("chain").await;
    let kept = node.lease("w1").await;
    let lost = node.started("one").await;
    node.lease("w2").await;
    let queued = node.started("one").await;
    let work = open_work(&node.commits().await);
    assert_eq!((work.queued.len(), work.leases.len(), work.retries.len()), (1, 2, 1));
    node.stop().await;

    let node = Node::start(open(&dir).await, &clock, Some(work));
    // Its run is read from the ledger, and the DAG that it follows.
    node.succeed("w1", &kept, r#"{"n":1}"#).await;
    let (one, b) = (node.lease("w3").await, node.lease("w3").await);
    assert_eq!((one.token.run_id.clone(), b.step_id.as_str()), (queued, "b"));
    assert!(node.at_hand("w3").await.is_empty());
    node.clock.turn_ms(1_000);
    let again = node.lease("w3").await;
    assert_eq!((&again.token.run_id, again.attempt), (&retried, 2));
    node.commands.heartbeat(&acme(), &worker("w3"), &[one.token, b.token]);
    node.clock.turn_ms(LEASE_MS as i64 - 1_001);
    assert!(node.at_hand("w3").await.is_empty(), "every lease has a whole term");
    node.clock.turn_ms(1);
    let again = node.lease("w3").await;
    assert_eq!((&again.token.run_id, again.attempt), (&lost, 2));
}

#[tokio::test]
async fn a_cancel_is_told_after_a_restart_too() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("one").await;
    let held = node.lease("w1").await;
    let reason = "wrong file".to_owned();
    node.commands.cancel_run(&acme(), &operator(), &run_id, reason).await.unwrap();
    let work = open_work(&node.commits().await);
    node.stop().await;

    let node = Node::start(open(&dir).await, &clock, Some(work));
    let token = std::slice::from_ref(&held.token);
    assert_eq!(node.commands.cancellations(&acme(), &worker("w1")).await, token);
    let beat = node.commands.heartbeat(&acme(), &worker("w1"), token);
    assert_eq!(beat[0].1, Renewal::Cancel);
    let end = node.commands.run_end(&acme(), &run_id);
    node.report("w1", &held, Outcome::Cancelled).await.unwrap();
    assert_eq!(end.ended().await.unwrap().status, RunStatus::Cancelled);
}

#[tokio::test]
async fn what_the_projection_had_not_seen_is_worked_off_though_nobody_asks() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let work = open_work(&node.commits().await);
    let run_id = node.started("one").await;
    node.stop().await;

    let node = Node::start(open(&dir).await, &clock, Some(work));
    let end = node.commands.run_end(&acme(), &run_id);
    let held = node.lease("w1").await;
    assert_eq!(held.token.run_id, run_id);
    node.succeed("w1", &held, "{}").await;
    assert_eq!(end.ended().await.unwrap().status, RunStatus::Succeeded);
}

/// What a projection would say is open after these commits.
pub(crate) fn open_work(commits: &[Recorded]) -> OpenWork {
    let mut dags = BTreeMap::new();
    let mut queued = BTreeMap::new();
    let mut leases = BTreeMap::new();
    let mut retries = BTreeMap::new();
    let mut approvals = BTreeMap::new();
    let mut deadlines = vec![];
    let mut cancelling = BTreeSet::new();
    for recorded in commits {
        let commit = &recorded.commit;
        let StreamId::Run(run_id) = &commit.stream else { continue };
        for (i, (seq, event)) in (0..).zip(recorded.with_seq()) {
            let Event::Run(event) = event else { continue };
            let (run_id, stream_version) = (run_id.clone(), commit.stream_version + i);
            match event.clone() {
                RunEvent::RunCreated(data, _) => {
                    let run = run_id.clone();
                    let deadline =
                        data.deadline.map(|deadline| RunDeadline { run_id: run, deadline });
                    deadlines.extend(deadline);
                    dags.insert(run_id, data.dag_id);
                }
                RunEvent::StepQueued(data) => {
                    let key = (run_id.clone(), data.step_id.clone());
                    retries.remove(&key);
                    let step = QueuedStep {
                        dag_id: dags[&run_id].clone(),
                        run_id,
                        step_id: data.step_id,
                        plugin: data.plugin,
                        concurrency: data.concurrency,
                        priority: data.priority,
                        seq,
                    };
                    queued.insert(key, step);
                }
                RunEvent::StepStarted(data) => {
                    let key = (run_id.clone(), data.step_id.clone());
                    let Some(step): Option<QueuedStep> = queued.remove(&key) else { continue };
                    let lease = OpenLease {
                        dag_id: step.dag_id,
                        plugin: step.plugin,
                        concurrency: step.concurrency,
                        token: FencingToken { run_id, stream_version },
                        step_id: data.step_id,
                        worker_id: data.worker_id,
                        lease_ms: data.lease_ms,
                        started_at: commit.recorded_at,
                    };
                    leases.insert(key, lease);
                }
                RunEvent::StepRetryScheduled(data) => {
                    let key = (run_id.clone(), data.step_id.clone());
                    let not_before = data.not_before;
                    retries.insert(key, PendingRetry { run_id, step_id: data.step_id, not_before });
                }
                RunEvent::ApprovalRequested(data, _) => {
                    let (key, step_id) = ((run_id.clone(), data.step_id.clone()), data.step_id);
                    if let Some(deadline) = data.deadline {
                        approvals.insert(key, PendingApproval { run_id, step_id, deadline });
                    }
                }
                RunEvent::StepApproved(data, _) | RunEvent::StepRejected(data, _) => {
                    drop(approvals.remove(&(run_id, data.step_id)));
                }
                RunEvent::RunCancelRequested(..) => {
                    cancelling.insert(run_id);
                }
                RunEvent::StepFailed(data, _) => drop(leases.remove(&(run_id, data.step_id))),
                RunEvent::StepSucceeded(data, _) => drop(leases.remove(&(run_id, data.step_id))),
                _ => {}
            }
        }
    }
    OpenWork {
        head: commits.last().map_or(Head::EMPTY, |last| last.commit.head()),
        queued: queued.into_values().collect(),
        leases: leases.into_values().collect(),
        retries: retries.into_values().collect(),
        runs: dags
            .into_iter()
            .map(|(run_id, dag_id)| OpenRun {
                cancelling: cancelling.contains(&run_id),
                run_id,
                dag_id,
            })
            .collect(),
        approvals: approvals.into_values().collect(),
        deadlines,
        ..OpenWork::default()
    }
}
