//! The table, and what guards it.

use sqlx::{Connection, Row, SqliteConnection, SqlitePool};

use super::{malformed, read_error};
use crate::port::{Finding, LedgerError};

/// Kept in the file's `user_version`; 0 is a new file.
const VERSION: i64 = 2;

/// Message of `ledger_in_order` for a commit whose place is taken.
pub(super) const SEQ_TAKEN: &str = "ledger: seq is taken";
/// Message of `ledger_in_order` for a commit that does not follow the last one.
pub(super) const SEQ_MISSING: &str = "ledger: seq leaves a gap";

struct Object {
    name: &'static str,
    code: &'static str,
    blocks_writes: bool,
    sql: &'static str,
}

/// Lets one thing pass: within commits of runs, `payload` and `salt` of events are gone, their
/// `payloadHash` has come in their place, and all else is as it was. `IS` throughout, so that
/// nothing is unknown.
const NO_UPDATE: &str = "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only')
  WHERE (NEW.rowid, NEW.tenant, NEW.seq, NEW.last_seq, NEW.origin, NEW.stream,
      NEW.stream_version, NEW.recorded_at, NEW.actor, NEW.prev)
    IS NOT (OLD.rowid, OLD.tenant, OLD.seq, OLD.last_seq, OLD.origin, OLD.stream,
      OLD.stream_version, OLD.recorded_at, OLD.actor, OLD.prev)
    OR substr(OLD.stream, 1, 4) IS NOT 'run/'
    OR EXISTS (SELECT 1 FROM
      (SELECT max(was) AS was, max(becomes) AS becomes FROM
        (SELECT key, value AS was, NULL AS becomes FROM json_each(OLD.events)
        UNION ALL SELECT key, NULL, value FROM json_each(NEW.events))
      GROUP BY key)
    WHERE becomes IS NOT was
      AND (json_type(was, '$.payload') IS NOT 'object'
        OR length(json_extract(becomes, '$.payloadHash')) IS NOT 64
        OR json_remove(becomes, '$.payloadHash') IS NOT json_remove(was, '$.payload', '$.salt')));
END";

/// What version 1 had in its place: nothing was erased.
const NO_UPDATE_AT_ALL: &str = "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only');
END";

/// What a ledger's file holds. Small columns come first, so that a point read of place and time
/// does not have to walk through the events.
const OBJECTS: [Object; 5] = [
    Object {
        name: "ledger",
        code: "TABLE_CHANGED",
        blocks_writes: true,
        sql: "CREATE TABLE ledger (
  tenant TEXT NOT NULL,
  seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL CHECK (last_seq >= seq),
  origin TEXT NOT NULL,
  stream TEXT NOT NULL,
  stream_version INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL, -- microseconds since 1970
  actor TEXT NOT NULL,
  prev BLOB NOT NULL,
  events TEXT NOT NULL,
  PRIMARY KEY (tenant, seq)
) STRICT",
    },
    Object {
        name: "ledger_stream",
        code: "INDEX_MISSING",
        blocks_writes: true,
        sql: "CREATE UNIQUE INDEX ledger_stream ON ledger (tenant, stream, stream_version)",
    },
    Object {
        name: "ledger_in_order",
        code: "TRIGGER_MISSING",
        blocks_writes: true,
        sql: "CREATE TRIGGER ledger_in_order BEFORE INSERT ON ledger BEGIN
  SELECT CASE
    WHEN NEW.seq < next THEN RAISE(ABORT, 'ledger: seq is taken')
    WHEN NEW.seq > next THEN RAISE(ABORT, 'ledger: seq leaves a gap')
  END FROM (SELECT coalesce((SELECT last_seq FROM ledger WHERE tenant = NEW.tenant
    ORDER BY seq DESC LIMIT 1), -1) + 1 AS next);
END",
    },
    Object {
        name: "ledger_no_update",
        code: "TRIGGER_MISSING",
        blocks_writes: false,
        sql: NO_UPDATE,
    },
    Object {
        name: "ledger_no_delete",
        code: "TRIGGER_MISSING",
        blocks_writes: false,
        sql: "CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN
  SELECT RAISE(ABORT, 'the ledger is append-only');
END",
    },
];

/// Set up a new file. One that is set up is left as it is: what is missing there was removed by
/// somebody, and is reported by [`findings`], not put back in silence.
pub(super) async fn create(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    // Every opening would otherwise wait for whoever writes just now.
    if version(connection).await? == VERSION {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(read_error)?;
    match version(&mut transaction).await? {
        // Another process was first.
        VERSION => return Ok(()),
        0 => {}
        1 => {
            swap_trigger(&mut transaction).await?;
            set_version(&mut transaction).await?;
            return transaction.commit().await.map_err(read_error);
        }
        newer => {
            return Err(malformed(
                "(of the SQLite file)".to_owned(),
                &format_args!("its version is {newer}, this build knows {VERSION}: upgrade"),
            ));
        }
    }
    for object in &OBJECTS {
        sqlx::query(object.sql).execute(&mut *transaction).await.map_err(read_error)?;
    }
    set_version(&mut transaction).await?;
    transaction.commit().await.map_err(read_error)
}

async fn set_version(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    let set = sqlx::query("PRAGMA user_version = 2").execute(connection).await;
    set.map(drop).map_err(read_error)
}

/// Of a file of version 1. What is not as that version made it is left for [`findings`].
async fn swap_trigger(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    if no_update(connection).await.map_err(read_error)?.as_deref() != Some(NO_UPDATE_AT_ALL) {
        return Ok(());
    }
    for sql in ["DROP TRIGGER ledger_no_update", NO_UPDATE] {
        sqlx::query(sql).execute(&mut *connection).await.map_err(read_error)?;
    }
    Ok(())
}

async fn no_update(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT sql FROM sqlite_schema WHERE name = 'ledger_no_update'";
    sqlx::query_scalar(sql).fetch_optional(connection).await
}

/// Whether the trigger is one that lets blanking pass; the inner error says why not.
pub(super) async fn blanking_passes(
    connection: &mut SqliteConnection,
) -> Result<Result<(), String>, sqlx::Error> {
    let found = no_update(connection).await?;
    Ok(match found.as_deref() {
        Some(NO_UPDATE) => Ok(()),
        // Reported by `findings`, and no reason to keep what somebody wants erased.
        None => Ok(()),
        Some(_) => Err("the trigger `ledger_no_update` is not as this release makes it; `stella \
            orch ledger init` says how to mend it"
            .to_owned()),
    })
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, LedgerError> {
    sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await.map_err(read_error)
}

/// Which of the table's guards are missing or not as they were made.
pub(super) async fn findings(readers: &SqlitePool) -> Result<Vec<Finding>, LedgerError> {
    let mut findings = vec![];
    for object in &OBJECTS {
        let found = sqlx::query("SELECT sql FROM sqlite_schema WHERE name = ?")
            .bind(object.name)
            .fetch_optional(readers)
            .await
            .map_err(read_error)?;
        let found: Option<String> =
            found.map(|row| row.try_get("sql")).transpose().map_err(read_error)?;
        if found.as_deref() == Some(object.sql) {
            continue;
        }
        let state = if found.is_some() { "is not as it was made" } else { "is missing" };
        findings.push(Finding {
            code: object.code,
            blocks_writes: object.blocks_writes,
            message: format!(
                "`{}` of the SQLite ledger {state}; verify the ledger, then make it again: {};",
                object.name, object.sql
            ),
        });
    }
    Ok(findings)
}
