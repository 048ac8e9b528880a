//! Queue depths and metrics: counters kept by the fold, never counted when asked.

use std::collections::BTreeMap;

use stella_domain::{
    ids::{DagId, PluginName, Tenant},
    time::Timestamp,
};

use crate::{
    ProjectionError, Projections, QueueRow, TallyRow,
    rows::Row,
    store::{db_int, read_position},
};

/// The oldest step of a queue is the first entry of an index.
const QUEUES: &str = "SELECT q.row, (
        SELECT s.row ->> 'queuedAt' FROM steps AS s
        WHERE s.open = 'queued' AND s.dag_id = q.row ->> 'dagId' AND s.plugin = q.row ->> 'plugin'
        ORDER BY s.queued_seq LIMIT 1)
    FROM queues AS q ORDER BY q.key LIMIT ?";

/// DAG and plugin pairs that one answer counts.
const QUEUES_LIMIT: u64 = 100_000;

/// Open steps, and since when the oldest waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Wait for a worker.
    pub queued: u64,
    /// Leased.
    pub running: u64,
    /// Wait before their next attempt.
    pub backing_off: u64,
    /// When the oldest that waits for a worker was queued.
    pub oldest_queued_at: Option<Timestamp>,
}

impl QueueDepth {
    fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.running += other.running;
        self.backing_off += other.backing_off;
        let oldest = self.oldest_queued_at.into_iter().chain(other.oldest_queued_at).min();
        self.oldest_queued_at = oldest;
    }
}

/// All queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueReport {
    /// Events that this was folded from.
    pub next_seq: u64,
    /// All together.
    pub total: QueueDepth,
    /// By DAG.
    pub by_dag: BTreeMap<DagId, QueueDepth>,
    /// By plugin.
    pub by_plugin: BTreeMap<PluginName, QueueDepth>,
}

/// DAGs that have counters of their own: whoever collects them keeps a series for each, for good.
const DAGS_COUNTED_APART: usize = 500;

/// By when the DAG was registered, so that none is counted now by itself and now with others.
const TALLIES: &str = "SELECT t.row FROM tallies AS t LEFT JOIN dags AS d ON d.key = t.key
    ORDER BY d.row ->> 'createdAt', t.key";

/// Counters of everything that happened, all folds of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Events that this was folded from.
    pub next_seq: u64,
    /// By DAG, those that were registered first: 500 at most.
    pub dags: Vec<TallyRow>,
    /// All others together; which of them its `dag_id` names has no meaning.
    pub others: Option<TallyRow>,
}

impl Projections {
    /// How many steps wait, and since when.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn queue(&self, tenant: &Tenant) -> Result<QueueReport, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let (readers, path) = (models.readers().await, &models.files.live);
        let mut snapshot = readers.begin().await.map_err(ProjectionError::storage(path))?;
        let position = read_position(&mut *snapshot, path).await?;
        let rows: Vec<(String, Option<String>)> = sqlx::query_as(QUEUES)
            .bind(db_int(QUEUES_LIMIT))
            .fetch_all(&mut *snapshot)
            .await
            .map_err(ProjectionError::storage(path))?;
        let next_seq = position.map_or(0, |position| position.head.next_seq);
        let mut report = QueueReport { next_seq, ..QueueReport::default() };
        for (row, oldest) in rows {
            let row = QueueRow::from_text(&row)?;
            let depth = QueueDepth {
                queued: row.queued,
                running: row.running,
                backing_off: row.backing_off,
                oldest_queued_at: oldest.and_then(|text| text.parse().ok()),
            };
            report.total.add(&depth);
            report.by_dag.entry(row.dag_id).or_default().add(&depth);
            report.by_plugin.entry(row.plugin).or_default().add(&depth);
        }
        Ok(report)
    }

    /// Counters of everything that happened.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn metrics(&self, tenant: &Tenant) -> Result<Metrics, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let (readers, path) = (models.readers().await, &models.files.live);
        let mut snapshot = readers.begin().await.map_err(ProjectionError::storage(path))?;
        let position = read_position(&mut *snapshot, path).await?;
        let rows: Vec<String> = sqlx::query_scalar(TALLIES)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(ProjectionError::storage(path))?;
        let (mut dags, mut others) = (vec![], None::<TallyRow>);
        for text in &rows {
            let tally = TallyRow::from_text(text)?;
            if dags.len() < DAGS_COUNTED_APART {
                dags.push(tally);
            } else if let Some(others) = &mut others {
                others.add(&tally);
            } else {
                others = Some(tally);
            }
        }
        let next_seq = position.map_or(0, |position| position.head.next_seq);
        Ok(Metrics { next_seq, dags, others })
    }
}
