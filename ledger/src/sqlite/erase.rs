//! Blanking payloads in a SQLite file, through the one gap that `ledger_no_update` leaves.
//!
//! A file knows no narrower permission than being written to, so that the credential is the file's
//! own. What keeps everybody else from it is that only this type has the statement, and that the
//! trigger lets nothing but blanking pass.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};
use tokio::sync::Mutex;

use super::{SqliteLedger, row, schema};
use crate::{
    erasure::{Blanking, EraseError, Eraser},
    port::LedgerError,
};

const BLANK: &str = "UPDATE ledger SET events = ? WHERE tenant = ? AND seq = ? AND events = ?";

/// Blanks payloads of the ledgers in one SQLite file.
pub struct SqliteEraser {
    options: SqliteConnectOptions,
    /// `None` before the first use and after a failure.
    connection: Mutex<Option<SqliteConnection>>,
}

impl SqliteEraser {
    /// Of the ledger at `path`, which is begun if there is no file.
    ///
    /// # Errors
    /// As [`SqliteLedger::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        // Sets up what is missing, and brings a file of an earlier release up to date.
        let ledger = SqliteLedger::open(path).await?;
        let options = ledger.options.clone();
        ledger.close().await;
        Ok(Self { options, connection: Mutex::new(None) })
    }

    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, EraseError> {
        let failed = |error: sqlx::Error| EraseError::Unavailable(error.to_string());
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(failed)?,
        };
        let outcome = work(&mut connection).await.map_err(failed)?;
        *slot = Some(connection);
        Ok(outcome)
    }
}

#[async_trait]
impl Eraser for SqliteEraser {
    async fn may_blank(&self) -> Result<(), EraseError> {
        let guards =
            self.with(async |connection| schema::blanking_passes(connection).await).await?;
        guards.map_err(EraseError::Refused)
    }

    async fn blank(&self, blanking: &Blanking<'_>) -> Result<(), EraseError> {
        let before = blanking.before();
        let (tenant, seq) = (before.ledger.tenant.clone(), before.seq);
        let old = row::events_text(&before.events);
        let new = row::events_text(&blanking.after().events);
        let found = self
            .with(async |connection| {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                let updated = sqlx::query(BLANK)
                    .bind(new.as_str())
                    .bind(tenant.as_str())
                    .bind(seq.cast_signed())
                    .bind(old)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected();
                let stored: Option<String> =
                    sqlx::query_scalar("SELECT events FROM ledger WHERE tenant = ? AND seq = ?")
                        .bind(tenant.as_str())
                        .bind(seq.cast_signed())
                        .fetch_optional(&mut *transaction)
                        .await?;
                transaction.commit().await?;
                // Another process may have been first.
                Ok(updated == 1 || stored.as_deref() == Some(new.as_str()))
            })
            .await?;
        if found { Ok(()) } else { Err(EraseError::NotThere { tenant, seq }) }
    }

    /// Pages are zeroed as they are blanked (`secure_delete`); what is left is the write-ahead log.
    async fn scrub(&self) -> Result<(), EraseError> {
        let busy: i64 = self
            .with(async |connection| {
                let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
                row.fetch_one(connection).await?.try_get(0)
            })
            .await?;
        if busy == 0 {
            return Ok(());
        }
        let reason = "somebody reads the SQLite file, whose write-ahead log holds what was blanked";
        Err(EraseError::Unavailable(reason.to_owned()))
    }
}
