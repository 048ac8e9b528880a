//! Why a projection cannot be read, or cannot go on.

use std::path::{Path, PathBuf};

use stella_domain::{chain::ChainError, ids::Tenant};
use stella_ledger::{port::LedgerError, recorded::UndecodableEvent};

/// Why a projection cannot be read, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The ledger does not answer, is damaged, or holds what this build cannot read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// SQLite refused.
    #[error("the projection file {path} cannot be used: {source}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A file or directory cannot be made, renamed or removed.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has this directory open.
    #[error(
        "the projections in {dir} are in use by another process: \
         ask the running server instead, or stop it first"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The ledger ends before the position.
    #[error(
        "the ledger of tenant {tenant} holds {ledger} events, but its projections have already seen \
         {position}: an older backup was restored, or this is another ledger. Bring the right \
         ledger back; or, if this one is right, run `stella orch projections rebuild`"
    )]
    LedgerBehind {
        /// Whose.
        tenant: Tenant,
        /// Events that the projections have applied.
        position: u64,
        /// Events that the ledger holds.
        ledger: u64,
    },
    /// The ledger holds another event at the position.
    #[error(
        "the ledger of tenant {tenant} holds another event {seq} than the one its projections \
         have applied: another ledger, or history was rewritten. Run `stella orch ledger verify`, \
         bring the right ledger back; or, if this one is right, run \
         `stella orch projections rebuild`"
    )]
    LedgerDiffers {
        /// Whose.
        tenant: Tenant,
        /// The event.
        seq: u64,
    },
    /// A commit was offered that does not follow the position.
    #[error("this commit cannot be applied here: {0}")]
    NotNext(#[from] ChainError),
    /// The events contradict each other: no aggregate of this build decides so.
    #[error(
        "event {seq} contradicts those before it: {reason}; \
         run `stella orch ledger verify`, and report this with the event"
    )]
    Contradiction {
        /// The event.
        seq: u64,
        /// What does not fit.
        reason: &'static str,
    },
    /// A stored row does not read back.
    #[error(
        "row {key} of {table} in the projections cannot be read: {reason}; \
         run `stella orch projections rebuild`"
    )]
    BadRow {
        /// The table.
        table: &'static str,
        /// Its key, as far as known.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The process is ending.
    #[error("the work was interrupted because the process is ending; nothing was changed")]
    Interrupted,
    /// The projection did not come as far in time.
    #[error("the projections have seen {reached} events; event {asked} has not come yet")]
    NotReached {
        /// The seq that was waited for.
        asked: u64,
        /// Events applied so far.
        reached: u64,
    },
}

impl ProjectionError {
    /// Whether trying again later may help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Ledger(LedgerError::Unavailable(_)) | Self::NotReached { .. } => true,
            Self::Ledger(
                LedgerError::Damaged { .. }
                | LedgerError::Malformed { .. }
                | LedgerError::OtherName { .. }
                | LedgerError::Undecodable(_),
            )
            | Self::Storage { .. }
            | Self::File { .. }
            | Self::InUse { .. }
            | Self::LedgerBehind { .. }
            | Self::LedgerDiffers { .. }
            | Self::NotNext(_)
            | Self::Contradiction { .. }
            | Self::BadRow { .. }
            | Self::Interrupted => false,
        }
    }

    pub(crate) fn storage(path: &Path) -> impl FnOnce(sqlx::Error) -> Self {
        |source| Self::Storage { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::File { path: path.to_owned(), source }
    }
}

impl From<UndecodableEvent> for ProjectionError {
    fn from(event: UndecodableEvent) -> Self {
        Self::Ledger(event.into())
    }
}
