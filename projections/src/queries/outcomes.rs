//! How the runs of a window ended.

use stella_domain::{ids::Tenant, time::Timestamp};

use crate::{ProjectionError, Projections, store::db_int};

/// Runs that one answer counts; of more, the newest.
pub const OUTCOMES_LIMIT: u64 = 1_000_000;

const OUTCOMES: &str = "SELECT
        count(*),
        count(*) FILTER (WHERE status = 'succeeded'),
        count(*) FILTER (WHERE status IN ('failed', 'timedOut')),
        count(*) FILTER (WHERE status IN ('succeeded', 'failed', 'timedOut') AND took_ms <= ?1)
    FROM (
        SELECT status, CAST(round(
            (julianday(row ->> 'endedAt') - julianday(created_at)) * 86400000) AS INTEGER) AS took_ms
        FROM runs WHERE created_at >= ?2 ORDER BY created_at DESC LIMIT ?3)";

/// How the runs of a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Runs that were created in it, ended or not.
    pub created: u64,
    /// Of those: ended, every step done.
    pub succeeded: u64,
    /// Of those: ended, a step failed for good or their time was over.
    pub failed: u64,
    /// Of those that succeeded or failed: ended in time.
    pub in_time: u64,
}

impl Projections {
    /// How the runs ended that were created at or after `since`, and whether within `within_ms`; at
    /// most [`OUTCOMES_LIMIT`] of them.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn outcomes(
        &self,
        tenant: &Tenant,
        since: Timestamp,
        within_ms: u64,
    ) -> Result<Outcomes, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let (created, succeeded, failed, in_time): (i64, i64, i64, i64) = sqlx::query_as(OUTCOMES)
            .bind(db_int(within_ms))
            .bind(since.to_string())
            .bind(db_int(OUTCOMES_LIMIT))
            .fetch_one(&*models.readers().await)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        let [created, succeeded, failed, in_time] =
            [created, succeeded, failed, in_time].map(i64::unsigned_abs);
        Ok(Outcomes { created, succeeded, failed, in_time })
    }
}
