//! Snapshots as files: one a stream, in a directory a tenant.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stella_domain::{
    aggregate::FOLD_VERSION,
    hash::{Hash32, snapshot_hash},
    ids::{StreamId, Tenant},
};

use super::{Snapshot, Snapshots};
use crate::checkpoints::kept::replace;

/// Release that made a snapshot.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Snapshots in a directory that belongs to one node.
#[derive(Debug)]
pub struct SnapshotFiles {
    directory: PathBuf,
    /// Held by who writes: two writings of one file would mix.
    writing: Arc<Mutex<()>>,
}

/// First line of a file; the state is the second.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Label {
    fold_version: u32,
    hash: Hash32,
    release: String,
    state_hash: Hash32,
    version: u64,
}

impl SnapshotFiles {
    /// Kept in `directory`, which is made when the first one is.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, writing: Arc::default() }
    }

    fn path(&self, tenant: &Tenant, stream: &StreamId) -> PathBuf {
        // Ids have nothing in them that a path would have to fear: their grammar sees to it.
        self.directory.join(tenant.as_str()).join(format!("{stream}.json"))
    }
}

#[async_trait]
impl Snapshots for SnapshotFiles {
    async fn newest(&self, tenant: &Tenant, stream: &StreamId) -> Option<Snapshot> {
        let path = self.path(tenant, stream);
        tokio::task::spawn_blocking(move || read(&path)).await.ok().flatten()
    }

    fn keep(&self, tenant: &Tenant, stream: &StreamId, snapshot: Snapshot) {
        let (path, writing) = (self.path(tenant, stream), Arc::clone(&self.writing));
        tokio::task::spawn_blocking(move || {
            let _one_at_a_time = writing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = write(&path, &snapshot) {
                let path = path.display();
                tracing::warn!(%path, %error, "a snapshot was not kept: reading takes longer");
            }
        });
    }
}

fn read(path: &Path) -> Option<Snapshot> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "a snapshot cannot be read: its stream is read whole");
            return None;
        }
    };
    let (label, state) = text.split_once('\n')?;
    let Label { fold_version, hash, release, state_hash, version } =
        serde_json::from_str(label).ok()?;
    let fits = fold_version == FOLD_VERSION && release == RELEASE;
    (fits && snapshot_hash(state) == state_hash).then(|| {
        let state = state.to_owned();
        Snapshot { version, hash, state }
    })
}

fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let Snapshot { version, hash, state } = snapshot;
    let label = Label {
        fold_version: FOLD_VERSION,
        hash: *hash,
        release: RELEASE.to_owned(),
        state_hash: snapshot_hash(state),
        version: *version,
    };
    let label = serde_json::to_string(&label)?;
    replace(path, &format!("{label}\n{state}"))
}
