//! Building read models afresh, from seq 0: for a file that is missing or of another version, for
//! a rebuild on demand while the old ones are still read, and for a check.
//!
//! Four stages run at once: reading pages of the ledger, decoding their events, folding them, and
//! writing what the pages before changed.

use std::{path::Path, sync::Arc};

use stella_domain::{
    chain::{Commit, Head},
    ids::Tenant,
};
use stella_ledger::{
    port::{Ledger, READ_LIMIT},
    recorded::Recorded,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    ProjectionError,
    digest::ModelDigests,
    digests::{Digests, Divergence},
    fold::{Checkpoint, State},
    store::Store,
};

/// Pages whose outcome is written at once: a run that spans them is written once, and so is each
/// page of an index that they meet.
const PAGES_A_BATCH: usize = 4;
/// Pages that are being decoded, or wait to be folded.
const PAGES_AHEAD: usize = 2;

/// A page on its way: its events are being decoded.
type Decoding = JoinHandle<Result<Vec<Recorded>, ProjectionError>>;

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Events folded.
    pub next_seq: u64,
    /// Events that the ledger held when the rebuild began.
    pub of: u64,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events folded.
    pub next_seq: u64,
    /// Where it went another way than what was recorded before by the same projection version.
    /// It should be nowhere; if not, the read models were wrong before, or the ledger is another.
    pub diverged: Vec<Divergence>,
}

/// Read models that are being built in a file of their own.
pub(crate) struct Builder {
    ledger: Arc<dyn Ledger>,
    tenant: Tenant,
    store: Store,
    state: State,
    /// The batch on its way into the file.
    writing: Option<JoinHandle<Result<(), ProjectionError>>>,
    checkpoints: Vec<Checkpoint>,
}

/// What a finished builder leaves beside its file, which is closed.
pub(crate) struct Built {
    pub(crate) head: Head,
    pub(crate) digests: ModelDigests,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

impl Built {
    /// Compare with the digests recorded earlier, and record these in their place.
    pub(crate) async fn recorded(&self, digests: &Digests) -> Result<Rebuilt, ProjectionError> {
        let diverged = digests.compare(&self.checkpoints).await?;
        digests.replace(&self.checkpoints).await?;
        Ok(Rebuilt { next_seq: self.head.next_seq, diverged })
    }
}

impl Builder {
    /// Begin with an empty file at `path`.
    pub(crate) async fn begin(
        ledger: Arc<dyn Ledger>,
        tenant: &Tenant,
        path: &Path,
    ) -> Result<Self, ProjectionError> {
        Ok(Self {
            ledger,
            tenant: tenant.clone(),
            store: Store::bulk(path).await?,
            state: State::default(),
            writing: None,
            checkpoints: vec![],
        })
    }

    /// Fold up to the ledger's end, or up to `until`, which is the end of a commit.
    pub(crate) async fn catch_up(
        &mut self,
        until: Option<u64>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), ProjectionError> {
        let of = match until {
            Some(until) => until,
            None => self.ledger.head(&self.tenant).await?.next_seq,
        };
        let mut pages = self.pages(until.unwrap_or(u64::MAX));
        let mut unwritten = 0;
        while let Some(page) = pages.recv().await {
            self.fold(finished(page?).await?).await?;
            unwritten += 1;
            if unwritten == PAGES_A_BATCH {
                self.write().await?;
                unwritten = 0;
            }
            progress(Progress { next_seq: self.state.head.next_seq, of });
        }
        self.write().await?;
        self.written().await
    }

    /// Close the file.
    pub(crate) async fn finish(mut self) -> Result<Built, ProjectionError> {
        self.written().await?;
        self.store.close().await;
        let State { head, digests, .. } = self.state;
        Ok(Built { head, digests, checkpoints: self.checkpoints })
    }

    /// Read ahead, until the receiver is dropped or there is nothing more.
    fn pages(&self, until: u64) -> mpsc::Receiver<Result<Decoding, ProjectionError>> {
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        let (ledger, tenant) = (Arc::clone(&self.ledger), self.tenant.clone());
        let mut next_seq = self.state.head.next_seq;
        tokio::spawn(async move {
            while next_seq < until {
                let commits = match ledger.read(&tenant, next_seq, READ_LIMIT).await {
                    Ok(commits) => commits,
                    Err(error) => {
                        // Whoever is gone need not be told.
                        let _ = pages.send(Err(error.into())).await;
                        return;
                    }
                };
                let Some(last) = commits.last() else { return };
                next_seq = last.head().next_seq;
                // The next page is read meanwhile.
                let decoding = tokio::task::spawn_blocking(move || decode(commits, until));
                if pages.send(Ok(decoding)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    async fn fold(&mut self, page: Vec<Recorded>) -> Result<(), ProjectionError> {
        let missing = self.state.missing_runs(&page);
        if !missing.is_empty() {
            // They left memory with a batch that may be on its way still.
            self.written().await?;
            self.store.admit(&mut self.state, &missing).await?;
        }
        let mut state = std::mem::take(&mut self.state);
        self.state = off_the_runtime(move || {
            page.iter().try_for_each(|recorded| state.fold(recorded))?;
            Ok(state)
        })
        .await?;
        Ok(())
    }

    /// Send what changed on its way into the file.
    async fn write(&mut self) -> Result<(), ProjectionError> {
        let mut state = std::mem::take(&mut self.state);
        let (state, mut batch) = off_the_runtime(move || {
            let batch = state.take_batch();
            Ok((state, batch))
        })
        .await?;
        self.state = state;
        self.checkpoints.append(&mut batch.checkpoints);
        for range in &batch.erased.unrepeatable {
            self.checkpoints.retain(|known| !range.contains(&known.next_seq));
        }
        self.written().await?;
        let store = self.store.clone();
        self.writing = Some(tokio::spawn(async move { store.write(batch).await }));
        Ok(())
    }

    async fn written(&mut self) -> Result<(), ProjectionError> {
        match self.writing.take() {
            Some(writing) => writing.await.unwrap_or(Err(ProjectionError::Interrupted)),
            None => Ok(()),
        }
    }
}

fn decode(commits: Vec<Commit>, until: u64) -> Result<Vec<Recorded>, ProjectionError> {
    let wanted = commits.into_iter().take_while(|commit| commit.seq < until);
    Ok(wanted.map(Recorded::decode).collect::<Result<_, _>>()?)
}

/// Milliseconds of pure work, which must not hold up the server's other tasks.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProjectionError> + Send + 'static,
) -> Result<T, ProjectionError> {
    finished(tokio::task::spawn_blocking(work)).await
}

async fn finished<T>(work: JoinHandle<Result<T, ProjectionError>>) -> Result<T, ProjectionError> {
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ProjectionError::Interrupted),
        },
    }
}
