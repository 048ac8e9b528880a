//! Following, rebuilding, checking, and what is noticed when a ledger or a file is not the right
//! one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use stella_projections::{DIGEST_INTERVAL, Model, ProjectionError};
use support::{History, MemoryLedger, dump, long_history, projections, tenant};
use tokio::sync::oneshot;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

async fn tamper(file: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let changed = sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected();
    assert!(changed > 0, "{sql}");
    connection.close().await.unwrap();
}

#[tokio::test]
async fn following_rebuilding_and_reading_go_on_together() {
    let history = long_history(1_200);
    assert!(history.head.next_seq > 2 * DIGEST_INTERVAL);
    let (first, rest) = history.commits.split_at(history.commits.len() / 2);
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&[]);
    let models = Arc::new(projections(dir.path(), ledger.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let following = tokio::spawn({
        let models = Arc::clone(&models);
        async move { models.follow(&tenant(), async { drop(stopped.await) }).await }
    });
    ledger.push(first);
    let half = first.last().unwrap().last_seq();
    models.wait_for(&tenant(), half, PATIENCE).await.unwrap();
    ledger.push(rest);
    let rebuilt = models.rebuild(&tenant(), &|_| {}).await.unwrap();
    assert_eq!(rebuilt.diverged, []);
    models.wait_for(&tenant(), history.head.next_seq - 1, PATIENCE).await.unwrap();
    assert_eq!(models.position(&tenant()).await.unwrap().applied, history.head);
    let last = history.runs.last().unwrap();
    let row = models.run(&tenant(), &last.0).await.unwrap().unwrap();
    assert_eq!(Some(row.status), last.1.status());
    let live = dump(&models).await;
    models.rebuild(&tenant(), &|_| {}).await.unwrap();
    assert_eq!(dump(&models).await, live);
    let report = models.check(&tenant(), &|_| {}).await.unwrap();
    assert!(report.is_identical() && report.next_seq == history.head.next_seq, "{report:#?}");
    stop.send(()).unwrap();
    following.await.unwrap().unwrap();
    models.close().await;
    drop(models);
    let again = projections(dir.path(), ledger);
    again.verify(&tenant()).await.unwrap();
    assert_eq!(dump(&again).await, live);
}

#[tokio::test]
async fn a_tampered_row_is_found_and_named() {
    let history = long_history(40);
    for (model, sql) in [
        (
            Model::Runs,
            "UPDATE runs SET row = replace(row, '\"priority\":0', '\"priority\":9') WHERE key =
             (SELECT min(key) FROM runs)",
        ),
        (Model::Steps, "DELETE FROM steps WHERE key = (SELECT max(key) FROM steps)"),
        (Model::Queues, "INSERT INTO queues VALUES ('aaa/zzz', '{}')"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let models = projections(dir.path(), MemoryLedger::of(&history.commits));
        assert!(models.check(&tenant(), &|_| {}).await.unwrap().is_identical());
        tamper(&dir.path().join("acme.db"), sql).await;
        let report = models.check(&tenant(), &|_| {}).await.unwrap();
        assert!(!report.is_identical());
        for found in report.models {
            assert_eq!(found.is_identical(), found.model != model, "{found:#?}");
            assert_eq!(found.differences.len(), usize::from(found.model == model), "{found:#?}");
        }
        let rebuilt = models.rebuild(&tenant(), &|_| {}).await.unwrap();
        assert_eq!(rebuilt.diverged, []);
        assert!(models.check(&tenant(), &|_| {}).await.unwrap().is_identical());
    }
}

#[tokio::test]
async fn columns_and_labels_that_do_not_fit_are_found() {
    let history = long_history(5);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    assert_eq!(models.check(&tenant(), &|_| {}).await.unwrap().strays, 0);
    tamper(&dir.path().join("acme.db"), "DELETE FROM run_labels WHERE run_key = 7").await;
    let report = models.check(&tenant(), &|_| {}).await.unwrap();
    assert!(report.strays == 2 && !report.is_identical(), "{report:#?}");
    tamper(&dir.path().join("acme.db"), "UPDATE runs SET status = 'failed' WHERE key = 7").await;
    assert_eq!(models.check(&tenant(), &|_| {}).await.unwrap().strays, 3);
}

#[tokio::test]
async fn recorded_digests_say_where_two_folds_went_apart() {
    let history = long_history(1_200);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    models.verify(&tenant()).await.unwrap();
    tamper(
        &dir.path().join("acme.digests.db"),
        "UPDATE digests SET digest = replace(digest, '0', '1') WHERE model = 'steps' AND next_seq =
         (SELECT min(next_seq) FROM digests WHERE next_seq >= 8192)",
    )
    .await;
    let report = models.check(&tenant(), &|_| {}).await.unwrap();
    let diverged: Vec<_> =
        report.models.iter().filter_map(|found| found.diverged.clone()).collect();
    let rebuilt = models.rebuild(&tenant(), &|_| {}).await.unwrap();
    assert_eq!(rebuilt.diverged, diverged);
    let [found] = &diverged[..] else { panic!("{diverged:?}") };
    assert_eq!(found.model, Model::Steps);
    assert_eq!(found.equal_at / DIGEST_INTERVAL, 1);
    assert_eq!(found.differs_at / DIGEST_INTERVAL, 2);
    assert_eq!(models.rebuild(&tenant(), &|_| {}).await.unwrap().diverged, []);
}

#[tokio::test]
async fn a_shorter_or_another_ledger_is_noticed_and_nothing_is_rebuilt_by_itself() {
    let history = long_history(20);
    let mut other = History::new();
    for n in 0..200 {
        other.start(n + 1, 3, 1);
    }
    assert!(other.head.next_seq > history.head.next_seq);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let before = dump(&models).await;
    models.close().await;
    drop(models);

    let shorter = MemoryLedger::of(&history.commits[..history.commits.len() - 1]);
    let models = projections(dir.path(), shorter.clone());
    let error = models.follow(&tenant(), std::future::pending()).await.unwrap_err();
    let expected = history.head.next_seq;
    assert!(
        matches!(error, ProjectionError::LedgerBehind { position, ledger, .. }
            if position == expected && ledger < expected),
        "{error}"
    );
    assert!(models.open_work(&tenant()).await.is_err());
    assert_eq!(dump(&models).await, before);
    models.close().await;
    drop(models);

    let models = projections(dir.path(), MemoryLedger::of(&other.commits));
    let error = models.verify(&tenant()).await.unwrap_err();
    assert!(matches!(error, ProjectionError::LedgerDiffers { .. }), "{error}");
    assert_eq!(dump(&models).await, before);
    models.rebuild(&tenant(), &|_| {}).await.unwrap();
    models.verify(&tenant()).await.unwrap();
    assert_ne!(dump(&models).await, before);
}

#[tokio::test]
async fn a_file_of_another_version_is_rebuilt_when_it_is_opened() {
    let history = long_history(20);
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&history.commits);
    let models = projections(dir.path(), ledger.clone());
    let before = dump(&models).await;
    models.close().await;
    drop(models);
    let file = dir.path().join("acme.db");
    tamper(&file, "UPDATE runs SET row = replace(row, '\"priority\":0', '\"priority\":9')").await;
    let options = SqliteConnectOptions::new().filename(&file).pragma("user_version", "99");
    SqliteConnection::connect_with(&options).await.unwrap().close().await.unwrap();
    let models = projections(dir.path(), ledger);
    assert_eq!(dump(&models).await, before);
}

#[tokio::test]
async fn a_directory_has_one_user_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&[]);
    let models = projections(dir.path(), ledger.clone());
    let feed = stella_ledger::feed::Feed::new(ledger.clone());
    let second = stella_projections::Projections::open(dir.path(), ledger.clone(), feed);
    assert!(matches!(second.err(), Some(ProjectionError::InUse { .. })));
    drop(models);
    projections(dir.path(), ledger);
}

#[tokio::test]
async fn waiting_has_an_end() {
    let history = long_history(3);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let next_seq = history.head.next_seq;
    models.wait_for(&tenant(), next_seq - 1, Duration::ZERO).await.unwrap();
    let error = models.wait_for(&tenant(), next_seq, Duration::ZERO).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
