//! The SQLite ledger: the conformance suite, and what is particular to a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions,
};
use stella_ledger::{
    conformance::{self, Samples},
    port::{AppendFailure, Ledger, LedgerError},
    sqlite::SqliteLedger,
};
use tempfile::TempDir;

async fn open(dir: &TempDir) -> SqliteLedger {
    SqliteLedger::open(file(dir)).await.expect("a ledger")
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("ledger.sqlite")
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("a connection")
}

/// Run `sql` behind the ledger's back.
async fn run(path: &Path, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = raw(path).await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let dirs = std::sync::Mutex::new(vec![]);
    conformance::suite(async || {
        let dir = TempDir::new().unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(open(&dir).await);
        dirs.lock().unwrap().push(dir);
        ledger
    })
    .await;
}

#[tokio::test]
async fn damage_is_noticed() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir);
    conformance::damage_is_noticed(&open(&dir).await, async || {
        let sql = r#"DROP TRIGGER ledger_no_update;
            UPDATE ledger SET events = replace(events, '"n":0', '"n":9') WHERE seq = 0"#;
        run(&path, sql).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_row_that_is_no_commit_is_named() {
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    ledger.append(&[acme.commit("dag/x", 1, 2, 1)]).await.unwrap();
    run(&file(&dir), "DROP TRIGGER ledger_no_update").await.unwrap();
    for change in [
        "events = '[]'",
        "events = '{'",
        "events = replace(events, '\"salt\"', '\"pepper\"')",
        "events = replace(events, 'StepStarted', 'step started')",
        "prev = x'00'",
        "origin = 'Not an origin'",
        "stream = 'dag'",
        "last_seq = 7",
        "stream_version = -1",
    ] {
        let whole = "CREATE TABLE kept AS SELECT * FROM ledger";
        run(&file(&dir), &format!("{whole}; UPDATE ledger SET {change}")).await.unwrap();
        let error = ledger.read(acme.tenant(), 0, 1).await.expect_err(change);
        let LedgerError::Malformed { id, .. } = &error else { panic!("{change}: {error}") };
        assert_eq!(id, "acme/0", "{change}");
        let back = "UPDATE ledger SET (last_seq, origin, stream, stream_version, prev, events) =
            (SELECT last_seq, origin, stream, stream_version, prev, events FROM kept);
            DROP TABLE kept";
        run(&file(&dir), back).await.unwrap();
        assert_eq!(ledger.read(acme.tenant(), 0, 1).await.unwrap().len(), 1, "{change}");
    }
}

#[tokio::test]
async fn nobody_updates_or_deletes() {
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    ledger.append(&[acme.commit("dag/x", 1, 2, 1)]).await.unwrap();
    for sql in ["UPDATE ledger SET actor = 'user:x'", "DELETE FROM ledger"] {
        let error = run(&file(&dir), sql).await.expect_err(sql).to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn missing_guards_are_found_and_not_put_back_in_silence() {
    let dir = TempDir::new().unwrap();
    open(&dir).await.close().await;
    let (mut acme, mut version) = (Samples::new("acme"), 1);
    for (drop, code, blocks_writes) in [
        ("INDEX ledger_stream", "INDEX_MISSING", true),
        ("TRIGGER ledger_in_order", "TRIGGER_MISSING", true),
        ("TRIGGER ledger_no_update", "TRIGGER_MISSING", false),
        ("TRIGGER ledger_no_delete", "TRIGGER_MISSING", false),
    ] {
        run(&file(&dir), &format!("DROP {drop}")).await.unwrap();
        let ledger = open(&dir).await;
        let findings = ledger.findings().await.unwrap();
        let [finding] = &findings[..] else { panic!("{drop}: {findings:?}") };
        assert_eq!((finding.code, finding.blocks_writes), (code, blocks_writes), "{drop}");
        let commit = [acme.commit("dag/x", version, 1, 1)];
        version += 1;
        match ledger.append(&commit).await {
            Ok(()) => assert!(!blocks_writes, "{drop}"),
            Err(error) => assert!(blocks_writes && error.to_string().contains(code), "{error}"),
        }
        // The message says how to put it back.
        let (_, remedy) = finding.message.split_once("again: ").unwrap();
        run(&file(&dir), remedy).await.unwrap();
        assert!(ledger.findings().await.unwrap().is_empty(), "{drop}");
        if blocks_writes {
            ledger.append(&commit).await.unwrap();
        }
    }
}

#[tokio::test]
async fn commits_that_overlap_or_leave_a_gap_are_refused() {
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    let mut rival = acme.fork();
    ledger.append(&[acme.commit("dag/x", 1, 3, 1)]).await.unwrap();
    rival.commit("dag/y", 1, 1, 1);
    let error = ledger.append(&[rival.commit("dag/z", 1, 1, 1)]).await.unwrap_err();
    assert!(matches!(error.cause, AppendFailure::Conflict), "inside another: {error}");
    acme.commit("dag/lost", 1, 1, 1);
    let error = ledger.append(&[acme.commit("dag/x", 4, 1, 1)]).await.unwrap_err();
    assert!(matches!(error.cause, AppendFailure::Unavailable(_)), "after a gap: {error}");
    assert!(error.to_string().contains("ends before event 4"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_openings_of_one_file_share_it() {
    const WRITERS: usize = 4;
    let dir = TempDir::new().unwrap();
    // All of them set up the file at once, and each has connections of its own, as another
    // process would.
    let ledgers = futures::future::join_all((0..WRITERS).map(|_| open(&dir))).await;
    let writing = ledgers.into_iter().enumerate().map(|(w, ledger)| async move {
        let mut samples = Samples::new(&format!("t{w}"));
        for version in 1..=25 {
            ledger.append(&[samples.commit("dag/x", version, 1, 1)]).await.expect("appended");
        }
        assert_eq!(ledger.head(samples.tenant()).await.unwrap(), samples.head());
    });
    futures::future::join_all(writing).await;
    assert_eq!(open(&dir).await.tenants(10).await.unwrap().len(), WRITERS);
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let mut acme = Samples::new("acme");
    // Not closed: what an append acknowledged needs no orderly end.
    let first = open(&dir).await;
    first.append(&[acme.commit("dag/x", 1, 2, 1)]).await.unwrap();
    assert_eq!(open(&dir).await.head(acme.tenant()).await.unwrap(), acme.head());
}

#[tokio::test]
async fn a_failure_within_a_batch_writes_nothing_and_it_recovers() {
    // A full disk ends the whole transaction, other failures only the statement.
    for ends in ["ROLLBACK", "ABORT"] {
        let dir = TempDir::new().unwrap();
        let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
        ledger.append(&[acme.commit("dag/x", 1, 2, 1)]).await.unwrap();
        let before = acme.head();
        let batch: Vec<_> = (0..400).map(|n| acme.commit("dag/y", 1 + 9 * n, 9, 1)).collect();
        let fail = format!(
            "CREATE TRIGGER fault BEFORE INSERT ON ledger WHEN NEW.seq > 2000 BEGIN
             SELECT RAISE({ends}, 'no space'); END"
        );
        run(&file(&dir), &fail).await.unwrap();
        let error = ledger.append(&batch).await.unwrap_err();
        assert!(matches!(error.cause, AppendFailure::Unavailable(_)), "{error}");
        assert_eq!(error.landed, 0);
        assert_eq!(ledger.head(acme.tenant()).await.unwrap(), before);
        run(&file(&dir), "DROP TRIGGER fault").await.unwrap();
        ledger.append(&batch).await.expect("it recovers by itself");
        assert_eq!(ledger.head(acme.tenant()).await.unwrap(), acme.head());
    }
}

#[tokio::test]
async fn what_is_no_ledger_is_not_opened() {
    let dir = TempDir::new().unwrap();
    let nowhere = dir.path().join("missing").join("ledger.sqlite");
    let error = SqliteLedger::open(&nowhere).await.err().expect("no directory");
    assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");

    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a database, though long enough to be one. ".repeat(40)).unwrap();
    let error = SqliteLedger::open(&text).await.err().expect("a text");
    assert!(matches!(error, LedgerError::Malformed { .. }), "{error}");

    open(&dir).await.close().await;
    run(&file(&dir), "PRAGMA user_version = 2").await.unwrap();
    let error = SqliteLedger::open(file(&dir)).await.err().expect("a newer one");
    assert!(error.to_string().contains("upgrade"), "{error}");
}
