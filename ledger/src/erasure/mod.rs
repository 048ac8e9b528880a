//! Erasing payloads: what a recorded `DataErased` names is blanked in the storage.
//!
//! [`Ledger`] can append and read, nothing else. Blanking is a capability of its own, [`Eraser`],
//! opened with a credential of its own. The event is recorded first and carried out afterwards:
//! that can be repeated, by whoever has the credential, at any time.

pub mod conformance;
mod mark;

pub use self::mark::{Known, Mark};

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use stella_domain::{
    chain::{Commit, StoredPayload},
    event::DataErased,
    ids::{RunId, StreamId, Tenant},
};

use crate::{
    port::{Ledger, LedgerError},
    recorded::Recorded,
};

/// Commits of the ledger's own stream that are read at a time.
const PAGE_COMMITS: usize = 16;

/// May blank payloads and salts of stored commits, and nothing else.
#[async_trait]
pub trait Eraser: Send + Sync + 'static {
    /// Whether the storage would let this credential blank. Nothing is changed. Asked before an
    /// erasure is recorded: one that cannot be carried out would be a false statement.
    ///
    /// # Errors
    /// [`EraseError::Refused`], [`EraseError::Unavailable`].
    async fn may_blank(&self) -> Result<(), EraseError>;

    /// Leave of these payloads nothing but their hashes, durably. Where that was done already,
    /// nothing happens.
    ///
    /// # Errors
    /// [`EraseError`]; do it again.
    async fn blank(&self, blanking: &Blanking<'_>) -> Result<(), EraseError>;

    /// See to it that the storage's files hold nothing of what was blanked, as far as that is in
    /// this program's hands.
    ///
    /// # Errors
    /// [`EraseError::Unavailable`]; do it again.
    async fn scrub(&self) -> Result<(), EraseError>;
}

/// Why something was not blanked. It can be tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EraseError {
    /// The storage does not answer, or is busy.
    #[error("the ledger's storage does not blank payloads at present: {0}")]
    Unavailable(String),
    /// The credential does not suffice.
    #[error(
        "the ledger's storage refuses to blank payloads with the erasing credential: {0}; on \
         MongoDB it needs `find` and `update` on the collection of the ledger"
    )]
    Refused(String),
    /// There is no credential to do it with, and payloads are there.
    #[error(
        "{left} payloads of run {run_id}, which the event {seq} erases, are still there, and this \
         server has no credential that may blank them: start one with `--erasure-ledger-file FILE`"
    )]
    NoCredential {
        /// The `DataErased`.
        seq: u64,
        /// Whose payloads.
        run_id: RunId,
        /// How many.
        left: usize,
    },
    /// What the ledger has is not where the eraser looks.
    #[error(
        "the erasing credential does not find event {seq} of tenant {tenant} as the ledger has it: \
         does it lead to the same database?"
    )]
    NotThere {
        /// Whose ledger.
        tenant: Tenant,
        /// The commit's first event.
        seq: u64,
    },
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A stored commit of which payloads are to be blanked. It was checked against its hashes when it
/// was read, so that the hash that stays is that of the payload that goes.
#[derive(Debug)]
pub struct Blanking<'a> {
    commit: &'a Commit,
    /// Places of the events within the commit; at least one, all of them with a payload.
    events: Vec<usize>,
}

impl<'a> Blanking<'a> {
    /// Blank what is stored of the payloads with these seqs; `None` where there is nothing, and in
    /// every stream but a run's.
    pub fn of(commit: &'a Commit, seqs: &HashSet<u64>) -> Option<Self> {
        if !matches!(commit.stream, StreamId::Run(_)) {
            return None;
        }
        let events: Vec<usize> = (0..commit.events.len())
            .filter(|i| seqs.contains(&(commit.seq + *i as u64)))
            .filter(|i| matches!(commit.events[*i].payload, StoredPayload::Present { .. }))
            .collect();
        (!events.is_empty()).then_some(Self { commit, events })
    }

    /// The commit as it is stored.
    pub fn before(&self) -> &Commit {
        self.commit
    }

    /// The places of the events whose payload goes.
    pub fn events(&self) -> &[usize] {
        &self.events
    }

    /// The commit as it will be: the same hashes.
    pub fn after(&self) -> Commit {
        let mut commit = self.commit.clone();
        for i in &self.events {
            let payload = &mut commit.events[*i].payload;
            *payload = StoredPayload::Erased(payload.hash());
        }
        commit
    }
}

/// Carry out a recorded erasure, whatever of it is left to do. Answers how many payloads were
/// blanked by this call; [scrubbing](Eraser::scrub) is still to be done.
///
/// # Errors
/// [`EraseError`]; what was blanked stays so, and the rest can be tried again.
pub async fn carry_out(
    ledger: &dyn Ledger,
    eraser: &dyn Eraser,
    tenant: &Tenant,
    erased: &DataErased,
) -> Result<usize, EraseError> {
    let seqs: HashSet<u64> = erased.seqs.iter().copied().collect();
    let stream = [StreamId::Run(erased.run_id.clone())];
    let mut blanked = 0;
    for commit in ledger.read_streams(tenant, &stream).await? {
        if let Some(blanking) = Blanking::of(&commit, &seqs) {
            eraser.blank(&blanking).await?;
            blanked += blanking.events().len();
        }
    }
    Ok(blanked)
}

/// How many payloads that an erasure names are still there.
///
/// # Errors
/// [`LedgerError`].
pub async fn left(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    erased: &DataErased,
) -> Result<usize, LedgerError> {
    let seqs: HashSet<u64> = erased.seqs.iter().copied().collect();
    let stream = [StreamId::Run(erased.run_id.clone())];
    let commits = ledger.read_streams(tenant, &stream).await?;
    let of_each = commits.iter().filter_map(|commit| Blanking::of(commit, &seqs));
    Ok(of_each.map(|blanking| blanking.events().len()).sum())
}

/// Reads the erasures that a ledger has recorded, in order. They stand in the ledger's own stream:
/// the events of runs are not read.
pub struct Erasures<'l> {
    ledger: &'l dyn Ledger,
    stream: StreamId,
    tenant: &'l Tenant,
    from_version: u64,
}

impl<'l> Erasures<'l> {
    /// From this version of the ledger's own stream on; 1 is its beginning.
    pub fn of(ledger: &'l dyn Ledger, tenant: &'l Tenant, from_version: u64) -> Self {
        Self { ledger, stream: StreamId::Ledger(tenant.clone()), tenant, from_version }
    }

    /// From the commits of that stream on which begin after the event `seq`, or some before; found in
    /// a number of reads that grows with the logarithm of the stream's length.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn after(
        ledger: &'l dyn Ledger,
        tenant: &'l Tenant,
        seq: u64,
    ) -> Result<Self, LedgerError> {
        let mut found = Self::of(ledger, tenant, 1);
        let page = PAGE_COMMITS as u64;
        // What holds version `low` begins at `seq` or before; what holds `high` after it, or is not
        // there.
        let (mut low, mut step) = (1, page);
        while found.begins_by(low + step, seq).await? {
            (low, step) = (low + step, 2 * step);
        }
        let mut high = low + step;
        while high - low > page {
            let middle = low + (high - low) / 2;
            if found.begins_by(middle, seq).await? { low = middle } else { high = middle }
        }
        found.from_version = low;
        Ok(found)
    }

    /// Whether the commit that holds this version begins at `seq` or before; not if there is none.
    async fn begins_by(&self, version: u64, seq: u64) -> Result<bool, LedgerError> {
        let holding = self.ledger.read_stream(self.tenant, &self.stream, version, 1).await?;
        Ok(holding.first().is_some_and(|commit| commit.seq <= seq))
    }

    /// The next commits of the stream, those without an erasure included; none at its end.
    ///
    /// # Errors
    /// [`LedgerError`]; the place stays.
    pub async fn next(&mut self) -> Result<Vec<Arc<Recorded>>, LedgerError> {
        let from = self.from_version;
        let commits = self.ledger.read_stream(self.tenant, &self.stream, from, PAGE_COMMITS);
        let commits = commits.await?;
        if let Some(last) = commits.last() {
            self.from_version = last.stream_version + last.events.len() as u64;
        }
        let decoded = commits.into_iter().map(|commit| Recorded::decode(commit).map(Arc::new));
        Ok(decoded.collect::<Result<_, _>>()?)
    }

    /// The version of the stream after what was read.
    pub fn reached(&self) -> u64 {
        self.from_version
    }
}

/// The commits that hold an erasure of this run, whose events end with `last_seq`, in order.
///
/// # Errors
/// [`LedgerError`].
pub async fn of_run(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    run_id: &RunId,
    last_seq: u64,
) -> Result<Vec<Arc<Recorded>>, LedgerError> {
    // Only runs that have ended are erased.
    let (mut erasures, mut found) = (Erasures::after(ledger, tenant, last_seq).await?, vec![]);
    loop {
        let page = erasures.next().await?;
        if page.is_empty() {
            return Ok(found);
        }
        let of_run = |recorded: &Arc<Recorded>| {
            recorded.erasures().any(|(_, erased)| erased.run_id == *run_id)
        };
        found.extend(page.into_iter().filter(of_run));
    }
}
