//! How far erasures are carried out: kept by each node, so that a start does not go through all there
//! ever were.

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

/// The file that says it. Without it, all are gone through again: whoever puts a backup in place
/// removes it.
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

impl Mark {
    /// Kept in this file; its directory is made when it is missing.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The version of the ledger's own stream from which on erasures have to be looked at: 1 where
    /// nothing is known, or what is known is not of this ledger.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn load(&self, ledger: &dyn Ledger, tenant: &Tenant) -> Result<u64, LedgerError> {
        let Some(Reached { hash, version }) = self.reached() else { return Ok(1) };
        let stream = StreamId::Ledger(tenant.clone());
        let holding = ledger.read_stream(tenant, &stream, version, 1).await?;
        let fits = holding.first().is_some_and(|last| end(last) == (version, hash));
        Ok(if fits { version + 1 } else { 1 })
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
    pub fn store(&self, last: &Commit) {
        let (version, hash) = end(last);
        let stored = serde_json::to_string(&Reached { hash, version })
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.path, &text));
        if let Err(error) = stored {
            let path = self.path.display();
            tracing::warn!(%path, %error, "how far erasures are carried out was not kept");
        }
    }
}

fn end(commit: &Commit) -> (u64, Hash32) {
    (commit.stream_version + commit.events.len() as u64 - 1, commit.head().hash)
}
