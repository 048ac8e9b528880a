//! The fold agrees with the aggregates, and does not depend on how its input is cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use stella_domain::{
    aggregate::{RunStatus, StepPhase},
    ids::{FencingToken, RunId},
};
use stella_projections::{PageRequest, ProjectionError, Projections, StepState};
use support::{Action, History, MemoryLedger, actions, dump, projections, tenant};

const ALL: PageRequest = PageRequest { size: 500, after: None };

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Apply the history in batches of these sizes, closing and opening again where a size is even.
async fn folded(history: &History, cuts: &[usize]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&[]);
    let mut models = projections(dir.path(), ledger.clone());
    let mut rest = &history.recorded()[..];
    let mut sizes = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        models.apply(&tenant(), &rest[..size]).await.unwrap();
        if cuts.len() > 1 && size % 2 == 0 {
            models.close().await;
            drop(models);
            models = projections(dir.path(), ledger.clone());
        }
        rest = &rest[size..];
    }
    // Folded with the payloads that have been erased since; rebuilt without.
    ledger.push(&history.blanked());
    let report = models.check(&tenant(), &|_| {}).await.unwrap();
    assert!(report.is_identical(), "{report:#?}");
    dump(&models).await
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// Every row says what the aggregate says.
async fn assert_agrees(history: &History, models: &Projections) {
    for (id, run) in &history.runs {
        let row = models.run(&tenant(), id).await.unwrap().expect("the run is shown");
        assert_eq!(Some(row.status), run.status(), "{id}");
        let failed = run.failure.as_ref().map(|failure| &failure.step_id);
        assert_eq!(row.failed_step.as_ref(), failed, "{id}");
        assert_eq!(row.outputs, run.outputs, "{id}");
        let steps = models.steps(&tenant(), id, ALL).await.unwrap().items;
        let phases: BTreeMap<_, _> = steps.iter().map(|s| (&s.step_id, s)).collect();
        for (step_id, record) in run.records() {
            let row = phases.get(&step_id);
            let starts = run.status() == Some(RunStatus::Running);
            let expected = match record.phase {
                StepPhase::Waiting => None,
                StepPhase::Queued
                | StepPhase::BackingOff { .. }
                | StepPhase::AwaitingApproval
                | StepPhase::Expanded
                    if !starts =>
                {
                    Some(StepState::Dropped)
                }
                StepPhase::Queued => Some(StepState::Queued),
                StepPhase::Running => Some(StepState::Running),
                StepPhase::BackingOff { .. } => Some(StepState::BackingOff),
                StepPhase::Succeeded => Some(StepState::Succeeded),
                StepPhase::Failed => Some(StepState::Failed),
                StepPhase::Cancelled => Some(StepState::Cancelled),
                StepPhase::Skipped => Some(StepState::Skipped),
                StepPhase::AwaitingApproval => Some(StepState::AwaitingApproval),
                StepPhase::Expanded => Some(StepState::Expanded),
            };
            assert_eq!(row.map(|row| row.phase), expected, "{id} {step_id}");
            let Some(row) = row else { continue };
            assert_eq!(row.attempt, record.attempt);
            assert_eq!(row.outputs, record.outputs);
            assert_eq!(row.lease_expiries, u64::from(record.expiries));
        }
    }
}

/// Depths and open work, counted one by one.
async fn assert_counts(history: &History, models: &Projections) {
    let mut tokens = vec![];
    let (mut queued, mut retries) = (BTreeMap::<_, u64>::new(), 0);
    for (id, run) in &history.runs {
        for (_, lease) in run.open_leases() {
            tokens.push(FencingToken { run_id: id.clone(), stream_version: lease.stream_version });
        }
        if run.status() != Some(RunStatus::Running) {
            continue;
        }
        for (step_id, record) in run.records() {
            match record.phase {
                StepPhase::Queued => {
                    let plugin = &run.step_spec(&step_id).unwrap().action().unwrap().plugin;
                    *queued.entry(plugin.clone()).or_default() += 1;
                }
                StepPhase::BackingOff { .. } => retries += 1,
                _ => {}
            }
        }
    }
    let queue = models.queue(&tenant()).await.unwrap();
    assert_eq!(queue.next_seq, history.head.next_seq);
    assert_eq!(queue.total.queued, queued.values().sum::<u64>());
    assert_eq!(queue.total.running, tokens.len() as u64);
    assert_eq!(queue.total.backing_off, retries);
    for (plugin, depth) in &queue.by_plugin {
        assert_eq!(depth.queued, queued.get(plugin).copied().unwrap_or(0), "{plugin}");
        assert_eq!(depth.oldest_queued_at.is_some(), depth.queued > 0, "{plugin}");
    }
    let mut work = models.open_work(&tenant()).await.unwrap();
    assert_eq!(work.head, history.head);
    work.leases.sort_by(|a, b| a.token.cmp(&b.token));
    tokens.sort();
    assert_eq!(work.leases.into_iter().map(|lease| lease.token).collect::<Vec<_>>(), tokens);
    assert_eq!(work.queued.len() as u64, queue.total.queued);
    assert_eq!(work.retries.len() as u64, retries);
    let open = history.runs.iter().filter_map(|(run_id, run)| Some((run_id, run.status()?)));
    let open = open.filter(|(_, status)| !status.is_ended());
    let open = open.map(|(run_id, status)| (run_id.clone(), status == RunStatus::Cancelling));
    let told = work.runs.iter().map(|run| (run.run_id.clone(), run.cancelling)).collect();
    assert_eq!(sorted::<(RunId, bool)>(told), sorted(open.collect()));
    let asked = models.pending_approvals(&tenant(), None, ALL).await.unwrap().items;
    let asked: Vec<_> =
        asked.into_iter().map(|step| (step.run_id, step.step_id, step.deadline.unwrap())).collect();
    let timed = work.approvals.iter();
    let timed: Vec<_> =
        timed.map(|of| (of.run_id.clone(), of.step_id.clone(), of.deadline)).collect();
    assert_eq!(sorted(timed), sorted(asked));
    let waiting = history.runs.iter().filter(|(_, run)| run.status() == Some(RunStatus::Running));
    let waiting = waiting
        .flat_map(|(_, run)| run.records().map(|(_, record)| record.phase).collect::<Vec<_>>());
    let waiting = waiting.filter(|phase| *phase == StepPhase::AwaitingApproval).count();
    assert_eq!(work.approvals.len(), waiting);
    let oldest = work.queued.iter().map(|step| step.seq).min();
    let recorded_at = oldest.map(|seq| {
        let commit = history.commits.iter().find(|commit| commit.last_seq() >= seq).unwrap();
        commit.recorded_at
    });
    assert_eq!(queue.total.oldest_queued_at, recorded_at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rows_say_what_the_aggregates_say(actions in actions(160)) {
        let history = History::made_by(&actions);
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let models = projections(dir.path(), MemoryLedger::of(&history.commits));
            assert_agrees(&history, &models).await;
            assert_counts(&history, &models).await;
        });
    }

    #[test]
    fn any_batches_give_the_same(
        actions in actions(80),
        cuts in prop::collection::vec(1_usize..12, 2..6),
    ) {
        let history = History::made_by(&actions);
        runtime().block_on(async {
            let whole = folded(&history, &[usize::MAX]).await;
            assert_eq!(folded(&history, &cuts).await, whole);
            assert_eq!(folded(&history, &[1]).await, whole);
        });
    }
}

#[tokio::test]
async fn what_does_not_follow_is_refused_and_changes_nothing() {
    let mut history = History::new();
    history.start(0, 0, 0);
    history.act(&Action::Lease { pick: 0 });
    let recorded = history.recorded();
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&[]));
    models.apply(&tenant(), &recorded[..2]).await.unwrap();
    let before = dump(&models).await;
    let twice = [&recorded[1..2], &recorded[2..]].concat();
    let gap = recorded[3..].to_vec();
    let torn = [&recorded[2..3], &recorded[4..]].concat();
    for wrong in [twice, gap, torn] {
        let refused = models.apply(&tenant(), &wrong).await;
        assert!(matches!(refused, Err(ProjectionError::NotNext(_))), "{refused:?}");
        assert_eq!(dump(&models).await, before);
    }
    models.apply(&tenant(), &recorded[2..]).await.unwrap();
    assert_ne!(dump(&models).await, before);
}

#[tokio::test]
async fn a_failure_is_forgiven_by_a_retry_in_the_same_commit_only() {
    let mut history = History::new();
    history.start(1, 0, 0);
    history.act(&Action::Lease { pick: 0 });
    history.act(&Action::Succeed { pick: 0, size: 1 });
    for _ in 0..3 {
        history.act(&Action::Lease { pick: 0 });
    }
    let id: RunId = history.runs[0].0.clone();
    let status = async |history: &History| {
        let dir = tempfile::tempdir().unwrap();
        let models = projections(dir.path(), MemoryLedger::of(&history.commits));
        let row = models.run(&tenant(), &id).await.unwrap().unwrap();
        let depth = models.queue(&tenant()).await.unwrap().total;
        (row.status, row.retries, row.steps_failed, depth.backing_off, depth.running)
    };
    history.act(&Action::Fail { pick: 0, retryable: true });
    assert_eq!(status(&history).await, (RunStatus::Running, 1, 0, 1, 2));
    history.act(&Action::Fail { pick: 0, retryable: false });
    assert_eq!(status(&history).await, (RunStatus::Failing, 1, 1, 0, 1));
    history.act(&Action::Fail { pick: 0, retryable: false });
    assert_eq!(status(&history).await, (RunStatus::Failed, 1, 2, 0, 0));
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let metrics = models.metrics(&tenant()).await.unwrap();
    let tally = &metrics.dags[0];
    assert_eq!((tally.runs_created, tally.runs_failed), (1, 1));
    assert_eq!(tally.retries.values().sum::<u64>(), 1);
    assert_eq!(tally.duration_buckets.iter().sum::<u64>(), 1);
}
