//! What waits for an operator.

use stella_domain::ids::{DagId, Tenant};

use super::{Page, PageRequest};
use crate::{ProjectionError, Projections, StepRow, rows::Row, store::db_int};

const ASKED: &str = "SELECT row FROM steps WHERE open = 'awaitingApproval'
    AND queued_seq > ?1 AND (?2 IS NULL OR dag_id = ?2) ORDER BY queued_seq LIMIT ?3";

impl Projections {
    /// Approvals that are not decided, of all runs or of those of a DAG; those that were asked for
    /// first first.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn pending_approvals(
        &self,
        tenant: &Tenant,
        dag_id: Option<&DagId>,
        page: PageRequest,
    ) -> Result<Page<StepRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let readers = models.readers().await;
        let rows: Vec<String> = sqlx::query_scalar(ASKED)
            .bind(page.after.map_or(-1, db_int))
            .bind(dag_id.map(DagId::as_str))
            .bind(page.rows() + 1)
            .fetch_all(&*readers)
            .await
            .map_err(ProjectionError::storage(&models.files.live))?;
        let steps = rows.iter().map(|text| StepRow::from_text(text)).collect::<Result<_, _>>()?;
        Ok(Page::cut(steps, &page, |step: &StepRow| step.queued_seq))
    }
}
