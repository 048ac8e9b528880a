//! DAGs and their versions.

use stella_domain::ids::{DagId, Tenant};

use super::{Page, PageRequest, fetch};
use crate::{DagRow, DagVersionRow, ProjectionError, Projections};

impl Projections {
    /// DAGs, by id.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dags(
        &self,
        tenant: &Tenant,
        page: PageRequest<DagId>,
    ) -> Result<Page<DagRow, DagId>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar("SELECT row FROM dags WHERE key > ? ORDER BY key LIMIT ?");
        // Every id is greater than no text.
        let after = page.after.as_ref().map_or("", DagId::as_str).to_owned();
        let query = query.bind(after).bind(page.rows() + 1);
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(Page::cut(rows, &page, |dag: &DagRow| dag.dag_id.clone()))
    }

    /// A DAG; `None` when there is none of this id.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dag(
        &self,
        tenant: &Tenant,
        dag_id: &DagId,
    ) -> Result<Option<DagRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar("SELECT row FROM dags WHERE key = ?").bind(dag_id.as_str());
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(rows.into_iter().next())
    }

    /// The versions of a DAG, newest first.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dag_versions(
        &self,
        tenant: &Tenant,
        dag_id: &DagId,
        page: PageRequest<u64>,
    ) -> Result<Page<DagVersionRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar(
            "SELECT row FROM dag_versions WHERE dag_id = ? AND version < ? ORDER BY version DESC \
             LIMIT ?",
        );
        // Numbers of versions are smaller than this.
        let before = page.after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX);
        let query = query.bind(dag_id.as_str()).bind(before).bind(page.rows() + 1);
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(Page::cut(rows, &page, |row: &DagVersionRow| u64::from(row.version)))
    }

    /// One version of a DAG, with its spec.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dag_version(
        &self,
        tenant: &Tenant,
        dag_id: &DagId,
        version: u32,
    ) -> Result<Option<DagVersionRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query =
            sqlx::query_scalar("SELECT row FROM dag_versions WHERE dag_id = ? AND version = ?");
        let query = query.bind(dag_id.as_str()).bind(version);
        let rows = fetch(&*models.readers().await, &models.files.live, query).await?;
        Ok(rows.into_iter().next())
    }
}
