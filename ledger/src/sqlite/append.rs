//! Appending a batch in one transaction.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use sqlx::{AssertSqlSafe, SqliteConnection};
use stella_domain::chain::Commit;

use super::{result_code, row, schema};
use crate::port::{AppendError, AppendFailure, Prepared};

/// Rows of one statement: a statement costs a trip to the connection's thread and back, so many
/// rows share one. Powers of two, so that seven prepared statements serve every batch.
const ROWS: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

static INSERTS: LazyLock<[Arc<str>; ROWS.len()]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let values = vec!["(?,?,?,?,?,?,?,?,?,?)"; rows].join(",");
        format!(
            "INSERT INTO ledger (tenant, seq, last_seq, origin, stream, stream_version, \
             recorded_at, actor, prev, events) VALUES {values}"
        )
        .into()
    })
});

/// Append `commits`, and say whether the connection can be used again.
///
/// On a conflict at commit *i*, the first *i* become durable.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    commits: &[Prepared],
) -> (Result<(), AppendError>, bool) {
    let nothing = |cause| (Err(AppendError { landed: 0, cause }), false);
    // The write lock is taken at once: a transaction that reads first and then finds another
    // writer ahead could only be given up.
    if let Err(error) = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await {
        return nothing(AppendFailure::Unavailable(error.to_string()));
    }
    let inserted = insert(connection, commits).await;
    let (landed, refusal) = match inserted {
        Inserted::All => (commits.len(), None),
        Inserted::Until(landed, refusal) => (landed, Some(refusal)),
        // Nothing is committed; the transaction ends with the connection.
        Inserted::Failed(reason) => return nothing(AppendFailure::Unavailable(reason)),
    };
    if let Err(error) = sqlx::query("COMMIT").execute(&mut *connection).await {
        return nothing(not_committed(&error));
    }
    match refusal {
        None => (Ok(()), true),
        Some(cause) => (Err(AppendError { landed, cause }), true),
    }
}

enum Inserted {
    All,
    /// So many, and then one was refused.
    Until(usize, AppendFailure),
    Failed(String),
}

async fn insert(connection: &mut SqliteConnection, commits: &[Prepared]) -> Inserted {
    let mut done = 0;
    // Once a statement of several rows was refused, all of it is undone: its rows go one by one,
    // which finds the one that was.
    let mut most = usize::MAX;
    while done < commits.len() {
        let left = commits.len() - done;
        let size = ROWS.iter().position(|rows| *rows <= left.min(most)).unwrap_or(ROWS.len() - 1);
        let rows = ROWS[size];
        match insert_rows(connection, &INSERTS[size], &commits[done..done + rows]).await {
            Ok(()) => done += rows,
            Err(error) => match refusal(&error, &commits[done].commit) {
                None => return Inserted::Failed(error.to_string()),
                Some(refusal) if rows == 1 => return Inserted::Until(done, refusal),
                Some(_) => most = 1,
            },
        }
    }
    Inserted::All
}

async fn insert_rows(
    connection: &mut SqliteConnection,
    statement: &Arc<str>,
    commits: &[Prepared],
) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(Arc::clone(statement)));
    for prepared in commits {
        let commit = &prepared.commit;
        query = query
            .bind(commit.ledger.tenant.as_str())
            .bind(integer(commit.seq)?)
            .bind(integer(commit.last_seq())?)
            .bind(commit.ledger.origin.as_str())
            .bind(commit.stream.to_string())
            .bind(integer(commit.stream_version)?)
            .bind(commit.recorded_at.as_micros())
            .bind(commit.actor.as_str())
            .bind(commit.prev.as_bytes().as_slice())
            .bind(events_text(prepared));
    }
    query.execute(connection).await.map(drop)
}

fn events_text(prepared: &Prepared) -> Cow<'_, str> {
    match prepared.stored.as_deref().map(str::from_utf8) {
        Some(Ok(events)) => events.into(),
        Some(Err(_)) | None => row::events_text(&prepared.commit.events).into(),
    }
}

fn integer(n: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(n).map_err(|e| sqlx::Error::Encode(e.into()))
}

/// What it means for `commit` that a row was refused; `None` when something else went wrong.
fn refusal(error: &sqlx::Error, commit: &Commit) -> Option<AppendFailure> {
    let error = error.as_database_error()?;
    if error.is_unique_violation() || error.message() == schema::SEQ_TAKEN {
        return Some(AppendFailure::Conflict);
    }
    (error.message() == schema::SEQ_MISSING).then(|| {
        AppendFailure::Unavailable(format!(
            "the ledger of tenant {} ends before event {}, which was to follow: was an older \
             backup restored?",
            commit.ledger.tenant, commit.seq
        ))
    })
}

/// What a failed COMMIT means. A full disk refuses a frame of the WAL, at the latest the one that
/// would have ended the transaction, and without that one it never was. Anything else, a failed
/// sync above all, leaves it open whether the transaction comes back with the next opening.
fn not_committed(error: &sqlx::Error) -> AppendFailure {
    const FULL: i32 = 13;
    match result_code(error) {
        Some(FULL) => AppendFailure::Unavailable(error.to_string()),
        _ => AppendFailure::Unknown(error.to_string()),
    }
}
