//! Appending a batch until each commit's fate is known. An outcome is never guessed: what the
//! storage did not say is read back and compared by hash, then sent again as the same bytes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use stella_domain::{chain::Commit, hash::Hash32, ids::Tenant};
use tokio::time::{Instant, timeout_at};

use crate::port::{AppendError, AppendFailure, Ledger, LedgerError, Prepared};

/// How long an append may take before its callers are told that its outcome is unknown.
pub(super) const RESOLVE_FOR: Duration = Duration::from_secs(8);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Appended {
    /// Leading commits that are durable.
    pub(super) landed: usize,
    /// What happened to the next one; `None` when all landed.
    pub(super) failure: Option<Failure>,
}

/// Why a batch stopped.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Another writer's commit stands at the place of the next one. None of the rest was written.
    Conflict,
    /// Nothing more was written.
    Unavailable(String),
    /// Of the next `commits`, some may be in the ledger; those after them are not.
    Unknown { reason: String, commits: usize },
}

/// Append `commits` and settle what the storage left open.
pub(super) async fn append_resolved(ledger: &dyn Ledger, commits: &[Prepared]) -> Appended {
    let mut batch = Batch {
        ledger,
        commits,
        landed: 0,
        doubt_until: 0,
        deadline: Instant::now() + RESOLVE_FOR,
        took: Duration::ZERO,
        pause: FIRST_PAUSE,
    };
    while batch.landed < commits.len() {
        let Err(cause) = batch.send().await else { break };
        if let Err(failure) = batch.settle(cause).await {
            return Appended { landed: batch.landed, failure: Some(failure) };
        }
    }
    Appended { landed: commits.len(), failure: None }
}

struct Batch<'a> {
    ledger: &'a dyn Ledger,
    commits: &'a [Prepared],
    /// Leading commits that are durable.
    landed: usize,
    /// Once a send has ended without an answer, whatever it sent may be there, however later sends
    /// end: the end of what was sent so. What has landed is in no doubt, and neither is what stands
    /// behind a conflict: storage writes in order.
    doubt_until: usize,
    deadline: Instant,
    /// How long the last send took.
    took: Duration,
    pause: Duration,
}

impl Batch<'_> {
    /// Send what has not landed.
    async fn send(&mut self) -> Result<(), AppendFailure> {
        let began = Instant::now();
        let rest = &self.commits[self.landed..];
        let sent = timeout_at(self.deadline, self.ledger.append_prepared(rest)).await;
        self.took = began.elapsed();
        let AppendError { landed, cause } = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                let reason = format!("it did not answer within {} s", RESOLVE_FOR.as_secs());
                AppendError { landed: 0, cause: AppendFailure::Unknown(reason) }
            }
        };
        self.landed = (self.landed + landed).min(self.commits.len());
        if matches!(cause, AppendFailure::Unknown(_)) {
            self.doubt_until = self.commits.len();
        }
        Err(cause)
    }

    /// Find out how far a send came that failed. `Ok` means that the rest, if there is one, can be
    /// sent again.
    async fn settle(&mut self, cause: AppendFailure) -> Result<(), Failure> {
        let reason = match cause {
            AppendFailure::Conflict => "it says that a place is taken where nothing stands".into(),
            AppendFailure::Unavailable(reason) | AppendFailure::Unknown(reason) => reason,
        };
        loop {
            let rest = &self.commits[self.landed..];
            let found = match timeout_at(self.deadline, look_up(self.ledger, rest)).await {
                Ok(Ok(found)) => Some(found),
                // Nothing is sent again before it was looked at.
                Ok(Err(_)) => None,
                Err(_) => return Err(self.given_up(reason)),
            };
            self.landed += found.as_ref().map_or(0, |found| found.ours);
            let can_send = match found.map(|found| found.next) {
                Some(Next::None) => return Ok(()),
                Some(Next::Taken) => return Err(Failure::Conflict),
                Some(Next::Severed(reason)) => return Err(self.given_up(reason)),
                Some(Next::Free) => true,
                None => false,
            };
            // A send that would be cut off leaves in doubt what is not yet.
            let in_doubt = self.doubt_until > self.landed;
            let takes = if in_doubt || !can_send { Duration::ZERO } else { self.took };
            if Instant::now() + self.pause + takes >= self.deadline {
                return Err(self.given_up(reason));
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if can_send {
                return Ok(());
            }
        }
    }

    fn given_up(&self, reason: String) -> Failure {
        match self.doubt_until.saturating_sub(self.landed) {
            0 => Failure::Unavailable(reason),
            commits => Failure::Unknown { reason, commits },
        }
    }
}

/// What stands in the ledger of commits that were sent.
struct Found {
    /// So many leading ones.
    ours: usize,
    /// What stands at the place of the one after them.
    next: Next,
}

enum Next {
    /// There is none after them.
    None,
    /// Another writer's commit.
    Taken,
    /// Nothing, and the ledger ends where it is to be continued.
    Free,
    /// Nothing, and neither does what is to come before: sending would leave a gap.
    Severed(String),
}

/// Compare `commits` with the ledger, in order, as far as they are there.
async fn look_up(ledger: &dyn Ledger, commits: &[Prepared]) -> Result<Found, LedgerError> {
    let mut pages: HashMap<&Tenant, VecDeque<(u64, Hash32)>> = HashMap::new();
    for (ours, Prepared { commit, .. }) in commits.iter().enumerate() {
        let tenant = &commit.ledger.tenant;
        let page = pages.entry(tenant).or_default();
        if page.is_empty() {
            // One at first: most often it is another writer's, and nothing more is asked.
            let limit = if ours == 0 { 1 } else { commits.len() - ours };
            let found = ledger.read(tenant, commit.seq, limit).await?;
            page.extend(found.iter().map(|commit| (commit.seq, commit.head().hash)));
        }
        match page.pop_front() {
            Some(found) if found == (commit.seq, commit.head().hash) => {}
            Some(_) => return Ok(Found { ours, next: Next::Taken }),
            None if version_is_taken(ledger, commit).await? => {
                return Ok(Found { ours, next: Next::Taken });
            }
            None => {
                let severed = severed(ledger, &commits[ours..]).await?;
                return Ok(Found { ours, next: severed.map_or(Next::Free, Next::Severed) });
            }
        }
    }
    Ok(Found { ours: commits.len(), next: Next::None })
}

/// The seq is free, yet the stream version may be taken by a commit at an earlier seq.
async fn version_is_taken(ledger: &dyn Ledger, commit: &Commit) -> Result<bool, LedgerError> {
    let tenant = &commit.ledger.tenant;
    let stream = ledger.read_streams(tenant, std::slice::from_ref(&commit.stream)).await?;
    Ok(stream
        .last()
        .is_some_and(|last| last.stream_version + last.events.len() as u64 > commit.stream_version))
}

/// Why these commits cannot be sent again: the storage that failed may be back with an older state
/// than the one that they follow, and not every storage refuses a gap.
async fn severed(ledger: &dyn Ledger, commits: &[Prepared]) -> Result<Option<String>, LedgerError> {
    let mut seen = HashSet::new();
    let commits = commits.iter().map(|prepared| &prepared.commit);
    for commit in commits.filter(|commit| seen.insert(&commit.ledger.tenant)) {
        let tenant = &commit.ledger.tenant;
        let Some(last) = commit.seq.checked_sub(1) else { continue };
        let before = ledger.read(tenant, last, 1).await?;
        let follows =
            before.first().is_some_and(|before| commit.verify_follows(&before.head()).is_ok());
        if !follows {
            return Ok(Some(format!(
                "the ledger of tenant {tenant} no longer holds event {last}, which was durable: \
                 was an older backup restored?"
            )));
        }
    }
    Ok(None)
}
