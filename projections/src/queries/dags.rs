//! DAGs and their versions.

use stella_domain::ids::{DagId, Tenant};

use super::fetch;
use crate::{DagRow, DagVersionRow, ProjectionError, Projections};

/// DAGs that one answer lists.
const DAGS_LIMIT: u32 = 10_000;
/// Versions that one answer lists, newest first.
const VERSIONS_LIMIT: u32 = 500;

impl Projections {
    /// All DAGs, by id; at most 10,000.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dags(&self, tenant: &Tenant) -> Result<Vec<DagRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar("SELECT row FROM dags ORDER BY key LIMIT ?");
        fetch(&*models.readers().await, &models.files.live, query.bind(DAGS_LIMIT)).await
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

    /// The versions of a DAG, newest first; at most 500.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read.
    pub async fn dag_versions(
        &self,
        tenant: &Tenant,
        dag_id: &DagId,
    ) -> Result<Vec<DagVersionRow>, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let query = sqlx::query_scalar(
            "SELECT row FROM dag_versions WHERE dag_id = ? ORDER BY version DESC LIMIT ?",
        );
        let query = query.bind(dag_id.as_str()).bind(VERSIONS_LIMIT);
        fetch(&*models.readers().await, &models.files.live, query).await
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
