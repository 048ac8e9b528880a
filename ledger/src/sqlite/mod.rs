//! The ledger in one SQLite file: the embedded default.
//!
//! WAL and `synchronous=FULL`: a commit that was acknowledged survives a power cut. Several
//! processes may write one file; each batch takes the write lock for one transaction.
//!
//! Nothing here deletes, and nothing but [`SqliteEraser`] updates; triggers refuse it to everybody
//! else, and to that one all but blanking payloads.

mod append;
mod checkpoints;
mod erase;
mod row;
mod scan;
mod schema;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use stella_domain::{
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use tokio::sync::Mutex;

pub use self::erase::SqliteEraser;
use crate::{
    page::{PAGE_BYTES, Page},
    port::{AppendError, AppendFailure, Finding, Ledger, LedgerError, Prepared, READ_LIMIT},
    sound::Sound,
};

/// How long a statement waits for another process that writes. Below the time within which the
/// writer settles an append, so that it can still try again.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that a query is ahead of who reads them: a row may be a commit of 4 MiB.
const ROWS_AHEAD: usize = 16;
/// How long a read waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// How often an append looks whether the table's guards are still there.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Times that opening tries to get past other processes that set up the same file: switching a
/// new file to WAL does not wait for a lock, it fails.
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// A ledger in one SQLite file.
pub struct SqliteLedger {
    options: SqliteConnectOptions,
    /// `None` before the first append and after one that failed: half a transaction may hang on
    /// such a connection, so it is not used again.
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
    sound: Sound,
}

impl SqliteLedger {
    /// Open the ledger at `path`; it is created if there is no file. Its directory must exist.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the file cannot be opened or written,
    /// [`LedgerError::Malformed`] when it is no ledger, or one of a newer release.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            // What is blanked is overwritten, and so is a page that is given another use.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let mut writer = connect_patiently(&options).await?;
        schema::create(&mut writer).await?;
        checkpoints::create(&mut writer).await?;
        let options = options.create_if_missing(false);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(
                options.clone().pragma("query_only", "ON").row_buffer_size(ROWS_AHEAD),
            );
        let sound = Sound::new(CHECK_EVERY);
        Ok(Self { options, writer: Mutex::new(Some(writer)), readers, sound })
    }

    /// Close every connection; the last process to do so folds the WAL into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "the ledger's file did not close well");
        }
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        let events = row::events_text(&commit.events);
        Prepared { commit, stored: Some(events.into_bytes().into()) }
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.sound.check(schema::findings(&self.readers)).await?;
        let mut slot = self.writer.lock().await;
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.options.connect().await.map_err(|e| AppendError {
                landed: 0,
                cause: AppendFailure::Unavailable(e.to_string()),
            })?,
        };
        let (outcome, sound) = append::append(&mut writer, commits).await;
        if sound {
            *slot = Some(writer);
        }
        outcome
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        let last = sqlx::query(row::LAST).bind(tenant.as_str());
        let commits = self.commits(tenant, last, PAGE_BYTES).await?;
        Ok(commits.last().map_or(Head::EMPTY, Commit::head))
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        let Ok(next_seq) = i64::try_from(next_seq) else { return Ok(true) };
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM ledger WHERE tenant = ? AND seq = ?)")
            .bind(tenant.as_str())
            .bind(next_seq)
            .fetch_one(&self.readers)
            .await
            .map_err(read_error)
    }

    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let Ok(from_seq) = i64::try_from(from_seq) else { return Ok(vec![]) };
        let query = sqlx::query(row::FROM_SEQ)
            .bind(tenant.as_str())
            .bind(from_seq)
            // At most 4,096.
            .bind(limit.min(READ_LIMIT) as i64);
        self.commits(tenant, query, PAGE_BYTES).await
    }

    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        // No text of a stream needs escaping in JSON: its grammar forbids it.
        let names: Vec<String> = streams.iter().map(|stream| format!("\"{stream}\"")).collect();
        let query = sqlx::query(row::OF_STREAMS)
            .bind(tenant.as_str())
            .bind(format!("[{}]", names.join(",")));
        self.commits(tenant, query, usize::MAX).await
    }

    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let version = i64::try_from(from_version).unwrap_or(i64::MAX);
        let query = sqlx::query(row::OF_STREAM)
            .bind(tenant.as_str())
            .bind(stream.to_string())
            .bind(version)
            .bind(i64::try_from(limit.min(READ_LIMIT)).unwrap_or(i64::MAX));
        let mut commits = self.commits(tenant, query, PAGE_BYTES).await?;
        let ends = |commit: &Commit| commit.stream_version + commit.events.len() as u64;
        // The last one before it, where none holds it.
        commits.retain(|commit| ends(commit) > from_version);
        Ok(commits)
    }

    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        let mut connection = self.readers.acquire().await.map_err(read_error)?;
        let last = sqlx::query(row::AT_SEQ)
            .bind(tenant.as_str())
            .bind(i64::MAX)
            .fetch_optional(&mut *connection)
            .await
            .map_err(read_error)?;
        let Some(last) = last else { return Ok(None) };
        let last_seq: i64 = last.try_get("last_seq").map_err(read_error)?;
        // `recordedAt` never falls: everything before `low` is earlier, everything from `high` on
        // is not. Halves each time, hence at most 64 rounds.
        let (mut low, mut high) = (0, last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let commit = sqlx::query(row::AT_SEQ)
                .bind(tenant.as_str())
                .bind(middle)
                .fetch_one(&mut *connection)
                .await
                .map_err(read_error)?;
            let recorded_at: i64 = commit.try_get("recorded_at").map_err(read_error)?;
            if recorded_at >= time.as_micros() {
                high = commit.try_get("seq").map_err(read_error)?;
            } else {
                let last_seq: i64 = commit.try_get("last_seq").map_err(read_error)?;
                low = last_seq.max(middle) + 1;
            }
        }
        Ok((low <= last_seq).then_some(low.unsigned_abs()))
    }

    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        let names: Vec<String> = sqlx::query_scalar(row::TENANTS)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(read_error)?;
        let parse = |name: String| name.parse().map_err(|e| malformed(name.clone(), &e));
        names.into_iter().map(parse).collect()
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        Ok(None)
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        schema::findings(&self.readers).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

type SqliteQuery<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl SqliteLedger {
    /// The commits that `query` selects, each checked against its hashes, until there are so many
    /// bytes of them.
    async fn commits(
        &self,
        tenant: &Tenant,
        query: SqliteQuery<'_>,
        bytes: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let (mut decoder, mut page) = (row::Decoder::new(tenant), Page::new(tenant, bytes));
        let mut rows = query.fetch(&self.readers);
        while !page.is_full()
            && let Some(found) = rows.try_next().await.map_err(read_error)?
        {
            page.push(decoder.decode(&found)).await?;
        }
        page.finish()
    }
}

async fn connect_patiently(
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, LedgerError> {
    let mut attempt = 1;
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && attempt < OPEN_ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            outcome => return outcome.map_err(read_error),
        }
    }
}

/// SQLite's primary result code (<https://sqlite.org/rescode.html>).
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    result_code(error) == Some(BUSY)
}

fn read_error(error: sqlx::Error) -> LedgerError {
    const CORRUPT: i32 = 11;
    const NOT_A_DATABASE: i32 = 26;
    match (&error, result_code(&error)) {
        (_, Some(CORRUPT | NOT_A_DATABASE))
        | (sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_), _) => {
            malformed("(of the SQLite file)".to_owned(), &error)
        }
        _ => LedgerError::Unavailable(error.to_string()),
    }
}

fn malformed(id: String, reason: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Malformed { id, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn point_reads_find_their_row_by_the_key() {
        let dir = tempfile::TempDir::new().unwrap();
        let ledger = SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap();
        for (sql, by) in [
            (row::LAST, "(tenant=?)"),
            (row::AT_SEQ, "(tenant=? AND seq<?)"),
            (row::FROM_SEQ, "(tenant=? AND seq>?)"),
            (row::OF_STREAMS, "(tenant=? AND stream=?)"),
        ] {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
            let rows = sqlx::query(explain).fetch_all(&ledger.readers).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.try_get("detail").unwrap()).collect();
            let scans = |step: &String| step.starts_with("SCAN l") || step.ends_with("ORDER BY");
            let sorts_by_itself = sql == row::OF_STREAMS;
            assert!(plan.iter().any(|step| step.ends_with(by)), "{sql}: {plan:?}");
            assert!(sorts_by_itself || !plan.iter().any(scans), "{sql}: {plan:?}");
        }
    }
}
