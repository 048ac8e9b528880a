//! How far erasures are carried out: kept by each node, so that a start goes on there, and what is
//! recorded now need not wait for all that was before.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use stella_domain::{
    chain::Commit,
    hash::Hash32,
    ids::{StreamId, Tenant},
};

use crate::{
    checkpoints::kept::replace,
    port::{Ledger, LedgerError},
};

/// The file that says it. It is a hint: payloads may have come back with a backup, or with a copy that
/// was begun before they were erased, so that all are gone through once more behind what it spares.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
}

/// The last event of the ledger's own stream of which that is known.
#[derive(Serialize, Deserialize)]
struct Reached {
    hash: Hash32,
    version: u64,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The version of the ledger's own stream from which on erasures have to be looked at.
    pub from_version: u64,
    /// Those recorded before this seq are carried out.
    pub carried_out: u64,
}

impl Known {
    /// Nothing is known.
    pub const NOTHING: Self = Self { from_version: 1, carried_out: 0 };
}

impl Mark {
    /// Kept in this file; its directory is made when it is missing.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is known; [`Known::NOTHING`] where that is of another ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn load(&self, ledger: &dyn Ledger, tenant: &Tenant) -> Result<Known, LedgerError> {
        let Some(Reached { hash, version }) = self.reached() else { return Ok(Known::NOTHING) };
        let stream = StreamId::Ledger(tenant.clone());
        let holding = ledger.read_stream(tenant, &stream, version, 1).await?;
        let last = holding.first().filter(|last| end(last) == (version, hash));
        Ok(last.map_or(Known::NOTHING, |last| Known {
            from_version: version + 1,
            carried_out: last.head().next_seq,
        }))
    }

    fn reached(&self) -> Option<Reached> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "how far erasures are carried out cannot be read");
                return None;
            }
        };
        serde_json::from_str(&text).ok()
    }

    /// Remember that every erasure up to the end of this commit of the ledger's own stream is carried
    /// out. Where that does not work, it costs a longer start.
    pub async fn store(&self, last: &Commit) {
        let ((version, hash), path) = (end(last), self.path.clone());
        // Syncing blocks for as long as the disk takes.
        let stored = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_string(&Reached { hash, version })?;
            replace(&path, &text)
        });
        let stored = stored.await.map_err(io::Error::from).and_then(|stored| stored);
        if let Err(error) = stored {
            let path = self.path.display();
            tracing::warn!(%path, %error, "how far erasures are carried out was not kept");
        }
    }
}

fn end(commit: &Commit) -> (u64, Hash32) {
    (commit.stream_version + commit.events.len() as u64 - 1, commit.head().hash)
}
