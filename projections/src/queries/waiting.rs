//! What waits, step by step, and what is held back.

use sqlx::SqliteConnection;
use stella_domain::{
    ids::{DagId, PluginName, Tenant},
    time::Timestamp,
};

use super::{Page, PageRequest};
use crate::{
    ControlRow, ProjectionError, Projections, QueueRow, StepRow, rows::Row, store::db_int,
};

/// DAG and plugin pairs that one page looks at: each is a place in an index.
const QUEUES_LIMIT: u32 = 1_000;

const QUEUES: &str = "SELECT row FROM queues
    WHERE (?1 IS NULL OR row ->> 'dagId' = ?1) AND (?2 IS NULL OR row ->> 'plugin' = ?2)
        AND (row ->> 'queued' > 0 OR row ->> 'backingOff' > 0) ORDER BY key LIMIT ?3";

const STEPS: &str = "SELECT row FROM steps WHERE open = ? AND dag_id = ? AND plugin = ?
    AND queued_seq > ? ORDER BY queued_seq LIMIT ?";

/// The first of an index, as for queues.
const RUNNING: &str = "SELECT q.row, (
        SELECT s.row ->> 'startedAt' FROM steps AS s
        WHERE s.open = 'running' AND s.dag_id = q.row ->> 'dagId' AND s.plugin = q.row ->> 'plugin'
        ORDER BY s.queued_seq LIMIT 1)
    FROM queues AS q WHERE q.row ->> 'running' > 0 ORDER BY q.key LIMIT ?";

/// Which waiting steps; everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingFilter {
    /// Of this DAG.
    pub dag_id: Option<DagId>,
    /// For this plugin.
    pub plugin: Option<PluginName>,
}

/// What a plugin's attempts usually take, and since when one runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPlugin {
    /// The plugin.
    pub plugin: PluginName,
    /// Attempts that have ended.
    pub attempts: u64,
    /// What they took, in milliseconds.
    pub attempts_ms: u64,
    /// When the step was leased that was queued first of those that run.
    pub oldest_started_at: Option<Timestamp>,
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
        let rows: Vec<(String, Option<String>)> = sqlx::query_as(RUNNING)
            .bind(QUEUES_LIMIT)
            .fetch_all(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        let mut plugins = std::collections::BTreeMap::new();
        for (row, oldest) in rows {
            let QueueRow { plugin, attempts, attempts_ms, .. } = QueueRow::from_text(&row)?;
            let oldest: Option<Timestamp> = oldest.and_then(|text| text.parse().ok());
            let sum = plugins.entry(plugin.clone()).or_insert(RunningPlugin {
                plugin,
                attempts: 0,
                attempts_ms: 0,
                oldest_started_at: None,
            });
            sum.attempts += attempts;
            sum.attempts_ms += attempts_ms;
            sum.oldest_started_at = sum.oldest_started_at.into_iter().chain(oldest).min();
        }
        Ok(plugins.into_values().collect())
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
