//! The SQLite ledger: the conformance suite, and what is particular to a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions,
};
use stella_domain::event::DataErased;
use stella_ledger::{
    conformance::{self, Samples},
    erasure::{self, EraseError, Eraser},
    port::{AppendFailure, Ledger, LedgerError},
    sqlite::{SqliteEraser, SqliteLedger},
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

#[tokio::test(flavor = "multi_thread")]
async fn its_eraser_conforms() {
    let dirs = std::sync::Mutex::new(vec![]);
    erasure::conformance::suite(async || {
        let dir = TempDir::new().unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(open(&dir).await);
        let eraser: Arc<dyn Eraser> = Arc::new(SqliteEraser::open(file(&dir)).await.unwrap());
        dirs.lock().unwrap().push(dir);
        (ledger, eraser)
    })
    .await;
}

/// The gap in the trigger is as wide as blanking, and no wider.
#[tokio::test]
async fn nothing_but_blanking_passes_the_trigger() {
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    let run = "run/0RQ9CWTXP9BPJR3KTYEG0MB9FF";
    let commits = [acme.commit(run, 1, 3, 1), acme.commit("dag/x", 1, 3, 1)];
    ledger.append(&commits).await.unwrap();
    let hash = "0".repeat(64);
    let without = "json_remove(events, '$[0].payload', '$[0].salt')";
    let blanked = format!("json_insert({without}, '$[0].payloadHash', '{hash}')");
    let set = |events: &str, more: &str, seq: u64| {
        format!("UPDATE ledger SET events = {events}{more} WHERE seq = {seq}")
    };
    for sql in [
        set(without, "", 0),
        set(&blanked, ", actor = 'user:x'", 0),
        set(&blanked, ", seq = 9, last_seq = 11", 0),
        set(&blanked, ", rowid = 77", 0),
        set(&blanked, ", prev = x'00'", 0),
        set(&format!("json_set({blanked}, '$[0].hash', '{hash}')"), "", 0),
        set(&format!("json_set({blanked}, '$[1].data', json('{{}}'))"), "", 0),
        set(&format!("json_set({blanked}, '$[0].salt', '00')"), "", 0),
        set(&format!("json_remove({blanked}, '$[2]')"), "", 0),
        set(&format!("json_set({blanked}, '$[0].payloadHash', NULL)"), "", 0),
        set(&format!("json_set({blanked}, '$[0].payloadHash', 'short')"), "", 0),
        set("json_set(events, '$[0].payload', json('{}'))", "", 0),
        set("json_set(events, '$[0].salt', '00')", "", 0),
        // One that never had a payload.
        set(&format!("json_set(events, '$[1].payloadHash', '{hash}')"), "", 0),
        set("'[]'", "", 0),
        set("'no JSON'", "", 0),
        // Only payloads of runs are ever erased.
        set(&blanked, "", 3),
    ] {
        let refused = run_sql(&dir, &sql).await.expect_err(&sql).to_string();
        let expected = if sql.contains("no JSON") { "malformed JSON" } else { "append-only" };
        assert!(refused.contains(expected), "{sql}: {refused}");
    }
    let found = ledger.read(acme.tenant(), 0, 9).await.unwrap();
    assert!(found.iter().eq(commits.iter().map(|commit| &**commit)));
    run_sql(&dir, &set(&blanked, "", 0)).await.expect("blanking, though with a wrong hash");
    let noticed = ledger.read(acme.tenant(), 0, 9).await.unwrap_err();
    assert!(matches!(noticed, LedgerError::Damaged { .. }), "{noticed}");
}

async fn run_sql(dir: &TempDir, sql: &str) -> Result<(), sqlx::Error> {
    run(&file(dir), sql).await
}

/// What is blanked is in none of the files, while they are in use.
#[tokio::test]
async fn the_bytes_of_what_is_erased_are_gone() {
    const SECRET: &str = "xxxxxxxxxxxxxxxxxxxx";
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    let run_id = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
    // Payloads of the samples grow with their place: some need pages of their own.
    for version in 0..40 {
        let commit = acme.commit(&format!("run/{run_id}"), 1 + 100 * version, 100, 1);
        ledger.append(&[commit]).await.unwrap();
    }
    let holds_secret = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        let mut contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        contents.any(|bytes| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()))
    };
    assert!(holds_secret());
    let eraser = SqliteEraser::open(file(&dir)).await.unwrap();
    let run_id = run_id.parse().unwrap();
    let erased = DataErased { run_id, seqs: (0..4_000).collect() };
    erasure::carry_out(&ledger, &eraser, acme.tenant(), &erased).await.unwrap();
    eraser.scrub().await.unwrap();
    assert!(!holds_secret());
    assert_eq!(ledger.head(acme.tenant()).await.unwrap(), acme.head());
}

/// A reader that stays keeps the write-ahead log: that is said, and tried again.
#[tokio::test]
async fn a_log_that_cannot_be_emptied_is_said() {
    let dir = TempDir::new().unwrap();
    let (ledger, mut acme) = (open(&dir).await, Samples::new("acme"));
    ledger.append(&[acme.commit("dag/x", 1, 1, 1)]).await.unwrap();
    let mut reader = raw(&file(&dir)).await;
    let mut reading = reader.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM ledger").fetch_one(&mut *reading).await.unwrap();
    ledger.append(&[acme.commit("dag/x", 2, 1, 1)]).await.unwrap();
    let eraser = SqliteEraser::open(file(&dir)).await.unwrap();
    let kept = eraser.scrub().await;
    assert!(matches!(kept, Err(EraseError::Unavailable(_))), "{kept:?}");
    reading.commit().await.unwrap();
    eraser.scrub().await.unwrap();
}

/// A file of the first version let nothing pass.
#[tokio::test]
async fn a_file_of_version_1_gets_the_gap_unless_its_trigger_is_another() {
    let old = "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only');
END";
    let changed = old.replace("append-only", "mine");
    for (trigger, findings) in [(old, 0), ("", 1), (&*changed, 1)] {
        let dir = TempDir::new().unwrap();
        open(&dir).await.close().await;
        let sql = format!("DROP TRIGGER ledger_no_update; {trigger}; PRAGMA user_version = 1");
        run_sql(&dir, &sql.replace("; ;", ";")).await.unwrap();
        let ledger = open(&dir).await;
        assert_eq!(ledger.findings().await.unwrap().len(), findings, "{trigger}");
        let eraser = SqliteEraser::open(file(&dir)).await.unwrap();
        let refused = eraser.may_blank().await;
        let is_another = trigger.contains("mine");
        assert_eq!(matches!(refused, Err(EraseError::Refused(_))), is_another, "{refused:?}");
    }
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
    run(&file(&dir), "PRAGMA user_version = 3").await.unwrap();
    let error = SqliteLedger::open(file(&dir)).await.err().expect("a newer one");
    assert!(error.to_string().contains("upgrade"), "{error}");
}
