//! The canonical dump: two files of read models are equal when their dumps are.

use std::io::Write;

use futures::TryStreamExt;
use stella_domain::ids::Tenant;

use crate::{Model, ProjectionError, Projections, store::read_position};

impl Projections {
    /// Write every row, by model and key, as lines of canonical JSON
    /// `{"key":…,"model":…,"row":…}`; gives the number of events that they were folded from.
    ///
    /// # Errors
    /// [`ProjectionError`] when the file cannot be read, or `out` takes no more.
    pub async fn dump(
        &self,
        tenant: &Tenant,
        out: &mut (dyn Write + Send),
    ) -> Result<u64, ProjectionError> {
        let models = self.tenant(tenant).await?;
        let _alone = models.maintenance().await;
        let readers = models.readers().await;
        let path = &models.files.live;
        let mut snapshot = readers.begin().await.map_err(ProjectionError::storage(path))?;
        let position = read_position(&mut *snapshot, path).await?;
        for model in Model::ALL {
            let mut rows =
                sqlx::query_as::<_, (String, String)>(model.select_sql()).fetch(&mut *snapshot);
            while let Some((key, row)) =
                rows.try_next().await.map_err(ProjectionError::storage(path))?
            {
                writeln!(out, r#"{{"key":"{key}","model":"{model}","row":{row}}}"#)
                    .map_err(ProjectionError::file(path))?;
            }
        }
        Ok(position.map_or(0, |position| position.head.next_seq))
    }
}
