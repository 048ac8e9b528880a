//! The read models of all tenants.

use std::{
    collections::HashMap,
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stella_domain::{chain::Head, ids::Tenant};
use stella_ledger::{feed::Feed, port::Ledger, recorded::Recorded};
use tokio::sync::{OnceCell, watch};

use crate::{
    ProjectionError,
    files::{self, Files},
    follow,
    rebuild::{Progress, Rebuilt},
    tenant::TenantModels,
};

/// Where read models stand against their ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last event applied.
    pub applied: Head,
    /// Events that the ledger is known to hold.
    pub ledger_next_seq: u64,
}

impl Position {
    /// Events that are still to be applied.
    pub fn lag(&self) -> u64 {
        self.ledger_next_seq.saturating_sub(self.applied.next_seq)
    }
}

/// The read models of all tenants, in one directory, each opened when it is first asked for.
pub struct Projections {
    dir: PathBuf,
    ledger: Arc<dyn Ledger>,
    feed: Arc<Feed>,
    tenants: Mutex<HashMap<Tenant, Arc<OnceCell<Arc<TenantModels>>>>>,
    /// Keeps other processes out of the directory.
    _claim: File,
}

impl Projections {
    /// Use the directory `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`ProjectionError::InUse`] when another process uses it, [`ProjectionError::File`] when it
    /// cannot be made.
    pub fn open(
        dir: &Path,
        ledger: Arc<dyn Ledger>,
        feed: Arc<Feed>,
    ) -> Result<Self, ProjectionError> {
        let claim = files::claim(dir)?;
        let (dir, tenants) = (dir.to_owned(), Mutex::default());
        Ok(Self { dir, ledger, feed, tenants, _claim: claim })
    }

    /// Check that the tenant's ledger is the one that its read models were folded from.
    ///
    /// # Errors
    /// [`ProjectionError::LedgerBehind`] or [`ProjectionError::LedgerDiffers`] when it is not;
    /// [`rebuild`](Self::rebuild) works nevertheless.
    pub async fn verify(&self, tenant: &Tenant) -> Result<(), ProjectionError> {
        self.tenant(tenant).await?.verify().await
    }

    /// Keep the tenant's read models up with the ledger until `shutdown`.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), and whatever else does not pass by itself. A ledger that does
    /// not answer is tried again.
    pub async fn follow(
        &self,
        tenant: &Tenant,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ProjectionError> {
        let models = self.tenant(tenant).await?;
        let followed = follow::follow(Arc::clone(&models), Arc::clone(&self.feed), shutdown).await;
        if let Err(error) = &followed {
            // The first reason is the reason.
            let _ = models.stopped.set(error.to_string());
        }
        followed
    }

    /// Why the tenant's read models do not [follow](Self::follow) the ledger any more, if so.
    ///
    /// # Errors
    /// [`ProjectionError`] when they cannot be opened.
    pub async fn stopped(&self, tenant: &Tenant) -> Result<Option<String>, ProjectionError> {
        Ok(self.tenant(tenant).await?.stopped.get().cloned())
    }

    /// Apply the tenant's next commits, all in one transaction, or none.
    ///
    /// # Errors
    /// [`ProjectionError::NotNext`] when they do not follow the position: what was applied before
    /// is never applied again.
    pub async fn apply(
        &self,
        tenant: &Tenant,
        commits: &[Arc<Recorded>],
    ) -> Result<(), ProjectionError> {
        self.tenant(tenant).await?.apply(commits).await
    }

    /// Where the tenant's read models stand.
    ///
    /// # Errors
    /// [`ProjectionError`] when they cannot be opened.
    pub async fn position(&self, tenant: &Tenant) -> Result<Position, ProjectionError> {
        let applied = self.tenant(tenant).await?.head();
        let ledger_next_seq = self.feed.next_seq(tenant).max(applied.next_seq);
        Ok(Position { applied, ledger_next_seq })
    }

    /// Hear of every move of the position.
    ///
    /// # Errors
    /// [`ProjectionError`] when the read models cannot be opened.
    pub async fn watch(&self, tenant: &Tenant) -> Result<watch::Receiver<Head>, ProjectionError> {
        Ok(self.tenant(tenant).await?.watch())
    }

    /// Wait until event `min_seq` is applied, so that a client reads what it wrote.
    ///
    /// # Errors
    /// [`ProjectionError::NotReached`] when that takes longer than `timeout`.
    pub async fn wait_for(
        &self,
        tenant: &Tenant,
        min_seq: u64,
        timeout: Duration,
    ) -> Result<(), ProjectionError> {
        let mut watch = self.watch(tenant).await?;
        let reached = watch.wait_for(|head| head.next_seq > min_seq);
        let in_time = matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)));
        if in_time {
            return Ok(());
        }
        let reached = watch.borrow().next_seq;
        Err(ProjectionError::NotReached { asked: min_seq, reached })
    }

    /// Fold the whole ledger afresh and put the outcome in the place of what is in use. Reads go
    /// on meanwhile.
    ///
    /// # Errors
    /// [`ProjectionError`]; what is in use then stays.
    pub async fn rebuild(
        &self,
        tenant: &Tenant,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Rebuilt, ProjectionError> {
        let (models, built) = self.opened(tenant, progress).await?;
        match built {
            // There was nothing to use until just now: it is fresh.
            Some(rebuilt) => Ok(rebuilt),
            None => models.rebuild(progress).await,
        }
    }

    /// Close every file. Reads and writes fail from then on.
    pub async fn close(&self) {
        let open: Vec<_> = {
            let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.values().filter_map(|cell| cell.get().cloned()).collect()
        };
        for models in open {
            models.close().await;
        }
    }

    pub(crate) async fn tenant(
        &self,
        tenant: &Tenant,
    ) -> Result<Arc<TenantModels>, ProjectionError> {
        Ok(self.opened(tenant, &|_| {}).await?.0)
    }

    /// The tenant's read models, and what building them came to if that was done in this call.
    async fn opened(
        &self,
        tenant: &Tenant,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Arc<TenantModels>, Option<Rebuilt>), ProjectionError> {
        let cell = {
            // Guards a plain map that every holder leaves whole.
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tenants.entry(tenant.clone()).or_default())
        };
        let mut built = None;
        let open = async || {
            let files = Files::of(&self.dir, tenant);
            let ledger = Arc::clone(&self.ledger);
            let (models, rebuilt) = TenantModels::open(tenant, files, ledger, progress).await?;
            built = rebuilt;
            Ok::<_, ProjectionError>(Arc::new(models))
        };
        let models = cell.get_or_try_init(open).await?;
        Ok((Arc::clone(models), built))
    }
}
