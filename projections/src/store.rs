//! One file of read models: its tables, and the batches written to them.

use std::path::{Path, PathBuf};

use sqlx::{Row as _, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use stella_domain::{chain::Head, ids::RunId, time::Timestamp};

use crate::{
    PROJECTION_VERSION, ProjectionError,
    digest::ModelDigests,
    files,
    fold::{Batch, State, labels_text},
    model::{Model, Value},
    rows::{ControlRow, DagRow, QueueRow, Row, RunRow, ScheduleRow, StepRow, TallyRow},
    tracked::Tracked,
};

const SCHEMA: &str = include_str!("schema.sql");

/// Written in the same transaction as the rows: a batch has its effect exactly once.
const WRITE_POSITION: &str =
    "INSERT INTO position (id, ledger, next_seq, hash, recorded_at, digests)
    VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ledger = excluded.ledger,
    next_seq = excluded.next_seq, hash = excluded.hash, recorded_at = excluded.recorded_at,
    digests = excluded.digests";

/// Rows that one statement writes at most; a power of two.
const STATEMENT_ROWS: usize = 128;

const WRITE_LABELS: &str = "INSERT INTO run_labels (label, run_key)
    SELECT value ->> 0, value ->> 1 FROM json_each(?)";

const REMOVE_LABELS: &str = "DELETE FROM run_labels WHERE (label, run_key) IN
    (SELECT value ->> 0, value ->> 1 FROM json_each(?))";

const READ_RUNS: &str =
    "SELECT row FROM runs WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY key";

const READ_STEPS: &str = "SELECT steps.row FROM runs CROSS JOIN steps ON steps.run_key = runs.key
    WHERE runs.run_id IN (SELECT value FROM json_each(?)) ORDER BY steps.run_key, steps.key";

/// Where a file stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredPosition {
    pub(crate) ledger: String,
    pub(crate) head: Head,
    pub(crate) digests: ModelDigests,
}

/// One file of read models, to be written.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// The file in use.
    pub(crate) fn live(path: &Path) -> Self {
        Self { pool: files::live(path), path: path.to_owned() }
    }

    /// An empty file, to be filled fast.
    pub(crate) async fn bulk(path: &Path) -> Result<Self, ProjectionError> {
        files::remove(path)?;
        let store = Self { pool: files::bulk(path), path: path.to_owned() };
        store.create().await.map_err(ProjectionError::storage(path))?;
        Ok(store)
    }

    async fn create(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *connection).await?;
        let version = format!("PRAGMA user_version = {PROJECTION_VERSION}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(version)).execute(&mut *connection).await?;
        Ok(())
    }

    /// The projection version of the file; 0 when it holds nothing.
    pub(crate) async fn version(&self) -> Result<u32, ProjectionError> {
        sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&self.pool)
            .await
            .map_err(ProjectionError::storage(&self.path))
    }

    /// Close every connection; what is in the write-ahead log goes into the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether pages without use may still hold what was erased.
    pub(crate) async fn is_unswept(&self) -> Result<bool, ProjectionError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM position WHERE unswept = 1)")
            .fetch_one(&self.pool)
            .await
            .map_err(ProjectionError::storage(&self.path))
    }

    /// Write what is in use, and nothing else, to a new file at `path`.
    pub(crate) async fn copy_swept(&self, path: &Path) -> Result<(), ProjectionError> {
        files::remove(path)?;
        // SQLite takes the name as a value; a path that is no text cannot be named there at all.
        let name = path.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO ?")
            .bind(name)
            .execute(&self.pool)
            .await
            .map_err(ProjectionError::storage(&self.path))?;
        let copy = Self { pool: files::bulk(path), path: path.to_owned() };
        sqlx::query("UPDATE position SET unswept = 0")
            .execute(&copy.pool)
            .await
            .map_err(ProjectionError::storage(path))?;
        copy.close().await;
        Ok(())
    }

    /// What has to be in memory to go on from the file's position.
    pub(crate) async fn load(&self) -> Result<State, ProjectionError> {
        let mut state = State::default();
        let Some(position) = read_position(&self.pool, &self.path).await? else {
            return Ok(state);
        };
        state.ledger = position.ledger.parse().ok().map(std::sync::Arc::new);
        (state.head, state.digests) = (position.head, position.digests);
        for row in self.all::<DagRow>().await? {
            let dag = state.dags.entry(row.get().dag_id.clone()).or_default();
            dag.row = Some(row);
        }
        for row in self.all::<ScheduleRow>().await? {
            state.schedules.insert(row.get().schedule_id.clone(), Some(row));
        }
        state.control = self.all::<ControlRow>().await?.pop();
        for row in self.all::<TallyRow>().await? {
            let dag = state.dags.entry(row.get().dag_id.clone()).or_default();
            dag.tally = Some(row);
        }
        for row in self.all::<QueueRow>().await? {
            let queue = row.get();
            let dag = state.dags.entry(queue.dag_id.clone()).or_default();
            dag.queues.insert(queue.plugin.clone(), row);
        }
        Ok(state)
    }

    async fn all<R: Row>(&self) -> Result<Vec<Tracked<R>>, ProjectionError> {
        let rows: Vec<(String, String)> = sqlx::query_as(R::MODEL.select_sql())
            .fetch_all(&self.pool)
            .await
            .map_err(ProjectionError::storage(&self.path))?;
        rows.iter().map(|(_, text)| Tracked::stored(text)).collect()
    }

    /// Read runs, with their steps, into `state`.
    pub(crate) async fn admit(
        &self,
        state: &mut State,
        runs: &[RunId],
    ) -> Result<(), ProjectionError> {
        if runs.is_empty() {
            return Ok(());
        }
        let ids = serde_json::json!(runs).to_string();
        let read = async |sql: &'static str| -> Result<Vec<String>, sqlx::Error> {
            sqlx::query_scalar(sql).bind(ids.as_str()).fetch_all(&self.pool).await
        };
        let rows = read(READ_RUNS).await.map_err(ProjectionError::storage(&self.path))?;
        let steps = read(READ_STEPS).await.map_err(ProjectionError::storage(&self.path))?;
        // Both come in the order of the runs.
        let mut steps = steps.iter().map(|text| Tracked::<StepRow>::stored(text)).peekable();
        for text in &rows {
            let row = Tracked::<RunRow>::stored(text)?;
            let key = row.get().created_seq;
            let mut own = vec![];
            while let Some(step) =
                steps.next_if(|step| step.as_ref().map_or(true, |step| step.get().run_seq == key))
            {
                own.push(step?);
            }
            state.admit(row, own);
        }
        Ok(())
    }

    /// Write a batch's rows and the position after it, in one transaction.
    pub(crate) async fn write(&self, batch: Batch) -> Result<(), ProjectionError> {
        self.try_write(batch).await.map_err(ProjectionError::storage(&self.path))
    }

    async fn try_write(&self, batch: Batch) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(WRITE_POSITION)
            .bind(batch.ledger.as_ref().map(|ledger| ledger.to_string()).unwrap_or_default())
            .bind(db_int(batch.head.next_seq))
            .bind(batch.head.hash.to_string())
            .bind(batch.head.recorded_at.as_micros())
            .bind(batch.digests.to_text())
            .execute(&mut *transaction)
            .await?;
        // A run that was begun and erased within the batch leaves no label.
        for (sql, labels) in [(WRITE_LABELS, &batch.labels), (REMOVE_LABELS, &batch.erased.labels)]
        {
            if let Some(labels) = labels_text(labels) {
                sqlx::query(sql).bind(labels).execute(&mut *transaction).await?;
            }
        }
        if batch.erased.anything {
            sqlx::query("UPDATE position SET unswept = 1").execute(&mut *transaction).await?;
        }
        for (model, values) in Model::ALL.into_iter().zip(batch.rows) {
            write_rows(&mut transaction, model, values).await?;
        }
        transaction.commit().await
    }
}

/// Rows are written in the order of their keys, so that a table grows at its end: a page of it is
/// filled once, and never cut in two.
///
/// Statements come in powers of two rows, so that few of them are ever prepared: the last one
/// writes its last row again until it is full, which changes nothing.
async fn write_rows(
    connection: &mut SqliteConnection,
    model: Model,
    mut values: Vec<Value>,
) -> Result<(), sqlx::Error> {
    let width = model.columns().count();
    let mut rows: Vec<&mut [Value]> = values.chunks_exact_mut(width).collect();
    // The key stands first.
    rows.sort_unstable_by(|a, b| a[0].cmp(&b[0]));
    for rows in rows.chunks_mut(STATEMENT_ROWS) {
        let padded = rows.len().next_power_of_two();
        let sql = sqlx::AssertSqlSafe(model.upsert_sql(padded));
        let last = rows.last().filter(|_| rows.len() < padded).map_or(vec![], |row| row.to_vec());
        let again = std::iter::repeat_n(last, padded - rows.len()).flatten();
        let values = rows.iter_mut().flat_map(|row| row.iter_mut()).map(std::mem::take);
        let bind = |query: Statement, value| match value {
            Value::Null => query.bind(None::<i64>),
            Value::Int(n) => query.bind(n),
            Value::Text(text) => query.bind(text),
        };
        let query = values.chain(again).fold(sqlx::query(sql), bind);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

type Statement = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Where a file stands; `None` before its first batch.
pub(crate) async fn read_position<'e, E>(
    executor: E,
    path: &Path,
) -> Result<Option<StoredPosition>, ProjectionError>
where
    E: sqlx::Executor<'e, Database = sqlx::Sqlite>,
{
    let row = sqlx::query("SELECT ledger, next_seq, hash, recorded_at, digests FROM position")
        .fetch_optional(executor)
        .await
        .map_err(ProjectionError::storage(path))?;
    row.map(|row| stored_position(&row)).transpose()
}

fn stored_position(row: &SqliteRow) -> Result<StoredPosition, ProjectionError> {
    let bad =
        |reason: String| ProjectionError::BadRow { table: "position", key: "1".to_owned(), reason };
    let text = |i: usize| row.try_get::<String, _>(i).map_err(|e| bad(e.to_string()));
    let number = |i: usize| row.try_get::<i64, _>(i).map_err(|e| bad(e.to_string()));
    let head = Head {
        next_seq: u64::try_from(number(1)?).map_err(|e| bad(e.to_string()))?,
        hash: text(2)?.parse().map_err(|e| bad(format!("{e}")))?,
        recorded_at: Timestamp::from_micros(number(3)?),
    };
    let digests = ModelDigests::from_text(&text(4)?).ok_or_else(|| {
        bad(format!("it has not one digest for each of {} models", Model::ALL.len()))
    })?;
    Ok(StoredPosition { ledger: text(0)?, head, digests })
}

/// SQLite's integers are signed; a seq never comes near the difference.
pub(crate) fn db_int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
