//! What can be asked of the read models. Every answer is of one snapshot.

mod approvals;
mod counters;
mod dags;
mod open_work;
mod outcomes;
mod runs;
mod schedules;
mod starts;
mod waiting;

use std::path::Path;

pub use self::{
    counters::{Metrics, QueueDepth, QueueReport},
    outcomes::{OUTCOMES_LIMIT, Outcomes},
    runs::{Page, PageRequest, RunFilter},
    waiting::{RunningPlugin, WaitingFilter},
};
use crate::{ProjectionError, rows::Row};

/// Rows from a query that gives them as text.
async fn fetch<R: Row>(
    pool: &sqlx::SqlitePool,
    path: &Path,
    query: sqlx::query::QueryScalar<'_, sqlx::Sqlite, String, sqlx::sqlite::SqliteArguments>,
) -> Result<Vec<R>, ProjectionError> {
    let rows = query.fetch_all(pool).await.map_err(ProjectionError::storage(path))?;
    rows.iter().map(|text| R::from_text(text)).collect()
}
