//! Schedules.

use stella_domain::ids::{ScheduleId, Tenant};

use super::{Page, PageRequest, fetch};
use crate::{ProjectionError, Projections, ScheduleRow};

impl Projections {
    /// Schedules that are not deleted, by id.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn schedules(
        &self,
        tenant: &Tenant,
        page: PageRequest<ScheduleId>,
    ) -> Result<Page<ScheduleRow, ScheduleId>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar(
            "SELECT row FROM schedules WHERE key > ? AND row ->> 'deleted' IS NULL
             ORDER BY key LIMIT ?",
        );
        // Every id is greater than no text.
        let after = page.after.as_ref().map_or("", ScheduleId::as_str).to_owned();
        let query = query.bind(after).bind(page.rows() + 1);
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(Page::cut(rows, &page, |row: &ScheduleRow| row.schedule_id.clone()))
    }

    /// A schedule, deleted or not; `None` when there never was one of this id.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn schedule(
        &self,
        tenant: &Tenant,
        id: &ScheduleId,
    ) -> Result<Option<ScheduleRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar("SELECT row FROM schedules WHERE key = ?").bind(id.as_str());
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(rows.into_iter().next())
    }
}
