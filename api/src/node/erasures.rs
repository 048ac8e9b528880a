//! Carrying out recorded erasures: at the start whatever an earlier process left, then as they are
//! recorded. One task does it, so that there is one order and one place that tries again.

use std::{sync::Arc, time::Duration};

use stella_commands::Commands;
use stella_domain::ids::{RunId, Tenant};
use stella_ledger::{
    checkpoints::gate::Gate,
    erasure::{EraseError, Eraser, Erasures as Recorded, carry_out},
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
/// How long a caller waits for what it had recorded to be carried out.
const CARRIED_OUT_WITHIN: Duration = Duration::from_secs(15);

/// The way to have payloads blanked; cheap to clone.
#[derive(Clone)]
pub struct Erasures(Option<Arc<Inner>>);

struct Inner {
    tenant: Tenant,
    ledger: Arc<dyn Ledger>,
    eraser: Arc<dyn Eraser>,
    gate: Arc<Gate>,
    commands: Commands,
    artifacts: Artifacts,
    wake: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// Erasures recorded before this seq are carried out.
    carried_out: u64,
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
    /// With the credential that `eraser` was opened with, if there is one.
    pub(super) fn new(
        eraser: Option<Arc<dyn Eraser>>,
        tenant: Tenant,
        ledger: Arc<dyn Ledger>,
        gate: Arc<Gate>,
        commands: Commands,
        artifacts: Artifacts,
    ) -> Self {
        let (wake, progress) = (Notify::new(), watch::Sender::default());
        Self(eraser.map(|eraser| {
            Arc::new(Inner { tenant, ledger, eraser, gate, commands, artifacts, wake, progress })
        }))
    }

    /// Whether an erasure that is recorded now will be carried out.
    ///
    /// # Errors
    /// [`ErasureError::NotConfigured`], [`ErasureError::Refused`].
    pub async fn possible(&self) -> Result<(), ErasureError> {
        let inner = self.0.as_ref().ok_or(ErasureError::NotConfigured)?;
        inner.eraser.may_blank().await.map_err(ErasureError::Refused)
    }

    /// Wait until the erasure that was recorded at `seq` is carried out.
    ///
    /// # Errors
    /// [`ErasureError::Pending`] when that does not work at once.
    pub async fn carried_out(&self, seq: u64) -> Result<(), ErasureError> {
        let inner = self.0.as_ref().ok_or(ErasureError::NotConfigured)?;
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
    pub(super) fn start(&self, stop: &CancellationToken) -> Option<JoinHandle<()>> {
        let (inner, stop) = (Arc::clone(self.0.as_ref()?), stop.clone());
        Some(tokio::spawn(async move {
            // Safe to cut off anywhere: whatever is half done is done again.
            tokio::select! {
                () = stop.cancelled() => {}
                () = inner.run() => {}
            }
        }))
    }
}

impl Inner {
    async fn run(&self) {
        let mut from_version = 1;
        loop {
            match self.catch_up(&mut from_version).await {
                Ok(()) => self.wake.notified().await,
                Err(error) => {
                    let trouble = error.to_string();
                    if self.progress.borrow().trouble != trouble {
                        tracing::warn!(tenant = %self.tenant, %error, "an erasure has to wait");
                    }
                    self.progress.send_modify(|progress| {
                        progress.failures += 1;
                        progress.trouble = trouble;
                    });
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
    }

    /// Everything from this version of the ledger's own stream on. The events of runs are read only
    /// where an erasure names them.
    async fn catch_up(&self, from_version: &mut u64) -> Result<(), EraseError> {
        let mut recorded = Recorded::of(&*self.ledger, &self.tenant, *from_version);
        loop {
            let page = recorded.next().await?;
            let Some(last) = page.last() else { return Ok(()) };
            let erasures = || page.iter().flat_map(|recorded| recorded.erasures());
            for (seq, erased) in erasures() {
                self.stop_at_a_closed_gate()?;
                let (ledger, eraser) = (&*self.ledger, &*self.eraser);
                let blanked = carry_out(ledger, eraser, &self.tenant, erased).await?;
                if blanked > 0 {
                    tracing::info!(tenant = %self.tenant, runId = %erased.run_id, seq, blanked, "payloads are erased");
                    // What it read of the run meanwhile had them still.
                    let forgotten = self.commands.forget_run(&self.tenant, &erased.run_id).await;
                    forgotten.map_err(|error| EraseError::Unavailable(error.to_string()))?;
                }
                // Also where nothing was left to blank, likewise.
                self.erase_artifacts(&erased.run_id).await?;
            }
            if erasures().next().is_some() {
                // Also where nothing was left to blank: whoever did it may have been cut off.
                self.eraser.scrub().await?;
            }
            let reached = last.commit.head().next_seq;
            *from_version = recorded.reached();
            self.progress.send_modify(|progress| {
                progress.carried_out = reached;
                progress.trouble.clear();
            });
        }
    }

    async fn erase_artifacts(&self, run_id: &RunId) -> Result<(), EraseError> {
        let Artifacts { store, live, .. } = &self.artifacts;
        live.erase(run_id).map_err(|error| EraseError::Unavailable(error.to_string()))?;
        let erased = store.erase(self.artifacts.ledger(), run_id).await;
        let erased = erased.map_err(|error| EraseError::Unavailable(error.to_string()))?;
        if erased > 0 {
            tracing::info!(run = %run_id, erased, "artifacts are erased");
        }
        Ok(())
    }

    /// A ledger that is not the one that was signed is evidence: nothing in it is changed.
    fn stop_at_a_closed_gate(&self) -> Result<(), EraseError> {
        match self.gate.closed() {
            None => Ok(()),
            Some(finding) => {
                Err(EraseError::Unavailable(format!("{}: {}", finding.code, finding.message)))
            }
        }
    }
}
