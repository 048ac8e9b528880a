//! Carrying out recorded erasures: at the start whatever an earlier process left, then as they are
//! recorded. One task does it, so that there is one order and one place that tries again.

use std::{sync::Arc, time::Duration};

use stella_commands::Commands;
use stella_domain::{
    event::DataErased,
    ids::{RunId, Tenant},
};
use stella_ledger::{
    checkpoints::gate::Gate,
    erasure::{EraseError, Eraser, Erasures as Recorded, Mark, carry_out, left},
    port::Ledger,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::artifacts::Artifacts;

/// Between two attempts at what did not work.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How often a node looks for what others have recorded, or carried out.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a caller waits for what it had recorded to be carried out.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(15);

/// The way to have payloads blanked; cheap to clone.
#[derive(Clone)]
pub struct Erasures(Arc<Inner>);

/// What carrying out takes.
pub(super) struct Parts {
    pub(super) tenant: Tenant,
    pub(super) ledger: Arc<dyn Ledger>,
    /// None: then others blank, and this node looks whether they did. What it has itself of what was
    /// erased goes either way.
    pub(super) eraser: Option<Arc<dyn Eraser>>,
    pub(super) gate: Arc<Gate>,
    pub(super) commands: Commands,
    pub(super) artifacts: Artifacts,
    pub(super) mark: Mark,
}

struct Inner {
    parts: Parts,
    wake: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone)]
struct Progress {
    /// Erasures recorded before this seq are carried out.
    carried_out: u64,
    /// Likewise, as a version of the ledger's own stream.
    from_version: u64,
    /// Attempts that failed, and why the last one did.
    failures: u64,
    trouble: String,
}

/// Why an erasure is not carried out, or not yet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErasureError {
    /// This node has no credential to do it with.
    #[error(
        "this server has no credential that may blank payloads, so nothing was recorded: start it \
         with `--erasure-ledger-file FILE`"
    )]
    NotConfigured,
    /// The storage would not let it happen.
    #[error("nothing was recorded: {0}")]
    Refused(EraseError),
    /// It is recorded, and will be carried out.
    #[error(
        "the erasure is recorded as event {seq}, and its payloads are still there: {trouble}; this \
         server goes on trying, and does so again when it is started"
    )]
    Pending {
        /// The last `DataErased`.
        seq: u64,
        /// What keeps it.
        trouble: String,
    },
}

impl Erasures {
    pub(super) fn new(parts: Parts) -> Self {
        let nothing = String::new();
        let progress = Progress { carried_out: 0, from_version: 1, failures: 0, trouble: nothing };
        let (wake, progress) = (Notify::new(), watch::Sender::new(progress));
        Self(Arc::new(Inner { parts, wake, progress }))
    }

    /// Whether an erasure that is recorded now will be carried out; answers the version of the ledger's
    /// own stream before which all are.
    ///
    /// # Errors
    /// [`ErasureError::NotConfigured`], [`ErasureError::Refused`].
    pub async fn possible(&self) -> Result<u64, ErasureError> {
        let eraser = self.0.parts.eraser.as_ref().ok_or(ErasureError::NotConfigured)?;
        let from_version = self.0.progress.borrow().from_version;
        eraser.may_blank().await.map_err(ErasureError::Refused)?;
        Ok(from_version)
    }

    /// Wait until the erasure that was recorded at `seq` is carried out.
    ///
    /// # Errors
    /// [`ErasureError::Pending`] when that does not work at once.
    pub async fn carried_out(&self, seq: u64) -> Result<(), ErasureError> {
        let inner = &self.0;
        let mut progress = inner.progress.subscribe();
        let failures = progress.borrow().failures;
        inner.wake.notify_one();
        let settled = progress.wait_for(|p| p.carried_out > seq || p.failures > failures);
        let settled = tokio::time::timeout(CARRIED_OUT_WITHIN, settled).await;
        let trouble = match settled {
            Ok(Ok(progress)) if progress.carried_out > seq => return Ok(()),
            Ok(Ok(progress)) => progress.trouble.clone(),
            Ok(Err(_)) => "this server is stopping".to_owned(),
            Err(_) => "others come before it, or the storage is slow".to_owned(),
        };
        Err(ErasureError::Pending { seq, trouble })
    }

    /// Carry out what is recorded and not carried out, until `stop`.
    pub(super) fn start(&self, stop: &CancellationToken) -> JoinHandle<()> {
        let (inner, stop) = (Arc::clone(&self.0), stop.clone());
        tokio::spawn(async move {
            // Safe to cut off anywhere: whatever is half done is done again.
            tokio::select! {
                () = stop.cancelled() => {}
                () = inner.run() => {}
            }
        })
    }
}

impl Inner {
    async fn run(&self) {
        let mut known = false;
        loop {
            let done = match known {
                true => self.catch_up().await,
                false => self.begin().await,
            };
            match done {
                Ok(()) => {
                    known = true;
                    self.parts.gate.learn_of_erasures(None);
                    // Nobody tells of what other nodes have recorded.
                    let _ = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
                }
                Err(error) => {
                    let trouble = error.to_string();
                    self.parts.gate.learn_of_erasures(Some(trouble.clone()));
                    self.progress.send_modify(|progress| {
                        progress.failures += 1;
                        progress.trouble = trouble;
                    });
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    /// Find out how far an earlier process came, and go on from there.
    async fn begin(&self) -> Result<(), EraseError> {
        let Parts { mark, ledger, tenant, .. } = &self.parts;
        let from_version = mark.load(&**ledger, tenant).await?;
        self.progress.send_modify(|progress| progress.from_version = from_version);
        self.catch_up().await
    }

    /// Everything that was recorded since. The events of runs are read only where an erasure names them.
    async fn catch_up(&self) -> Result<(), EraseError> {
        let Parts { tenant, ledger, eraser, mark, .. } = &self.parts;
        let from_version = self.progress.borrow().from_version;
        let mut recorded = Recorded::of(&**ledger, tenant, from_version);
        loop {
            let page = recorded.next().await?;
            let Some(last) = page.last() else { return Ok(()) };
            let erasures = || page.iter().flat_map(|recorded| recorded.erasures());
            for (seq, erased) in erasures() {
                self.carry_out(seq, erased).await?;
            }
            if let Some(eraser) = eraser
                && erasures().next().is_some()
            {
                // Also where nothing was left to blank: whoever did it may have been cut off.
                eraser.scrub().await?;
            }
            mark.store(&last.commit);
            let (carried_out, from_version) = (last.commit.head().next_seq, recorded.reached());
            self.progress.send_modify(|progress| {
                (progress.carried_out, progress.from_version) = (carried_out, from_version);
                progress.trouble.clear();
            });
        }
    }

    async fn carry_out(&self, seq: u64, erased: &DataErased) -> Result<(), EraseError> {
        let Parts { tenant, ledger, eraser, commands, .. } = &self.parts;
        self.stop_at_a_closed_gate()?;
        // Also where nothing is left to blank, for the same reason.
        self.erase_artifacts(&erased.run_id).await?;
        match eraser {
            Some(eraser) => {
                let blanked = carry_out(&**ledger, &**eraser, tenant, erased).await?;
                if blanked == 0 {
                    return Ok(());
                }
                tracing::info!(%tenant, runId = %erased.run_id, seq, blanked, "payloads are erased");
            }
            None => {
                let left = left(&**ledger, tenant, erased).await?;
                if left > 0 {
                    let run_id = erased.run_id.clone();
                    return Err(EraseError::NoCredential { seq, run_id, left });
                }
            }
        }
        // What it read of the run meanwhile had them still.
        let forgotten = commands.forget_run(tenant, &erased.run_id).await;
        forgotten.map_err(|error| EraseError::Unavailable(error.to_string()))
    }

    async fn erase_artifacts(&self, run_id: &RunId) -> Result<(), EraseError> {
        let artifacts = &self.parts.artifacts;
        let Artifacts { store, live, .. } = artifacts;
        live.erase(run_id).map_err(|error| EraseError::Unavailable(error.to_string()))?;
        let erased = store.erase(artifacts.ledger(), run_id).await;
        let erased = erased.map_err(|error| EraseError::Unavailable(error.to_string()))?;
        if erased > 0 {
            tracing::info!(run = %run_id, erased, "artifacts are erased");
        }
        Ok(())
    }

    /// A ledger that is not the one that was signed is evidence: nothing in it is changed.
    fn stop_at_a_closed_gate(&self) -> Result<(), EraseError> {
        match self.parts.gate.closed() {
            None => Ok(()),
            Some(finding) => {
                Err(EraseError::Unavailable(format!("{}: {}", finding.code, finding.message)))
            }
        }
    }
}
