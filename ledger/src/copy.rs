//! Copying a tenant's ledger from one storage to another, unchanged: how a user outgrows one
//! machine.

use std::sync::Arc;

use stella_domain::{
    chain::{ChainError, Commit, Head},
    ids::Tenant,
};

use crate::port::{AppendError, AppendFailure, Ledger, LedgerError};

/// Commits read and appended at a time.
const PAGE_COMMITS: usize = 1_000;
/// Times that an append whose outcome is open is looked up and sent again.
const ATTEMPTS: usize = 5;

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Events that the target held already.
    pub already_there: u64,
    /// Where the target now ends: its number of events, and the hash of the last one.
    pub head: Head,
}

/// Why a copy stopped. What was copied so far stays; the copy can be started again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be read.
    #[error("the source: {0}")]
    Source(#[source] LedgerError),
    /// The target cannot be read.
    #[error("the target: {0}")]
    Target(#[source] LedgerError),
    /// The source's commits do not follow each other.
    #[error("the source is damaged, nothing of this page was copied: {0}")]
    Broken(#[source] ChainError),
    /// The target holds another history of this tenant.
    #[error(
        "the target holds another ledger of tenant {tenant}: they part at event {seq}; \
         copy into an empty target"
    )]
    Differs {
        /// Whose ledger.
        tenant: Tenant,
        /// First event of the first commit that is not the same.
        seq: u64,
    },
    /// The target does not take the commits.
    #[error("the target does not take the commits: {0}; start again, what is there is kept")]
    Refused(#[source] AppendError),
}

/// Copy what `source` holds of `tenant` to `target`, and call `progress` with the number of events
/// done so far after each page.
///
/// What the target holds already is compared, commit by commit, and must be where the source
/// begins. Both chains are checked on the way: each commit against its own content when it is read,
/// and against the one before it here. Commits that come to the source meanwhile are copied too,
/// as far as they are seen.
///
/// # Errors
/// [`CopyError`]; what was copied so far stays, and a new call continues after it.
pub async fn copy(
    source: &dyn Ledger,
    target: &dyn Ledger,
    tenant: &Tenant,
    mut progress: impl FnMut(u64),
) -> Result<Copied, CopyError> {
    let target_end = target.head(tenant).await.map_err(CopyError::Target)?.next_seq;
    let mut head = Head::EMPTY;
    loop {
        let page =
            source.read(tenant, head.next_seq, PAGE_COMMITS).await.map_err(CopyError::Source)?;
        if page.is_empty() {
            break;
        }
        let mut end = head;
        for commit in &page {
            commit.verify_follows(&end).map_err(CopyError::Broken)?;
            end = commit.head();
        }
        let page: Vec<Arc<Commit>> = page.into_iter().map(Arc::new).collect();
        let held = if head.next_seq < target_end { held(target, tenant, &page).await? } else { 0 };
        append(target, tenant, &page[held..]).await?;
        head = end;
        progress(head.next_seq);
    }
    if head.next_seq < target_end {
        return Err(CopyError::Differs { tenant: tenant.clone(), seq: head.next_seq });
    }
    Ok(Copied { already_there: target_end, head })
}

/// How many of `page`'s leading commits the target holds.
async fn held(
    target: &dyn Ledger,
    tenant: &Tenant,
    page: &[Arc<Commit>],
) -> Result<usize, CopyError> {
    let Some(first) = page.first() else { return Ok(0) };
    let found = target.read(tenant, first.seq, page.len()).await.map_err(CopyError::Target)?;
    for (ours, theirs) in page.iter().zip(&found) {
        // Hashes stand for everything; only a payload may have been erased in one place already.
        let same = ours.head() == theirs.head() && ours.seq == theirs.seq;
        if !same {
            return Err(CopyError::Differs { tenant: tenant.clone(), seq: ours.seq });
        }
    }
    Ok(found.len())
}

async fn append(
    target: &dyn Ledger,
    tenant: &Tenant,
    mut commits: &[Arc<Commit>],
) -> Result<(), CopyError> {
    let mut attempt = 1;
    while let Err(error) = target.append(commits).await {
        commits = &commits[error.landed..];
        let open = matches!(error.cause, AppendFailure::Conflict | AppendFailure::Unknown(_));
        // What stands there may be ours: sent before, by this copy or by one that was interrupted.
        let held = if open { held(target, tenant, commits).await? } else { 0 };
        if !open || attempt == ATTEMPTS {
            return Err(CopyError::Refused(error));
        }
        commits = &commits[held..];
        attempt += 1;
    }
    Ok(())
}
