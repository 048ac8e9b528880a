//! Folds of streams that never end, so that reading one need not begin at its beginning.
//!
//! They are derived, and kept beside the ledger, not in it: one that is lost, or does not fit the
//! stream, costs a longer read. They hold payloads, as the fold does; nothing erases payloads of such
//! streams so far, and what will has to remove their snapshots too.

mod files;

pub use self::files::SnapshotFiles;

use async_trait::async_trait;
use stella_domain::{
    hash::Hash32,
    ids::{StreamId, Tenant},
};

use crate::{
    port::{Ledger, LedgerError, READ_LIMIT},
    recorded::Recorded,
};

/// Events of a stream from one snapshot to the next, at least.
pub const SNAPSHOT_EVERY: u64 = 256;

/// A stream's fold up to the end of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Stream version of the last event in it.
    pub version: u64,
    /// Hash of that event.
    pub hash: Hash32,
    /// The fold, as the build that made it writes it.
    pub state: String,
}

/// Where snapshots are kept.
#[async_trait]
pub trait Snapshots: Send + Sync + 'static {
    /// The newest of a stream, if it was made by code that folds as this does; `None` also where it
    /// cannot be read.
    async fn newest(&self, tenant: &Tenant, stream: &StreamId) -> Option<Snapshot>;

    /// Keep this one in the place of the stream's newest, in a while. Nobody waits for it.
    fn keep(&self, tenant: &Tenant, stream: &StreamId, snapshot: Snapshot);
}

/// Keeps none.
#[derive(Debug)]
pub struct NoSnapshots;

#[async_trait]
impl Snapshots for NoSnapshots {
    async fn newest(&self, _: &Tenant, _: &StreamId) -> Option<Snapshot> {
        None
    }

    fn keep(&self, _: &Tenant, _: &StreamId, _: Snapshot) {}
}

/// A stream that was read from a snapshot on.
#[derive(Debug)]
pub struct ReadOn<F> {
    /// The fold up to `version`.
    pub fold: F,
    /// Stream version of the last event in it.
    pub version: u64,
    /// All that follows.
    pub commits: Vec<Recorded>,
}

/// Whether streams of this kind never end.
pub fn never_ends(stream: &StreamId) -> bool {
    match stream {
        StreamId::Dag(_) | StreamId::Schedule(_) | StreamId::Control(_) | StreamId::Ledger(_) => {
            true
        }
        // A run ends; of plugins little happens.
        StreamId::Run(_) | StreamId::Plugin(_) => false,
    }
}

/// Read a stream from its newest snapshot on, which `fold` makes of its text. `None` where there is
/// no snapshot that fits: then the stream has to be read whole.
///
/// # Errors
/// [`LedgerError`].
pub async fn read_on<F>(
    ledger: &dyn Ledger,
    snapshots: &dyn Snapshots,
    tenant: &Tenant,
    stream: &StreamId,
    fold: impl Fn(&str) -> Option<F>,
) -> Result<Option<ReadOn<F>>, LedgerError> {
    if !never_ends(stream) {
        return Ok(None);
    }
    let Some(Snapshot { version, hash, state }) = snapshots.newest(tenant, stream).await else {
        return Ok(None);
    };
    let mut page = ledger.read_stream(tenant, stream, version, READ_LIMIT).await?.into_iter();
    // The ledger may be another one than it was made of, or a restored backup.
    let last = page.next().filter(|last| {
        let ends_at = last.stream_version + last.events.len() as u64 - 1;
        (ends_at, last.head().hash) == (version, hash)
    });
    let (Some(_), Some(fold)) = (last, fold(&state)) else { return Ok(None) };
    let (mut next, mut commits) = (version + 1, vec![]);
    loop {
        let before = next;
        for commit in page {
            if commit.stream_version != next {
                return Ok(None);
            }
            next += commit.events.len() as u64;
            commits.push(Recorded::decode(commit)?);
        }
        if next == before {
            return Ok(Some(ReadOn { fold, version, commits }));
        }
        page = ledger.read_stream(tenant, stream, next, READ_LIMIT).await?.into_iter();
    }
}
