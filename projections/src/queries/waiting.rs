//! What waits, step by step, and what is held back.

use sqlx::SqliteConnection;
use stella_domain::{
    ids::{DagId, PluginName, RunId, StepId, Tenant},
    time::Timestamp,
};

use super::{Page, PageRequest};
use crate::{
    ControlRow, DagRow, ProjectionError, Projections, QueueRow, StepRow, rows::Row, store::db_int,
};

/// DAG and plugin pairs that one page looks at: each is a place in an index.
const QUEUES_LIMIT: u32 = 1_000;

const QUEUES: &str = "SELECT row FROM queues
    WHERE (?1 IS NULL OR row ->> 'dagId' = ?1) AND (?2 IS NULL OR row ->> 'plugin' = ?2)
        AND (row ->> 'queued' > 0 OR row ->> 'backingOff' > 0) ORDER BY key LIMIT ?3";

const STEPS: &str = "SELECT row FROM steps WHERE open = ? AND dag_id = ? AND plugin = ?
    AND queued_seq > ? ORDER BY queued_seq LIMIT ?";

/// The first of an index, as for queues. What is usual is so whatever the DAG.
const RUNNING: &str = "WITH usual AS (
        SELECT row ->> 'plugin' AS plugin, SUM(row ->> 'attempts') AS attempts,
            SUM(row ->> 'attemptsMs') AS attempts_ms
        FROM queues GROUP BY row ->> 'plugin')
    SELECT u.plugin, u.attempts, u.attempts_ms, MIN((
        SELECT (s.row ->> 'startedAt') || ' ' || (s.row ->> 'runId') || ' ' || (s.row ->> 'stepId')
        FROM steps AS s
        WHERE s.open = 'running' AND s.dag_id = q.row ->> 'dagId' AND s.plugin = u.plugin
        ORDER BY s.row ->> 'startedAt' LIMIT 1))
    FROM queues AS q JOIN usual AS u ON u.plugin = q.row ->> 'plugin'
    WHERE q.row ->> 'running' > 0 GROUP BY u.plugin ORDER BY u.plugin LIMIT ?";

const PAUSED_DAGS: &str =
    "SELECT row FROM dags WHERE row ->> 'paused' IS NOT NULL ORDER BY key LIMIT ?";

/// Which waiting steps; everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingFilter {
    /// Of this DAG.
    pub dag_id: Option<DagId>,
    /// For this plugin.
    pub plugin: Option<PluginName>,
}

/// What a plugin's attempts usually take that end by themselves, and since when one runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPlugin {
    /// The plugin.
    pub plugin: PluginName,
    /// Attempts that have ended.
    pub attempts: u64,
    /// What they took, in milliseconds.
    pub attempts_ms: u64,
    /// When the step was leased that was leased first of those that run.
    pub oldest_started_at: Option<Timestamp>,
    /// Which one that is.
    pub oldest: Option<(RunId, StepId)>,
}

impl Projections {
    /// Steps that wait for a worker or for their next attempt, those that were queued first first.
    /// A page costs what it holds, and a look at every DAG and plugin for which something waits.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn waiting(
        &self,
        tenant: &Tenant,
        filter: &WaitingFilter,
        page: PageRequest,
    ) -> Result<Page<StepRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let (readers, path) = (models.readers().await, &models.files.live);
        let storage = || ProjectionError::storage(path);
        let mut snapshot = readers.begin().await.map_err(storage())?;
        let queues: Vec<String> = sqlx::query_scalar(QUEUES)
            .bind(filter.dag_id.as_ref().map(DagId::as_str))
            .bind(filter.plugin.as_ref().map(PluginName::as_str))
            .bind(QUEUES_LIMIT)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(storage())?;
        let mut steps = vec![];
        for text in &queues {
            let queue = QueueRow::from_text(text)?;
            for (phase, waiting) in [("queued", queue.queued), ("backingOff", queue.backing_off)] {
                if waiting == 0 {
                    continue;
                }
                for text in first(&mut snapshot, &queue, phase, page).await.map_err(storage())? {
                    steps.push(StepRow::from_text(&text)?);
                }
            }
        }
        steps.sort_by_key(|step| step.queued_seq);
        steps.truncate(page.rows() as usize + 1);
        Ok(Page::cut(steps, &page, |step: &StepRow| step.queued_seq))
    }

    /// What operators hold back; `None` when they never did.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn control(&self, tenant: &Tenant) -> Result<Option<ControlRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let row: Option<String> = sqlx::query_scalar("SELECT row FROM controls")
            .fetch_optional(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        row.map(|text| ControlRow::from_text(&text)).transpose()
    }

    /// Plugins of which steps run, by name.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn running(&self, tenant: &Tenant) -> Result<Vec<RunningPlugin>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let rows: Vec<(String, i64, i64, Option<String>)> = sqlx::query_as(RUNNING)
            .bind(QUEUES_LIMIT)
            .fetch_all(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        let plugins = rows.into_iter().filter_map(|(plugin, attempts, attempts_ms, oldest)| {
            let oldest = oldest.unwrap_or_default();
            let mut oldest = oldest.splitn(3, ' ');
            Some(RunningPlugin {
                plugin: plugin.parse().ok()?,
                attempts: attempts.unsigned_abs(),
                attempts_ms: attempts_ms.unsigned_abs(),
                oldest_started_at: oldest.next().and_then(|text| text.parse().ok()),
                oldest: oldest
                    .next()
                    .and_then(|id| id.parse().ok())
                    .zip(oldest.next().and_then(|id| id.parse().ok())),
            })
        });
        Ok(plugins.collect())
    }

    /// DAGs that are paused, by name; the first thousand.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn paused_dags(&self, tenant: &Tenant) -> Result<Vec<DagRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let rows: Vec<String> = sqlx::query_scalar(PAUSED_DAGS)
            .bind(QUEUES_LIMIT)
            .fetch_all(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        rows.iter().map(|text| DagRow::from_text(text)).collect()
    }
}

async fn first(
    snapshot: &mut SqliteConnection,
    queue: &QueueRow,
    phase: &str,
    page: PageRequest,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(STEPS)
        .bind(phase)
        .bind(queue.dag_id.as_str())
        .bind(queue.plugin.as_str())
        .bind(page.after.map_or(-1, db_int))
        .bind(page.rows() + 1)
        .fetch_all(snapshot)
        .await
}
