//! The directory that belongs to one node and to one process at a time.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stella_domain::ids::{Tenant, WorkerId};

use super::NodeError;

pub(super) struct DataDir {
    path: PathBuf,
    /// Held locked for as long as the node runs.
    _lock: File,
}

/// What this node calls itself towards the ledger.
pub(super) struct NodeName {
    prefix: String,
    pub(super) worker_id: WorkerId,
}

impl NodeName {
    /// Whether a worker id is that of an earlier process of this node.
    pub(super) fn is_earlier_worker(&self, worker_id: &WorkerId) -> bool {
        worker_id.as_str().starts_with(&self.prefix) && *worker_id != self.worker_id
    }
}

impl DataDir {
    /// Take the directory, creating it for its owner alone.
    pub(super) fn open(path: &Path) -> Result<Self, NodeError> {
        let wrong = |reason: String| NodeError::DataDir { path: path.to_owned(), reason };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| wrong(format!("cannot be created: {error}")))?;
        let lock = File::create(path.join("lock"))
            .map_err(|error| wrong(format!("cannot be written to: {error}")))?;
        lock.try_lock().map_err(|_| {
            wrong("another server runs on it: stop that one, or give --data-dir another".to_owned())
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn error(&self, reason: String) -> NodeError {
        NodeError::DataDir { path: self.path.clone(), reason }
    }

    pub(super) fn token_path(&self) -> PathBuf {
        self.path.join("token")
    }

    /// The key that signs checkpoints, where none was given.
    pub(super) fn signing_key(&self) -> PathBuf {
        self.path.join("signing-key")
    }

    /// The key that may follow it, where no other place was named.
    pub(super) fn next_signing_key(&self) -> PathBuf {
        self.path.join("signing-key.next")
    }

    /// The newest checkpoint of a tenant's ledger that this node saw, while another one signs.
    pub(super) fn seen_checkpoint(&self, tenant: &Tenant) -> PathBuf {
        // A tenant's name has no dot: it is nobody's checkpoint.
        self.path.join("checkpoints").join(format!("{tenant}.seen"))
    }

    /// The newest checkpoint of a tenant's ledger.
    pub(super) fn checkpoint(&self, tenant: &Tenant) -> PathBuf {
        self.path.join("checkpoints").join(tenant.as_str())
    }

    /// Artifacts, where no other place was named.
    pub(super) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// The logs of steps that run.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(super) fn projections(&self) -> PathBuf {
        self.path.join("projections")
    }

    /// How far a tenant's erasures are carried out.
    pub(super) fn erasures(&self, tenant: &Tenant) -> PathBuf {
        self.path.join("erasures").join(tenant.as_str())
    }

    /// Folds of streams that never end.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The node's lasting name, drawn when the directory is first used, with a worker id for this
    /// process.
    pub(super) fn node_name(&self) -> Result<NodeName, NodeError> {
        let path = self.path.join("node");
        let known = fs::read_to_string(&path).ok().map(|name| name.trim().to_owned());
        let name = match known.filter(|name| name.len() == 12) {
            Some(name) => name,
            None => {
                let name = random_hex()?;
                fs::write(&path, &name)
                    .map_err(|error| self.error(format!("cannot be written to: {error}")))?;
                name
            }
        };
        let prefix = format!("local-{name}-");
        let worker_id = format!("{prefix}{}", random_hex()?).parse()?;
        Ok(NodeName { prefix, worker_id })
    }
}

fn random_hex() -> Result<String, NodeError> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::DataDir {
        path: PathBuf::new(),
        reason: format!("no randomness for a name: {error}"),
    })?;
    Ok(hex::encode(bytes))
}
