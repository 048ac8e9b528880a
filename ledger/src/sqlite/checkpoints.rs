//! Checkpoints and tiles in the ledger's own file.

use std::ops::Range;

use async_trait::async_trait;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteRow};
use stella_domain::{hash::Hash32, ids::Tenant, merkle::Tile};

use super::{SqliteLedger, read_error};
use crate::{
    checkpoints::store::{CheckpointStore, NOTES_LIMIT, ROOTS_LIMIT, StoredNote},
    port::LedgerError,
};

/// Made where they are missing, also in files of earlier releases: neither is trusted, and what
/// was removed shows when it is compared with the checkpoint that is kept outside.
const OBJECTS: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS checkpoints (
  tenant TEXT NOT NULL,
  size INTEGER NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (tenant, size)
) STRICT",
    "CREATE TABLE IF NOT EXISTS tiles (
  tenant TEXT NOT NULL,
  level INTEGER NOT NULL,
  position INTEGER NOT NULL,
  root BLOB NOT NULL,
  PRIMARY KEY (tenant, level, position)
) STRICT, WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS checkpoints_no_update BEFORE UPDATE ON checkpoints BEGIN
  SELECT RAISE(ABORT, 'checkpoints are never changed');
END",
    "CREATE TRIGGER IF NOT EXISTS checkpoints_no_delete BEFORE DELETE ON checkpoints BEGIN
  SELECT RAISE(ABORT, 'checkpoints are never removed');
END",
    "CREATE TRIGGER IF NOT EXISTS tiles_no_update BEFORE UPDATE ON tiles BEGIN
  SELECT RAISE(ABORT, 'tiles are never changed');
END",
    "CREATE TRIGGER IF NOT EXISTS tiles_no_delete BEFORE DELETE ON tiles BEGIN
  SELECT RAISE(ABORT, 'tiles are never removed');
END",
];

/// Set up what is missing.
pub(super) async fn create(connection: &mut SqliteConnection) -> Result<(), LedgerError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE tbl_name IN ('checkpoints', 'tiles') \
         AND sql IS NOT NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(read_error)?;
    // Every opening would otherwise wait for whoever writes just now.
    if found == OBJECTS.len() as i64 {
        return Ok(());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(read_error)?;
    for sql in OBJECTS {
        sqlx::query(sql).execute(&mut *transaction).await.map_err(read_error)?;
    }
    transaction.commit().await.map_err(read_error)
}

impl SqliteLedger {
    /// `work` on the connection that writes. One on which it failed is not used again: half a
    /// transaction may hang on it.
    async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let mut slot = self.writer.lock().await;
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.options.connect().await.map_err(read_error)?,
        };
        let outcome = work(&mut writer).await.map_err(read_error)?;
        *slot = Some(writer);
        Ok(outcome)
    }

    async fn note(
        &self,
        sql: &'static str,
        tenant: &Tenant,
        size: u64,
    ) -> Result<Option<StoredNote>, LedgerError> {
        // No size is larger: seq ends at 2^53 − 1.
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let row = sqlx::query(sql).bind(tenant.as_str()).bind(size);
        let row = row.fetch_optional(&self.readers).await.map_err(read_error)?;
        row.as_ref().map(note_of).transpose()
    }
}

/// The note that a row is.
fn note_of(row: &SqliteRow) -> Result<StoredNote, LedgerError> {
    let size: i64 = row.try_get("size").map_err(read_error)?;
    let note = row.try_get("note").map_err(read_error)?;
    Ok(StoredNote { size: size.unsigned_abs(), note })
}

#[async_trait]
impl CheckpointStore for SqliteLedger {
    async fn insert_tiles(&self, tenant: &Tenant, tiles: &[Tile]) -> Result<(), LedgerError> {
        if tiles.is_empty() {
            return Ok(());
        }
        self.write(async |writer| {
            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
            for tile in tiles {
                sqlx::query("INSERT INTO tiles VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
                    .bind(tenant.as_str())
                    .bind(i64::from(tile.id.level))
                    .bind(tile.id.index.cast_signed())
                    .bind(tile.root.as_bytes().as_slice())
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        })
        .await
    }

    async fn tile_roots(
        &self,
        tenant: &Tenant,
        level: u32,
        indices: Range<u64>,
    ) -> Result<Vec<Hash32>, LedgerError> {
        let end = indices.end.min(indices.start.saturating_add(ROOTS_LIMIT));
        let rows = sqlx::query(
            "SELECT position, root FROM tiles WHERE tenant = ? AND level = ? \
             AND position >= ? AND position < ? ORDER BY position",
        )
        .bind(tenant.as_str())
        .bind(i64::from(level))
        .bind(indices.start.cast_signed())
        .bind(end.cast_signed())
        .fetch_all(&self.readers)
        .await
        .map_err(read_error)?;
        let mut roots = Vec::with_capacity(rows.len());
        for (expected, row) in (indices.start..).zip(&rows) {
            let position: i64 = row.try_get("position").map_err(read_error)?;
            let root: &[u8] = row.try_get("root").map_err(read_error)?;
            let Ok(root) = <[u8; 32]>::try_from(root) else { break };
            if position.cast_unsigned() != expected {
                break;
            }
            roots.push(Hash32::from(root));
        }
        Ok(roots)
    }

    async fn insert_note(
        &self,
        tenant: &Tenant,
        size: u64,
        note: &str,
    ) -> Result<bool, LedgerError> {
        let inserted = self
            .write(async |writer| {
                sqlx::query("INSERT INTO checkpoints VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                    .bind(tenant.as_str())
                    .bind(size.cast_signed())
                    .bind(note)
                    .execute(writer)
                    .await
            })
            .await?;
        Ok(inserted.rows_affected() > 0)
    }

    async fn note_of(&self, tenant: &Tenant, size: u64) -> Result<Option<StoredNote>, LedgerError> {
        let sql = "SELECT size, note FROM checkpoints WHERE tenant = ? AND size = ?";
        self.note(sql, tenant, size).await
    }

    async fn notes_from(
        &self,
        tenant: &Tenant,
        size: u64,
        limit: usize,
    ) -> Result<Vec<StoredNote>, LedgerError> {
        let sql = "SELECT size, note FROM checkpoints WHERE tenant = ? AND size >= ? \
                   ORDER BY size LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            // At most 1,000.
            .bind(limit.min(NOTES_LIMIT) as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(read_error)?;
        rows.iter().map(note_of).collect()
    }

    async fn newest_note(&self, tenant: &Tenant) -> Result<Option<StoredNote>, LedgerError> {
        let sql = "SELECT size, note FROM checkpoints WHERE tenant = ? AND size <= ? \
                   ORDER BY size DESC LIMIT 1";
        self.note(sql, tenant, u64::MAX).await
    }
}
