//! Comparing the read models in use with a fresh fold of the same events.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use stella_domain::ids::Tenant;
use stella_ledger::erasure::Erasures;

use crate::{
    Digest, Divergence, Model, ProjectionError, Projections,
    digest::{ModelDigests, row_hash},
    files,
    rebuild::{Builder, Progress},
    store::read_position,
    tenant::TenantModels,
};

/// Comparisons before a difference is reported that an erasure under way may have made.
const ATTEMPTS: usize = 3;
/// How long such an erasure may take to be folded.
const FOLDED_WITHIN: Duration = Duration::from_secs(10);
/// Differing rows that a report names, per model.
const DIFFERENCES_NAMED: usize = 5;

/// Columns and labels that do not fit their rows, by which things would be found that are not
/// there, or not found that are.
const STRAYS: &str = "SELECT
    (SELECT count(*) FROM runs WHERE key IS NOT row ->> 'createdSeq'
        OR status IS NOT row ->> 'status' OR error_code IS NOT row ->> 'errorCode'
        OR run_id IS NOT row ->> 'runId' OR dag_id IS NOT row ->> 'dagId'
        OR created_at IS NOT row ->> 'createdAt'
        OR inputs_key IS NOT substr(row ->> 'inputsHash', 4, 12))
    + (SELECT count(*) FROM steps WHERE key IS NOT row ->> 'seq'
        OR run_key IS NOT row ->> 'runSeq'
        OR open IS NOT CASE
            WHEN row ->> 'phase' IN ('queued', 'running', 'backingOff', 'awaitingApproval')
                THEN row ->> 'phase' END
        OR dag_id IS NOT CASE WHEN open IS NOT NULL THEN row ->> 'dagId' END
        OR plugin IS NOT CASE WHEN open IS NOT NULL THEN row ->> 'plugin' END
        OR queued_seq IS NOT CASE WHEN open IS NOT NULL THEN row ->> 'queuedSeq' END)
    + (SELECT count(*) FROM dags WHERE key IS NOT row ->> 'dagId')
    + (SELECT count(*) FROM dag_versions WHERE key IS NOT row ->> 'seq'
        OR dag_id IS NOT row ->> 'dagId' OR version IS NOT row ->> 'version')
    + (SELECT count(*) FROM tallies WHERE key IS NOT row ->> 'dagId')
    + (SELECT count(*) FROM queues WHERE key IS NOT row ->> 'dagId' || '/' || (row ->> 'plugin'))
    + (SELECT count(*) FROM (
        SELECT l.key, l.value, runs.key FROM runs, json_each(runs.row, '$.labels') AS l
        EXCEPT SELECT label ->> 0, label ->> 1, run_key FROM run_labels))
    + (SELECT count(*) FROM (
        SELECT label ->> 0, label ->> 1, run_key FROM run_labels
        EXCEPT SELECT l.key, l.value, runs.key FROM runs, json_each(runs.row, '$.labels') AS l))";

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Events that both were folded from.
    pub next_seq: u64,
    /// One for each model.
    pub models: Vec<ModelReport>,
    /// Rows whose other columns, and labels whose run, say something else than the row: queries
    /// would miss them, or find what is not there. Looked for only where every row is right.
    pub strays: u64,
}

impl Report {
    fn is_as_recorded(&self) -> bool {
        self.is_identical() && self.models.iter().all(|model| model.diverged.is_none())
    }

    /// Whether the read models in use are what the ledger gives.
    pub fn is_identical(&self) -> bool {
        self.strays == 0 && self.models.iter().all(ModelReport::is_identical)
    }
}

/// What a check found in one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReport {
    /// The model.
    pub model: Model,
    /// Rows in use.
    pub rows: u64,
    /// Of the rows in use, computed from them.
    pub live: Digest,
    /// Of the rows in use, as it was kept up with them: differs from `live` when somebody else
    /// wrote to the file.
    pub kept: Digest,
    /// Of the rows that the ledger gives.
    pub rebuilt: Digest,
    /// The events among which the fold went another way, as far as recorded digests say.
    pub diverged: Option<Divergence>,
    /// The first rows that differ.
    pub differences: Vec<RowDifference>,
}

impl ModelReport {
    /// Whether the model in use is what the ledger gives.
    pub fn is_identical(&self) -> bool {
        self.live == self.rebuilt && self.kept == self.rebuilt
    }
}

/// A row that is not what the ledger gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// The row's key, as in a dump.
    pub key: String,
    /// The row in use, if there is one.
    pub live: Option<String>,
    /// The row that the ledger gives, if there is one.
    pub rebuilt: Option<String>,
}

impl Projections {
    /// Compare the read models in use with a fresh fold of the same events, while they are in use.
    ///
    /// # Errors
    /// [`ProjectionError`] when the ledger or a file cannot be read. What differs is no error, but
    /// in the report.
    pub async fn check(
        &self,
        tenant: &Tenant,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, ProjectionError> {
        let models = self.tenant(tenant).await?;
        models.verify().await?;
        for _ in 1..ATTEMPTS {
            let report = models.compare(progress).await?;
            let next_seq = report.next_seq;
            if report.is_as_recorded() || !models.erased_since(next_seq).await? {
                return Ok(report);
            }
        }
        models.compare(progress).await
    }
}

impl TenantModels {
    /// Whether an erasure was recorded after `next_seq`: then what is folded up to there may lack
    /// payloads that the read models in use were folded from. Waits until they have folded it too.
    async fn erased_since(&self, next_seq: u64) -> Result<bool, ProjectionError> {
        let mut recorded = Erasures::after(&*self.ledger, &self.tenant, next_seq).await?;
        let mut newest = None;
        loop {
            let page = recorded.next().await?;
            if page.is_empty() {
                break;
            }
            let seqs = page.iter().flat_map(|recorded| recorded.erasures().map(|(seq, _)| seq));
            newest = seqs.filter(|seq| *seq >= next_seq).last().or(newest);
        }
        let Some(seq) = newest else { return Ok(false) };
        let mut head = self.watch();
        let folded = head.wait_for(|head| head.next_seq > seq);
        // Where they stand still, the report says how they differ, and by what.
        Ok(matches!(tokio::time::timeout(FOLDED_WITHIN, folded).await, Ok(Ok(_))))
    }

    async fn compare(
        &self,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, ProjectionError> {
        let models = self;
        let tenant = &self.tenant;
        let _alone = models.maintenance().await;
        let readers = models.readers().await;
        let (live_path, check_path) = (&models.files.live, &models.files.check);
        let storage = || ProjectionError::storage(live_path);
        let mut live = readers.begin().await.map_err(storage())?;
        let position = read_position(&mut *live, live_path).await?;
        let (next_seq, kept) =
            position.map_or((0, ModelDigests::default()), |at| (at.head.next_seq, at.digests));

        let ledger = Arc::clone(&models.ledger);
        let mut builder = Builder::begin(ledger, tenant, check_path).await?;
        builder.catch_up(Some(next_seq), progress).await?;
        let built = builder.finish().await?;
        let diverged = models.digests.compare(&built.checkpoints).await?;
        let rebuilt = files::readers(check_path);

        let mut report = Report { next_seq, models: vec![], strays: 0 };
        for model in Model::ALL {
            let (rows, digest) = digest_of(&mut live, model).await.map_err(storage())?;
            let mut found = ModelReport {
                model,
                rows,
                live: digest,
                kept: kept.of(model),
                rebuilt: built.digests.of(model),
                diverged: diverged.iter().find(|diverged| diverged.model == model).cloned(),
                differences: vec![],
            };
            if !found.is_identical() {
                found.differences =
                    differences(&mut live, &rebuilt, model).await.map_err(storage())?;
            }
            report.models.push(found);
        }
        // A row that somebody else wrote need not even be JSON.
        if report.is_identical() {
            let strays: i64 =
                sqlx::query_scalar(STRAYS).fetch_one(&mut *live).await.map_err(storage())?;
            report.strays = strays.unsigned_abs();
        }
        rebuilt.close().await;
        files::remove(check_path)?;
        Ok(report)
    }
}

async fn digest_of(
    live: &mut Transaction<'_, Sqlite>,
    model: Model,
) -> Result<(u64, Digest), sqlx::Error> {
    let mut rows = sqlx::query_as::<_, (String, String)>(model.select_sql()).fetch(&mut **live);
    let (mut count, mut digest) = (0, Digest::default());
    while let Some((_, row)) = rows.try_next().await? {
        digest.add(&row_hash(model, &row));
        count += 1;
    }
    Ok((count, digest))
}

/// The first rows that differ, both sides walked in the order of their keys.
async fn differences(
    live: &mut SqliteConnection,
    rebuilt: &SqlitePool,
    model: Model,
) -> Result<Vec<RowDifference>, sqlx::Error> {
    type Rows = (String, String);
    let mut live = pin!(sqlx::query_as::<_, Rows>(model.select_sql()).fetch(live));
    let mut rebuilt = pin!(sqlx::query_as::<_, Rows>(model.select_sql()).fetch(rebuilt));
    let (mut left, mut right) = (live.try_next().await?, rebuilt.try_next().await?);
    let mut found = vec![];
    while found.len() < DIFFERENCES_NAMED {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let live_row = if order.is_le() { next(&mut left, &mut live).await? } else { None };
        let rebuilt_row = if order.is_ge() { next(&mut right, &mut rebuilt).await? } else { None };
        let same = live_row == rebuilt_row;
        let key = live_row.as_ref().or(rebuilt_row.as_ref()).map(|(key, _)| key.clone());
        if let (false, Some(key)) = (same, key) {
            let (live, rebuilt) = (live_row.map(|(_, row)| row), rebuilt_row.map(|(_, row)| row));
            found.push(RowDifference { key, live, rebuilt });
        }
    }
    Ok(found)
}

/// Take the row at hand and fetch the one after it.
async fn next<T>(
    at_hand: &mut Option<T>,
    rows: &mut (impl Stream<Item = Result<T, sqlx::Error>> + Unpin),
) -> Result<Option<T>, sqlx::Error> {
    let following = rows.try_next().await?;
    Ok(std::mem::replace(at_hand, following))
}
