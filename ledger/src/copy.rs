//! Copying a tenant's ledger from one storage to another, unchanged: how a user outgrows one
//! machine. Its checkpoints go with it, so that the proofs of what is past stay the same bytes.

use std::sync::Arc;

use stella_domain::{
    chain::{ChainError, Commit, Head},
    checkpoint::Note,
    ids::Tenant,
    merkle::{Edge, Tile},
};

use crate::{
    checkpoints::store::{CheckpointStore, StoredNote},
    port::{AppendError, AppendFailure, Ledger, LedgerError},
    uri::Storage,
};

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
    /// Checkpoints that the target did not hold before.
    pub checkpoints: u64,
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
    /// A checkpoint of the source is not that of its events.
    #[error(
        "the source's checkpoint of {size} events is not that of its events: look it over with \
         `stella orch ledger fsck`; what was copied so far stays"
    )]
    NotAsSigned {
        /// Its size.
        size: u64,
    },
    /// The source has a checkpoint of more events than it has.
    #[error(
        "the source has a checkpoint of {size} events, and ends after {events}: its end was cut off, or \
         an older backup was restored; what there is was copied"
    )]
    Shorter {
        /// Its size.
        size: u64,
        /// How many events there are.
        events: u64,
    },
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
    from: &Storage,
    to: &Storage,
    tenant: &Tenant,
    mut progress: impl FnMut(u64),
) -> Result<Copied, CopyError> {
    let (source, target) = (&*from.ledger, &*to.ledger);
    let target_end = target.head(tenant).await.map_err(CopyError::Target)?.next_seq;
    let mut head = Head::EMPTY;
    let mut signed = Signed::begin(from, to, tenant).await?;
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
        signed.follow(&page).await?;
        head = end;
        progress(head.next_seq);
    }
    if head.next_seq < target_end {
        return Err(CopyError::Differs { tenant: tenant.clone(), seq: head.next_seq });
    }
    // What came to the source meanwhile may be signed already.
    let end = source.head(tenant).await.map_err(CopyError::Source)?.next_seq;
    match signed.next {
        Some(note) if note.size > end => Err(CopyError::Shorter { size: note.size, events: end }),
        Some(_) | None => {
            Ok(Copied { already_there: target_end, head, checkpoints: signed.copied })
        }
    }
}

/// What is signed of a ledger, on its way.
struct Signed<'a> {
    source: &'a dyn CheckpointStore,
    target: &'a dyn CheckpointStore,
    tenant: &'a Tenant,
    tree: Edge,
    /// The next checkpoint that the target does not hold.
    next: Option<StoredNote>,
    copied: u64,
}

impl<'a> Signed<'a> {
    async fn begin(
        from: &'a Storage,
        to: &'a Storage,
        tenant: &'a Tenant,
    ) -> Result<Self, CopyError> {
        let (source, target) = (&*from.checkpoints, &*to.checkpoints);
        // They are copied in the order of their size.
        let held = target.newest_note(tenant).await.map_err(CopyError::Target)?;
        let after = held.map_or(0, |held| held.size.saturating_add(1));
        let next = source.note_from(tenant, after).await.map_err(CopyError::Source)?;
        Ok(Self { source, target, tenant, tree: Edge::default(), next, copied: 0 })
    }

    /// Once the target holds these commits.
    async fn follow(&mut self, page: &[Arc<Commit>]) -> Result<(), CopyError> {
        let mut whole: Vec<Tile> = vec![];
        for event in page.iter().flat_map(|commit| &commit.events) {
            self.tree.append(&event.hash, &mut whole);
            let size = self.tree.size();
            while let Some(note) = self.next.take_if(|note| note.size <= size) {
                self.copy(&note).await?;
            }
        }
        self.target.insert_tiles(self.tenant, &whole).await.map_err(CopyError::Target)
    }

    async fn copy(&mut self, StoredNote { size, note }: &StoredNote) -> Result<(), CopyError> {
        let size = *size;
        let is_of_tree = Note::parse(note).is_ok_and(|note| {
            let stated = note.checkpoint();
            (stated.size, stated.root) == (self.tree.size(), self.tree.root())
                && stated.size == size
        });
        if !is_of_tree {
            return Err(CopyError::NotAsSigned { size });
        }
        let inserted = self.target.insert_note(self.tenant, size, note).await;
        self.copied += u64::from(inserted.map_err(CopyError::Target)?);
        let next = self.source.note_from(self.tenant, size.saturating_add(1)).await;
        self.next = next.map_err(CopyError::Source)?;
        Ok(())
    }
}

/// How many of `page`'s leading commits the target holds.
async fn held(
    target: &dyn Ledger,
    tenant: &Tenant,
    page: &[Arc<Commit>],
) -> Result<usize, CopyError> {
    let mut held = 0;
    while let Some(next) = page.get(held) {
        let rest = &page[held..];
        let found = target.read(tenant, next.seq, rest.len()).await.map_err(CopyError::Target)?;
        if found.is_empty() {
            break;
        }
        for (ours, theirs) in rest.iter().zip(&found) {
            // Hashes stand for everything; only a payload may have been erased in one place already.
            let same = ours.head() == theirs.head() && ours.seq == theirs.seq;
            if !same {
                return Err(CopyError::Differs { tenant: tenant.clone(), seq: ours.seq });
            }
        }
        held += found.len();
    }
    Ok(held)
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
