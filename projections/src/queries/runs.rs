//! Runs and their steps.

use std::collections::HashSet;

use sqlx::{QueryBuilder, Sqlite};
use stella_domain::{
    aggregate::RunStatus,
    ids::{DagId, RunId, StepId, Tenant},
    time::Timestamp,
};

use super::fetch;
use crate::{
    ProjectionError, Projections, RunRow, StepRow,
    fold::label_text,
    rows::{Row, inputs_key},
    store::db_int,
};

/// Rows on a page at most.
const PAGE_LIMIT: u32 = 500;

const EXISTING: &str = "SELECT run_id FROM runs WHERE run_id IN (SELECT value FROM json_each(?))";

/// Which runs; everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Where they stand.
    pub status: Option<RunStatus>,
    /// Of this DAG.
    pub dag_id: Option<DagId>,
    /// Created at or after.
    pub from: Option<Timestamp>,
    /// Created before.
    pub to: Option<Timestamp>,
    /// With these labels: name and value.
    pub labels: Vec<(String, String)>,
    /// Failing or failed with this code.
    pub error_code: Option<String>,
    /// With these inputs: `b3:` and 64 hex digits.
    pub inputs_hash: Option<String>,
}

/// Which page of a list, whose places are told by a seq or by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<P = u64> {
    /// Rows at most; clamped to 1 and 500.
    pub size: u32,
    /// What the page before gave as [`Page::next`]; `None` for the first.
    pub after: Option<P>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, P = u64> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<P>,
}

impl<P> PageRequest<P> {
    pub(super) fn rows(&self) -> u32 {
        self.size.clamp(1, PAGE_LIMIT)
    }
}

impl<T, P> Page<T, P> {
    /// From one row more than the page takes, if there is one.
    pub(super) fn cut(mut items: Vec<T>, request: &PageRequest<P>, key: impl Fn(&T) -> P) -> Self {
        let rows = request.rows() as usize;
        let more = items.len() > rows;
        items.truncate(rows);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}

impl Projections {
    /// A run; `None` when there is none of this id.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn run(
        &self,
        tenant: &Tenant,
        run_id: &RunId,
    ) -> Result<Option<RunRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let row: Option<String> = sqlx::query_scalar("SELECT row FROM runs WHERE run_id = ?")
            .bind(run_id.as_str())
            .fetch_optional(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        row.map(|text| RunRow::from_text(&text)).transpose()
    }

    /// Which of these runs there are.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn existing_runs(
        &self,
        tenant: &Tenant,
        run_ids: &[RunId],
    ) -> Result<HashSet<RunId>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let found: Vec<String> = sqlx::query_scalar(EXISTING)
            .bind(serde_json::json!(run_ids).to_string())
            .fetch_all(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        Ok(found.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn runs(
        &self,
        tenant: &Tenant,
        filter: &RunFilter,
        page: PageRequest,
    ) -> Result<Page<RunRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let mut query = select_runs(filter, page);
        let rows = fetch(&readers, &models.files.live, query.build_query_scalar()).await?;
        Ok(Page::cut(rows, &page, |run: &RunRow| run.created_seq))
    }

    /// One step of a run. It looks through the run's steps.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn step(
        &self,
        tenant: &Tenant,
        run_id: &RunId,
        step_id: &StepId,
    ) -> Result<Option<StepRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let query = sqlx::query_scalar(
            "SELECT steps.row FROM runs CROSS JOIN steps ON steps.run_key = runs.key
             WHERE runs.run_id = ? AND steps.row ->> 'stepId' = ? LIMIT 1",
        )
        .bind(run_id.as_str())
        .bind(step_id.as_str());
        Ok(fetch(&readers, &models.files.live, query).await?.pop())
    }

    /// The steps of a run that were ever queued, in the order in which they first were.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn steps(
        &self,
        tenant: &Tenant,
        run_id: &RunId,
        page: PageRequest,
    ) -> Result<Page<StepRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let query = sqlx::query_scalar(
            "SELECT steps.row FROM runs CROSS JOIN steps ON steps.run_key = runs.key
             WHERE runs.run_id = ? AND steps.key > ? ORDER BY steps.key LIMIT ?",
        )
        .bind(run_id.as_str())
        .bind(page.after.map_or(-1, db_int))
        .bind(page.rows() + 1);
        let rows = fetch(&readers, &models.files.live, query).await?;
        Ok(Page::cut(rows, &page, |step: &StepRow| step.seq))
    }
}

/// The first label leads, for it selects most; else the planner picks one of the indexes, all of
/// which run in the order of the list, so that a page ends the walk.
fn select_runs(filter: &RunFilter, page: PageRequest) -> QueryBuilder<Sqlite> {
    let mut labels = filter.labels.iter().map(|(name, value)| label_text(name, value));
    let mut query = QueryBuilder::new("SELECT row FROM ");
    let key = match labels.next() {
        Some(label) => {
            query.push("run_labels AS l CROSS JOIN runs ON runs.key = l.run_key WHERE l.label = ");
            query.push_bind(label);
            "l.run_key"
        }
        None => {
            query.push("runs WHERE true");
            "runs.key"
        }
    };
    for label in labels {
        query.push(" AND EXISTS (SELECT 1 FROM run_labels AS o WHERE o.label = ").push_bind(label);
        query.push(" AND o.run_key = ").push(key).push(")");
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(dag_id) = &filter.dag_id {
        query.push(" AND dag_id = ").push_bind(dag_id.to_string());
    }
    if let Some(code) = &filter.error_code {
        query.push(" AND error_code = ").push_bind(code.clone());
    }
    if let Some(hash) = &filter.inputs_hash {
        query.push(" AND inputs_key = ").push_bind(inputs_key(hash).to_owned());
        query.push(" AND row ->> 'inputsHash' = ").push_bind(hash.clone());
    }
    // Runs are recorded in the order of time, so that a time is a place in the list.
    let first_at = |query: &mut QueryBuilder<Sqlite>, time: Timestamp| {
        query.push("(SELECT t.key FROM runs AS t WHERE t.created_at >= ");
        query.push_bind(time.to_string()).push(" ORDER BY t.created_at, t.key LIMIT 1)");
    };
    if let Some(from) = filter.from {
        query.push(" AND ").push(key).push(" >= ");
        first_at(&mut query, from);
    }
    if let Some(to) = filter.to {
        query.push(" AND ").push(key).push(" < coalesce(");
        first_at(&mut query, to);
        query.push(", 9223372036854775807)");
    }
    if let Some(after) = page.after {
        query.push(" AND ").push(key).push(" < ").push_bind(db_int(after));
    }
    query.push(" ORDER BY ").push(key).push(" DESC LIMIT ").push_bind(page.rows() + 1);
    query
}
