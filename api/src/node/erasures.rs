//! Carrying out recorded erasures: at the start whatever an earlier process left, then as they are
//! recorded. One task does it, so that there is one order and one place that tries again.

use std::{sync::Arc, time::Duration};

use stella_commands::Commands;
use stella_domain::ids::{RunId, Tenant};
use stella_ledger::{
    checkpoints::gate::Gate,
    erasure::{EraseError, Eraser, Erasures as InOrder, Known, Mark, carry_out, left},
    port::{Ledger, LedgerError},
    recorded::Recorded,
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
/// Between two pages of the second look: it is in nobody's way.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
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
    /// How far all of it is carried out.
    known: Known,
    /// Attempts that failed, and why the last one did.
    failures: u64,
    trouble: String,
}

/// Why something of an erasure is left to do.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Payloads(#[from] EraseError),
    #[error(
        "what run {run_id} left in the artifact store or in logs, which the event {seq} erases, cannot \
         be removed: {reason}"
    )]
    Artifacts { seq: u64, run_id: RunId, reason: String },
    #[error("{0}")]
    Passing(String),
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        Self::Payloads(error.into())
    }
}

impl Trouble {
    /// Whether something is there that should not be, as far as is known, and stays until somebody does
    /// something about it.
    fn is_a_finding(&self) -> bool {
        match self {
            Self::Artifacts { .. } => true,
            Self::Payloads(error) => match error {
                EraseError::NoCredential { .. }
                | EraseError::Refused(_)
                | EraseError::NotThere { .. } => true,
                EraseError::Unavailable(_) | EraseError::Ledger(_) => false,
            },
            Self::Passing(_) => false,
        }
    }
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
        let (known, trouble) = (Known::NOTHING, String::new());
        let progress = watch::Sender::new(Progress { known, failures: 0, trouble });
        Self(Arc::new(Inner { parts, wake: Notify::new(), progress }))
    }

    /// Whether an erasure that is recorded now will be carried out; answers the version of the ledger's
    /// own stream before which all are.
    ///
    /// # Errors
    /// [`ErasureError::NotConfigured`], [`ErasureError::Refused`].
    pub async fn possible(&self) -> Result<u64, ErasureError> {
        let eraser = self.0.parts.eraser.as_ref().ok_or(ErasureError::NotConfigured)?;
        let from_version = self.0.progress.borrow().known.from_version;
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
        let settled = progress.wait_for(|p| p.known.carried_out > seq || p.failures > failures);
        let settled = tokio::time::timeout(CARRIED_OUT_WITHIN, settled).await;
        let trouble = match settled {
            Ok(Ok(progress)) if progress.known.carried_out > seq => return Ok(()),
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

/// How far a task has come, as versions of the ledger's own stream.
struct Places {
    /// What this node has itself of erased runs is gone up to here.
    own: u64,
    /// How far the second look has come, which ends at `looked_until`.
    looked: u64,
    looked_until: u64,
}

impl Inner {
    async fn run(&self) {
        let mut places = None;
        loop {
            let done = match &mut places {
                Some(places) => self.catch_up(places).await,
                None => match self.begin().await {
                    Ok(begun) => self.catch_up(places.insert(begun)).await,
                    Err(trouble) => Err(trouble),
                },
            };
            let pause = match &done {
                Err(_) => TRY_AGAIN,
                Ok(()) if places.as_ref().is_none_or(Places::are_open) => BETWEEN_LOOKS,
                // Nobody tells of what other nodes have recorded.
                Ok(()) => LOOK_EVERY,
            };
            self.tell(done.err());
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    fn tell(&self, trouble: Option<Trouble>) {
        let finding = trouble.as_ref().filter(|trouble| trouble.is_a_finding());
        self.parts.gate.learn_of_erasures(finding.map(ToString::to_string));
        let passing = trouble.as_ref().filter(|trouble| !trouble.is_a_finding());
        self.progress.send_modify(|progress| {
            let said = trouble.as_ref().map(ToString::to_string).unwrap_or_default();
            if passing.is_some() && progress.trouble != said {
                tracing::warn!(tenant = %self.parts.tenant, "erasures have to wait: {said}");
            }
            progress.failures += u64::from(trouble.is_some());
            progress.trouble = said;
        });
    }

    /// Find out how far an earlier process came, and go on from there.
    async fn begin(&self) -> Result<Places, Trouble> {
        let Parts { mark, ledger, tenant, .. } = &self.parts;
        let known = mark.load(&**ledger, tenant).await?;
        self.progress.send_modify(|progress| progress.known = known);
        let from = known.from_version;
        Ok(Places { own: from, looked: 1, looked_until: from })
    }

    /// Everything that was recorded since, and then a little of what was before. The events of runs are
    /// read only where an erasure names them. What cannot be done for one erasure keeps none of the
    /// others' artifacts and logs.
    async fn catch_up(&self, places: &mut Places) -> Result<(), Trouble> {
        let Parts { tenant, ledger, .. } = &self.parts;
        self.stop_at_a_closed_gate()?;
        let own = self.forget(places).await;
        let from_version = self.progress.borrow().known.from_version;
        let mut recorded = InOrder::of(&**ledger, tenant, from_version);
        loop {
            let page = recorded.next().await?;
            let Some(last) = page.last() else { break };
            self.blank(&page, true).await?;
            let known = Known {
                from_version: recorded.reached(),
                carried_out: last.commit.head().next_seq,
            };
            // Else what this node has itself is still there, and nobody is told that it is done.
            if places.own >= known.from_version {
                self.parts.mark.store(&last.commit).await;
                self.progress.send_modify(|progress| progress.known = known);
            }
        }
        own?;
        self.look_again(places).await
    }

    /// Remove artifacts and logs of erased runs, as far as this node has them.
    async fn forget(&self, places: &mut Places) -> Result<(), Trouble> {
        let Parts { tenant, ledger, .. } = &self.parts;
        let mut recorded = InOrder::of(&**ledger, tenant, places.own);
        loop {
            let page = recorded.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            self.erase_artifacts(&page).await?;
            places.own = recorded.reached();
        }
    }

    /// Go through what was carried out before this process began, a page at a time: payloads, and files
    /// too, may have come back with a backup, or with a copy of the ledger.
    async fn look_again(&self, places: &mut Places) -> Result<(), Trouble> {
        if !places.are_open() {
            return Ok(());
        }
        let Parts { tenant, ledger, .. } = &self.parts;
        let mut recorded = InOrder::of(&**ledger, tenant, places.looked);
        let page = recorded.next().await?;
        self.erase_artifacts(&page).await?;
        self.blank(&page, false).await?;
        places.looked = if page.is_empty() { places.looked_until } else { recorded.reached() };
        Ok(())
    }

    /// Blank what these erasures name, or see that it is gone.
    async fn blank(&self, page: &[Arc<Recorded>], is_new: bool) -> Result<(), Trouble> {
        let Parts { tenant, ledger, eraser, commands, .. } = &self.parts;
        let (mut blanked_of_page, mut any) = (0, false);
        for (seq, erased) in page.iter().flat_map(|recorded| recorded.erasures()) {
            any = true;
            let blanked = match eraser {
                Some(eraser) => carry_out(&**ledger, &**eraser, tenant, erased).await?,
                None => match left(&**ledger, tenant, erased).await? {
                    0 => 0,
                    left => {
                        let run_id = erased.run_id.clone();
                        return Err(EraseError::NoCredential { seq, run_id, left }.into());
                    }
                },
            };
            if blanked > 0 {
                tracing::info!(%tenant, runId = %erased.run_id, seq, blanked, "payloads are erased");
            }
            blanked_of_page += blanked;
            // What it read of the run meanwhile had them still, whoever blanked them.
            if is_new || blanked > 0 {
                let forgotten = commands.forget_run(tenant, &erased.run_id).await;
                forgotten.map_err(|error| Trouble::Passing(error.to_string()))?;
            }
        }
        if let Some(eraser) = eraser
            && (blanked_of_page > 0 || is_new && any)
        {
            // Also where nothing was left to blank: whoever did it may have been cut off.
            eraser.scrub().await?;
        }
        Ok(())
    }

    async fn erase_artifacts(&self, page: &[Arc<Recorded>]) -> Result<(), Trouble> {
        let artifacts = &self.parts.artifacts;
        let Artifacts { store, live, .. } = artifacts;
        for (seq, erased) in page.iter().flat_map(|recorded| recorded.erasures()) {
            let run_id = &erased.run_id;
            let trouble = |reason| Trouble::Artifacts { seq, run_id: run_id.clone(), reason };
            live.erase(run_id).map_err(|error| trouble(error.to_string()))?;
            let gone = store.erase(artifacts.ledger(), run_id).await;
            let gone = gone.map_err(|error| trouble(error.to_string()))?;
            if gone > 0 {
                tracing::info!(run = %run_id, erased = gone, "artifacts are erased");
            }
        }
        Ok(())
    }

    /// A ledger that is not the one that was signed is evidence: nothing in it is changed.
    fn stop_at_a_closed_gate(&self) -> Result<(), Trouble> {
        match self.parts.gate.closed() {
            None => Ok(()),
            Some(finding) => {
                Err(Trouble::Passing(format!("{}: {}", finding.code, finding.message)))
            }
        }
    }
}

impl Places {
    /// Whether the second look is not at its end.
    fn are_open(&self) -> bool {
        self.looked < self.looked_until
    }
}
