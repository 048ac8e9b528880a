//! Digests recorded every [`DIGEST_INTERVAL`](crate::DIGEST_INTERVAL) events, in a file of their
//! own, so that they outlive the read models and two folds of one ledger can be compared without
//! the rows of the first.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use sqlx::SqlitePool;

use crate::{
    PROJECTION_VERSION, ProjectionError, digest::Digest, files, fold::Checkpoint, model::Model,
    store::db_int,
};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS digests (
    projection_version INTEGER NOT NULL,
    model TEXT NOT NULL,
    next_seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (projection_version, model, next_seq)
) STRICT, WITHOUT ROWID";

const RECORD: &str = "INSERT INTO digests (projection_version, model, next_seq, digest)
    VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest";

/// Where two folds of one ledger went apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The read model.
    pub model: Model,
    /// After this many events the two were still equal.
    pub equal_at: u64,
    /// After this many they were not: the first differing event lies between.
    pub differs_at: u64,
}

/// The recorded digests of one tenant.
#[derive(Debug)]
pub(crate) struct Digests {
    pool: SqlitePool,
    path: PathBuf,
}

impl Digests {
    pub(crate) async fn open(path: &Path) -> Result<Self, ProjectionError> {
        let pool = files::live(path);
        sqlx::query(SCHEMA).execute(&pool).await.map_err(ProjectionError::storage(path))?;
        Ok(Self { pool, path: path.to_owned() })
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Keep these checkpoints, and none in these ranges any more. Recording the same again changes
    /// nothing.
    pub(crate) async fn record(
        &self,
        checkpoints: &[Checkpoint],
        unrepeatable: &[RangeInclusive<u64>],
    ) -> Result<(), ProjectionError> {
        if checkpoints.is_empty() && unrepeatable.is_empty() {
            return Ok(());
        }
        let written = self.write(checkpoints, unrepeatable, false).await;
        written.map_err(ProjectionError::storage(&self.path))
    }

    /// Keep these checkpoints and none besides: they are those of the whole ledger, from seq 0.
    pub(crate) async fn replace(&self, checkpoints: &[Checkpoint]) -> Result<(), ProjectionError> {
        self.write(checkpoints, &[], true).await.map_err(ProjectionError::storage(&self.path))
    }

    async fn write(
        &self,
        checkpoints: &[Checkpoint],
        unrepeatable: &[RangeInclusive<u64>],
        afresh: bool,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        if afresh {
            sqlx::query("DELETE FROM digests").execute(&mut *transaction).await?;
        }
        for checkpoint in checkpoints {
            for model in Model::ALL {
                sqlx::query(RECORD)
                    .bind(PROJECTION_VERSION)
                    .bind(model.table())
                    .bind(db_int(checkpoint.next_seq))
                    .bind(checkpoint.digests.of(model).to_string())
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        for range in unrepeatable {
            sqlx::query("DELETE FROM digests WHERE next_seq BETWEEN ? AND ?")
                .bind(db_int(*range.start()))
                .bind(db_int(*range.end()))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    /// Where each model of another fold of the same ledger went apart from the recorded one.
    /// Only what both have recorded is compared.
    pub(crate) async fn compare(
        &self,
        other: &[Checkpoint],
    ) -> Result<Vec<Divergence>, ProjectionError> {
        let mut found = vec![];
        for model in Model::ALL {
            let recorded: Vec<(i64, String)> = sqlx::query_as(
                "SELECT next_seq, digest FROM digests
                 WHERE projection_version = ? AND model = ? ORDER BY next_seq",
            )
            .bind(PROJECTION_VERSION)
            .bind(model.table())
            .fetch_all(&self.pool)
            .await
            .map_err(ProjectionError::storage(&self.path))?;
            found.extend(first_difference(model, &recorded, other));
        }
        Ok(found)
    }
}

/// A fold that went wrong can come right again (a counter that is off by one only meets it later),
/// so that equal ends prove nothing about the way: the first difference is looked for from the
/// beginning.
fn first_difference(
    model: Model,
    recorded: &[(i64, String)],
    other: &[Checkpoint],
) -> Option<Divergence> {
    let mut equal_at = 0;
    for checkpoint in other {
        let at = recorded.binary_search_by_key(&db_int(checkpoint.next_seq), |(seq, _)| *seq);
        let Ok(at) = at else { continue };
        let same = recorded[at].1.parse::<Digest>().ok() == Some(checkpoint.digests.of(model));
        if !same {
            return Some(Divergence { model, equal_at, differs_at: checkpoint.next_seq });
        }
        equal_at = checkpoint.next_seq;
    }
    None
}
