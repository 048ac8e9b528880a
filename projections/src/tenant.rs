//! One tenant's read models: who writes, who reads, and how a rebuilt file takes their place.

use std::sync::{Arc, OnceLock};

use sqlx::SqlitePool;
use stella_domain::{chain::Head, ids::Tenant};
use stella_ledger::{port::Ledger, recorded::Recorded};
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, watch};

use crate::{
    PROJECTION_VERSION, ProjectionError,
    digests::Digests,
    files::{self, Files},
    fold::State,
    rebuild::{Builder, Progress, Rebuilt},
    store::{Store, read_position},
    sweep::Sweeping,
};

/// One tenant's read models.
pub(crate) struct TenantModels {
    pub(crate) tenant: Tenant,
    pub(crate) files: Files,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) digests: Digests,
    /// Held for the length of every query, so that a swap happens between queries.
    readers: RwLock<SqlitePool>,
    writer: Mutex<Writer>,
    /// Held by what takes long and reads or swaps the whole file.
    maintenance: Mutex<()>,
    head: watch::Sender<Head>,
    pub(crate) sweeping: Sweeping,
    /// Why nobody keeps them up with their ledger any more, for as long as the process lives.
    pub(crate) stopped: OnceLock<String>,
}

struct Writer {
    store: Store,
    /// `None` until it is loaded, and after a batch that failed or was dropped half way.
    state: Option<State>,
}

impl TenantModels {
    /// Open the tenant's file. One that is missing or of another projection version is built first,
    /// which then is the second part of the answer.
    pub(crate) async fn open(
        tenant: &Tenant,
        files: Files,
        ledger: Arc<dyn Ledger>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Self, Option<Rebuilt>), ProjectionError> {
        let digests = Digests::open(&files.digests).await?;
        let mut store = Store::live(&files.live);
        let current = files.live.exists() && store.version().await? == PROJECTION_VERSION;
        let mut rebuilt = None;
        if !current {
            tracing::info!(%tenant, version = PROJECTION_VERSION, "building projections");
            let mut builder = Builder::begin(Arc::clone(&ledger), tenant, &files.rebuild).await?;
            builder.catch_up(None, progress).await?;
            let built = builder.finish().await?;
            rebuilt = Some(built.recorded(&digests).await?);
            store.close().await;
            files::replace(&files.live, &files.rebuild)?;
            store = Store::live(&files.live);
        }
        // Connecting switches a new file to its write-ahead log, which readers would be in the
        // way of.
        store.version().await?;
        let sweeping = Sweeping::new(store.is_unswept().await?);
        // A build or a check that did not come to its end: it may hold what was erased since.
        files::remove(&files.rebuild)?;
        files::remove(&files.check)?;
        let readers = files::readers(&files.live);
        let position = read_position(&readers, &files.live).await?;
        let head = position.map_or(Head::EMPTY, |position| position.head);
        let models = Self {
            tenant: tenant.clone(),
            files,
            ledger,
            digests,
            readers: RwLock::new(readers),
            writer: Mutex::new(Writer { store, state: None }),
            maintenance: Mutex::default(),
            head: watch::Sender::new(head),
            sweeping,
            stopped: OnceLock::new(),
        };
        Ok((models, rebuilt))
    }

    /// Where the read models stand.
    pub(crate) fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Wakes with every batch.
    pub(crate) fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Connections for a query; to be dropped with its end.
    pub(crate) async fn readers(&self) -> RwLockReadGuard<'_, SqlitePool> {
        self.readers.read().await
    }

    /// Keep the file in its place, and others that take long away, until the answer is dropped.
    pub(crate) async fn maintenance(&self) -> MutexGuard<'_, ()> {
        self.maintenance.lock().await
    }

    /// Check that the ledger is the one that the read models were folded from, and no shorter.
    pub(crate) async fn verify(&self) -> Result<(), ProjectionError> {
        let head = self.head();
        let Some(last) = head.next_seq.checked_sub(1) else { return Ok(()) };
        let found = self.ledger.read(&self.tenant, last, 1).await?;
        let tenant = self.tenant.clone();
        match found.first() {
            Some(commit) if commit.head() == head => Ok(()),
            Some(_) => Err(ProjectionError::LedgerDiffers { tenant, seq: last }),
            None => {
                let ledger = self.ledger.head(&tenant).await?.next_seq;
                Err(ProjectionError::LedgerBehind { tenant, position: head.next_seq, ledger })
            }
        }
    }

    /// Apply the next commits, all or none.
    pub(crate) async fn apply(&self, commits: &[Arc<Recorded>]) -> Result<(), ProjectionError> {
        let mut writer = self.writer.lock().await;
        self.apply_locked(&mut writer, commits).await
    }

    /// Apply these commits if they are the next; `false` if the position has moved since they were
    /// asked for.
    pub(crate) async fn apply_if_next(
        &self,
        commits: &[Arc<Recorded>],
    ) -> Result<bool, ProjectionError> {
        let mut writer = self.writer.lock().await;
        self.load(&mut writer).await?;
        let next = commits.first().is_none_or(|first| first.commit.seq == self.head().next_seq);
        if next {
            self.apply_locked(&mut writer, commits).await?;
        }
        Ok(next)
    }

    /// Have the fold's state in memory.
    async fn load(&self, writer: &mut Writer) -> Result<(), ProjectionError> {
        if writer.state.is_none() {
            let state = writer.store.load().await?;
            // It differs when a batch was written and nobody waited for the answer.
            self.head.send_replace(state.head);
            writer.state = Some(state);
        }
        Ok(())
    }

    async fn apply_locked(
        &self,
        writer: &mut Writer,
        commits: &[Arc<Recorded>],
    ) -> Result<(), ProjectionError> {
        self.load(writer).await?;
        // Taken out, so that whatever stops this half way leaves nothing half folded behind.
        let mut state = writer.state.take().unwrap_or_default();
        let missing = state.missing_runs(commits.iter().map(|recorded| &**recorded));
        writer.store.admit(&mut state, &missing).await?;
        commits.iter().try_for_each(|recorded| state.fold(recorded))?;
        let batch = state.take_batch();
        // Before the rows: after a crash between them, the same is folded and recorded again.
        self.digests.record(&batch.checkpoints, &batch.erased.unrepeatable).await?;
        let erased = batch.erased.anything;
        writer.store.write(batch).await?;
        if erased {
            self.sweeping.is_due();
        }
        self.head.send_replace(state.head);
        writer.state = Some(state);
        Ok(())
    }

    /// Fold the whole ledger into a fresh file, and put it in the place of the one in use.
    pub(crate) async fn rebuild(
        &self,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Rebuilt, ProjectionError> {
        let _alone = self.maintenance().await;
        let ledger = Arc::clone(&self.ledger);
        let mut builder = Builder::begin(ledger, &self.tenant, &self.files.rebuild).await?;
        builder.catch_up(None, progress).await?;
        // What came meanwhile is little; live batches wait while it is folded.
        let mut writer = self.writer.lock().await;
        builder.catch_up(None, progress).await?;
        let built = builder.finish().await?;
        let rebuilt = built.recorded(&self.digests).await?;
        self.swap(&mut writer).await?;
        self.head.send_replace(built.head);
        Ok(rebuilt)
    }

    /// Put a copy without pages that hold what was erased in the place of the file in use. Answers
    /// whether it was done: it waits for nobody who works on the whole file.
    pub(crate) async fn sweep(&self) -> Result<bool, ProjectionError> {
        let Ok(_alone) = self.maintenance.try_lock() else { return Ok(false) };
        let mut writer = self.writer.lock().await;
        writer.store.copy_swept(&self.files.rebuild).await?;
        self.swap(&mut writer).await?;
        Ok(true)
    }

    async fn swap(&self, writer: &mut Writer) -> Result<(), ProjectionError> {
        let mut readers = self.readers.write().await;
        readers.close().await;
        writer.store.close().await;
        writer.state = None;
        let replaced = files::replace(&self.files.live, &self.files.rebuild);
        // Also when that failed: the old file is still there and goes on.
        writer.store = Store::live(&self.files.live);
        let connected = writer.store.version().await;
        *readers = files::readers(&self.files.live);
        replaced.and(connected.map(drop))
    }

    /// Close every file; a batch under way is finished first.
    pub(crate) async fn close(&self) {
        let _alone = self.maintenance().await;
        let writer = self.writer.lock().await;
        self.readers.write().await.close().await;
        writer.store.close().await;
        self.digests.close().await;
    }
}
