//! Carrying out recorded erasures: at the start whatever an earlier process left, then as they are
//! recorded. One task does it, so that there is one order and one place that tries again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stella_commands::Commands;
use stella_domain::{
    chain::Commit,
    event::DataErased,
    ids::{RunId, Tenant},
};
use stella_ledger::{
    checkpoints::gate::Gate,
    erasure::{EraseError, Eraser, Erasures as InOrder, Known, Mark, carry_out, left},
    port::{Ledger, LedgerError},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::artifacts::Artifacts;

/// Between two attempts at what did not work.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Between two attempts at an erasure that does not work by itself.
const STUCK_AGAIN: Duration = Duration::from_secs(10);
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
    /// Erasures recorded before this seq were carried out, but for those that are stuck.
    carried_out: u64,
    /// All before this version of the ledger's own stream are carried out.
    all_before: u64,
    /// What keeps the others, by the seq of the erasure.
    stuck: BTreeMap<u64, String>,
    /// Attempts that failed as a whole, and why the last one did.
    failures: u64,
    trouble: String,
}

/// Why an erasure was not carried out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Neither will others be at present: it is tried again from there.
    #[error("{0}")]
    Passing(String),
    /// This one alone, until somebody does something about it.
    #[error("{0}")]
    Stuck(String),
}

impl From<EraseError> for Trouble {
    fn from(error: EraseError) -> Self {
        let said = error.to_string();
        match error {
            EraseError::Unavailable(_) | EraseError::Ledger(LedgerError::Unavailable(_)) => {
                Self::Passing(said)
            }
            EraseError::NoCredential { .. }
            | EraseError::Refused(_)
            | EraseError::NotThere { .. }
            | EraseError::Ledger(_) => Self::Stuck(said),
        }
    }
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        EraseError::from(error).into()
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
        let (stuck, trouble) = (BTreeMap::new(), String::new());
        let progress = Progress { carried_out: 0, all_before: 1, stuck, failures: 0, trouble };
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
        let all_before = self.0.progress.borrow().all_before;
        eraser.may_blank().await.map_err(ErasureError::Refused)?;
        Ok(all_before)
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
            Ok(Ok(progress)) if progress.carried_out > seq => match progress.stuck.get(&seq) {
                None => return Ok(()),
                Some(trouble) => trouble.clone(),
            },
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

/// What the task has done, as versions of the ledger's own stream, and what is left.
struct Work {
    /// From here on nothing was tried yet.
    next: u64,
    /// How far the second look has come, which ends at `looked_until`.
    looked: u64,
    looked_until: u64,
    /// What was tried and did not work.
    stuck: BTreeMap<u64, (DataErased, String)>,
    tried_at: Instant,
    /// Something was blanked that the storage's files may hold still.
    scrub: bool,
}

impl Inner {
    async fn run(&self) {
        let mut work = None;
        loop {
            let done = match &mut work {
                Some(work) => self.round(work).await,
                None => match self.begin().await {
                    Ok(begun) => self.round(work.insert(begun)).await,
                    Err(trouble) => Err(trouble),
                },
            };
            let pause = match (&done, &work) {
                (Ok(()), Some(work)) if work.looked < work.looked_until => BETWEEN_LOOKS,
                // Nobody tells of what other nodes have recorded.
                (Ok(()), Some(_)) => LOOK_EVERY,
                _ => TRY_AGAIN,
            };
            if let Err(trouble) = done {
                let said = trouble.to_string();
                self.progress.send_modify(|progress| {
                    if progress.trouble != said {
                        tracing::warn!(tenant = %self.parts.tenant, "erasures have to wait: {said}");
                    }
                    progress.failures += 1;
                    progress.trouble = said;
                });
            }
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }

    /// Find out how far an earlier process came, and go on from there.
    async fn begin(&self) -> Result<Work, Trouble> {
        let Parts { mark, ledger, tenant, .. } = &self.parts;
        let Known { from_version, carried_out } = mark.load(&**ledger, tenant).await?;
        self.progress.send_modify(|progress| {
            (progress.carried_out, progress.all_before) = (carried_out, from_version);
        });
        let (next, looked, looked_until) = (from_version, 1, from_version);
        let (stuck, tried_at) = (BTreeMap::new(), Instant::now());
        Ok(Work { next, looked, looked_until, stuck, tried_at, scrub: false })
    }

    /// What is stuck, then everything that was recorded since, and then a little of what was before. The
    /// events of runs are read only where an erasure names them.
    async fn round(&self, work: &mut Work) -> Result<(), Trouble> {
        if work.tried_at.elapsed() >= STUCK_AGAIN {
            work.tried_at = Instant::now();
            let stuck: Vec<_> = work.stuck.iter().map(|(seq, (e, _))| (*seq, e.clone())).collect();
            for (seq, erased) in stuck {
                self.attempt(work, seq, &erased, true).await?;
            }
            self.scrub(work).await?;
            self.tell(work, None).await;
        }
        let Parts { tenant, ledger, .. } = &self.parts;
        let mut recorded = InOrder::of(&**ledger, tenant, work.next);
        loop {
            let page = recorded.next().await?;
            let Some(last) = page.last() else { break };
            for (seq, erased) in page.iter().flat_map(|recorded| recorded.erasures()) {
                self.attempt(work, seq, erased, true).await?;
            }
            self.scrub(work).await?;
            work.next = recorded.reached();
            self.tell(work, Some(&last.commit)).await;
        }
        self.look_again(work).await
    }

    /// Go through what was carried out before this process began, a page at a time: payloads, and files
    /// too, may have come back with a backup, or with a copy of the ledger.
    async fn look_again(&self, work: &mut Work) -> Result<(), Trouble> {
        if work.looked >= work.looked_until {
            return Ok(());
        }
        let Parts { tenant, ledger, .. } = &self.parts;
        let mut recorded = InOrder::of(&**ledger, tenant, work.looked);
        let page = recorded.next().await?;
        for (seq, erased) in page.iter().flat_map(|recorded| recorded.erasures()) {
            self.attempt(work, seq, erased, false).await?;
        }
        let reached = if page.is_empty() { work.looked_until } else { recorded.reached() };
        // At its end also where nothing was found: an earlier process may have been cut off.
        work.scrub |= reached >= work.looked_until;
        self.scrub(work).await?;
        work.looked = reached;
        self.tell(work, None).await;
        Ok(())
    }

    /// Carry out one erasure; one that is stuck is remembered, and keeps none of the others.
    async fn attempt(
        &self,
        work: &mut Work,
        seq: u64,
        erased: &DataErased,
        is_new: bool,
    ) -> Result<(), Trouble> {
        match self.carry_out(work, seq, erased, is_new).await {
            Ok(()) => drop(work.stuck.remove(&seq)),
            Err(Trouble::Stuck(said)) => {
                work.stuck.insert(seq, (erased.clone(), said));
            }
            Err(passing) => return Err(passing),
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        work: &mut Work,
        seq: u64,
        erased: &DataErased,
        is_new: bool,
    ) -> Result<(), Trouble> {
        let Parts { tenant, ledger, eraser, commands, .. } = &self.parts;
        self.stop_at_a_closed_gate()?;
        let own = self.erase_artifacts(seq, &erased.run_id).await;
        let blanked = match eraser {
            Some(eraser) => {
                let blanked = carry_out(&**ledger, &**eraser, tenant, erased).await;
                // Also where nothing was left to blank: whoever did it may have been cut off.
                work.scrub |= is_new || !matches!(blanked, Ok(0));
                blanked?
            }
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
        // What it read of the run meanwhile had them still, whoever blanked them.
        if is_new || blanked > 0 {
            let forgotten = commands.forget_run(tenant, &erased.run_id).await;
            forgotten.map_err(|error| Trouble::Stuck(error.to_string()))?;
        }
        own
    }

    /// Remove artifacts and logs of an erased run, as far as this node has them.
    async fn erase_artifacts(&self, seq: u64, run_id: &RunId) -> Result<(), Trouble> {
        let artifacts = &self.parts.artifacts;
        let stuck = |reason: String| {
            Trouble::Stuck(format!(
                "what run {run_id} left in the artifact store or in logs, which the event {seq} \
                 erases, cannot be removed: {reason}"
            ))
        };
        let logs = artifacts.live.erase(run_id).map_err(|error| stuck(error.to_string()));
        let gone = artifacts.store.erase(artifacts.ledger(), run_id).await;
        let gone = gone.map_err(|error| stuck(error.to_string()))?;
        if gone > 0 {
            tracing::info!(run = %run_id, erased = gone, "artifacts are erased");
        }
        logs
    }

    async fn scrub(&self, work: &mut Work) -> Result<(), Trouble> {
        if let Some(eraser) = self.parts.eraser.as_ref().filter(|_| work.scrub) {
            eraser.scrub().await?;
        }
        work.scrub = false;
        Ok(())
    }

    /// Tell those who wait, and the health, how far it came: up to the end of this commit.
    async fn tell(&self, work: &Work, reached: Option<&Commit>) {
        let first = work.stuck.values().next().map(|(_, said)| said);
        let finding = first.map(|said| match work.stuck.len() {
            1 => said.clone(),
            n => format!("{said} (and {} further erasures)", n - 1),
        });
        self.parts.gate.learn_of_erasures(finding);
        // The next start begins where something may be left to do.
        let last = reached.filter(|_| work.stuck.is_empty());
        if let Some(last) = last {
            self.parts.mark.store(last).await;
        }
        let stuck = work.stuck.iter().map(|(seq, (_, said))| (*seq, said.clone())).collect();
        self.progress.send_modify(|progress| {
            progress.stuck = stuck;
            if let Some(reached) = reached {
                progress.carried_out = reached.head().next_seq;
                progress.trouble.clear();
            }
            if work.stuck.is_empty() {
                progress.all_before = work.next;
            }
        });
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
