//! What a ledger's storage has to do. MongoDB and SQLite implement it and pass one conformance
//! suite; correctness of the writer rests on nothing but what stands here.

use std::sync::Arc;

use async_trait::async_trait;
use stella_domain::{
    chain::{ChainError, Commit, Head},
    ids::{LedgerId, StreamId, Tenant},
    time::Timestamp,
};

use crate::recorded::UndecodableEvent;

/// Commits that one read returns at most.
pub const READ_LIMIT: usize = 4_096;

/// The append-only store of commits, the only source of truth.
///
/// Invariants: a commit lands whole or not at all; no two commits of a tenant begin at the same
/// seq; no two commits of a stream begin at the same stream version.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Make room for a first ledger where the storage holds none; nothing where it does. Storages
    /// that see to it when they are opened have nothing left to do.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    async fn make_room(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Do what can be done for `commit` before it is its turn to be written: whoever writes has others
    /// under way meanwhile. What only one who writes can tell is told then.
    fn prepare(&self, commit: Arc<Commit>) -> Prepared;

    /// Append `commits` in this order, several tenants mixed, and return when they are durable.
    ///
    /// # Errors
    /// [`AppendError`]: the first `landed` commits are durable. Of those after them none was written,
    /// unless the cause is [`AppendFailure::Unknown`]: then any number of them, in order and without
    /// a gap, may have been, or may yet be.
    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError>;

    /// [`append_prepared`](Self::append_prepared), of commits that were not prepared.
    ///
    /// # Errors
    /// Likewise.
    async fn append(&self, commits: &[Arc<Commit>]) -> Result<(), AppendError> {
        let prepared = commits.iter().map(|commit| self.prepare(Arc::clone(commit)));
        self.append_prepared(&Vec::from_iter(prepared)).await
    }

    /// Where the tenant's ledger ends; [`Head::EMPTY`] when it has no events.
    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError>;

    /// Whether no commit of the tenant begins at `next_seq`: nothing was acknowledged by anybody,
    /// before this call, beyond it. Linearizable.
    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError>;

    /// Commits from the one that holds `from_seq` on, by seq, at most `limit` (and at most
    /// [`READ_LIMIT`]). Only durable ones. Each is checked against its hashes. Large commits make a page
    /// shorter: only one without commits says that there are no more.
    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError>;

    /// Every commit of these streams, by seq. Each is checked against its hashes.
    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError>;

    /// Commits of one stream from the one that holds `from_version` on, in order, at most `limit`
    /// (and at most [`READ_LIMIT`]). Each is checked against its hashes. Large commits make a page shorter.
    ///
    /// # Errors
    /// [`LedgerError`]. Storages that can, read no more than is asked for.
    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let commits = self.read_streams(tenant, std::slice::from_ref(stream)).await?;
        let is_before =
            |commit: &Commit| commit.stream_version + commit.events.len() as u64 <= from_version;
        Ok(commits.into_iter().skip_while(is_before).take(limit.min(READ_LIMIT)).collect())
    }

    /// `seq` of the first event recorded at or after `time`; `None` when there is none yet.
    /// Costs a number of point reads that grows with the logarithm of the ledger's length.
    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError>;

    /// Tenants that have a ledger here, by name, at most `limit`.
    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError>;

    /// The storage server's clock; `None` where storage runs on this machine's own clock.
    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError>;

    /// What is wrong with the storage's set-up: missing indexes, permissions that are too wide.
    async fn findings(&self) -> Result<Vec<Finding>, LedgerError>;

    /// Nothing more is asked of it by this process. A storage that is a file is whole in that file
    /// then: whoever moves it forgets nothing that lies beside it.
    async fn close(&self) {}
}

/// A commit that waits to be written.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What is to be written.
    pub commit: Arc<Commit>,
    /// Its stored form, as far as the storage that prepared it has made it: nobody else reads it.
    pub(crate) stored: Option<Arc<[u8]>>,
}

impl From<Arc<Commit>> for Prepared {
    fn from(commit: Arc<Commit>) -> Self {
        Self { commit, stored: None }
    }
}

/// Something about the storage that weakens the ledger's guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable code, such as `INDEX_MISSING`.
    pub code: &'static str,
    /// Whether writing must be refused while it holds.
    pub blocks_writes: bool,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why reading failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The storage does not answer; later it may.
    #[error("the ledger's storage does not answer: {0}")]
    Unavailable(String),
    /// A commit does not hold together.
    #[error("the ledger of tenant {tenant} is damaged: {source}")]
    Damaged {
        /// Whose ledger.
        tenant: Tenant,
        /// What does not hold.
        source: ChainError,
    },
    /// A stored document has not the shape of a commit.
    #[error("the stored commit {id} cannot be read: {reason}")]
    Malformed {
        /// Its key.
        id: String,
        /// What does not fit.
        reason: String,
    },
    /// The tenant's ledger has another name than the one that is to be written.
    #[error(
        "the ledger of tenant {} is named {stored}, and this node is to write {configured}: start \
         it with `--origin {}`",
        stored.tenant, stored.origin
    )]
    OtherName {
        /// What its events say.
        stored: LedgerId,
        /// What this node was told.
        configured: LedgerId,
    },
    /// A stored event that this build cannot read.
    #[error(transparent)]
    Undecodable(#[from] UndecodableEvent),
}

/// How far an append came, and what stopped it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("append stopped after {landed} commits: {cause}")]
pub struct AppendError {
    /// Leading commits that are durable.
    pub landed: usize,
    /// What happened to the next one, and what follows from it for those after it.
    pub cause: AppendFailure,
}

/// What happened to the first commit that is not known to be durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendFailure {
    /// Another commit holds its seq or its stream version, which may be this very one, sent
    /// before. Re-read and compare.
    #[error("another commit stands at its place")]
    Conflict,
    /// It was not written, and cannot be at present.
    #[error("the ledger's storage does not take writes: {0}")]
    Unavailable(String),
    /// It may have been written, and those after it too. Re-read before anything else.
    #[error("the ledger's storage did not say whether it wrote: {0}")]
    Unknown(String),
}
