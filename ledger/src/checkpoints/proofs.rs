//! Reading the Merkle tree of a checkpoint: proofs, without reading the ledger.
//!
//! What is stored are the roots of whole tiles, each a hash of the row above the tile. From them
//! and from at most 256 events come the hashes on the tree's right edge, which have to lead to the
//! checkpoint's root. From there every tile is checked against its place in the tile above, down
//! to the events themselves, which are the lowest row. A stored hash that does not fit is computed
//! again from what lies below it; it is never handed out.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use stella_domain::{
    checkpoint::{Checkpoint, CheckpointError, Note},
    hash::Hash32,
    ids::{LedgerId, Origin, Tenant},
    merkle::{
        self, Edge, Frontier, MerkleError, NodeSource, ROWS, RangeProof, Subtree, TILE_WIDTH, Tile,
        TileId, perfect_root,
    },
};

use super::{
    ProofError,
    cosigners::Quorum,
    events::each_hash,
    store::{NOTES_LIMIT, StoredNote},
};
use crate::uri::Storage;

/// Authenticated tiles kept in memory, 8 KiB each.
const CACHED_TILES: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Edges of trees kept in memory, at most 57 KiB each.
const CACHED_EDGES: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Tiles that are stored at once while a tree is built again from all events.
const TILES_AT_ONCE: usize = 4_096;
/// Checkpoints without the cosignatures that are asked for which are passed over in search of one
/// that has them: those of a hundred days in which one is signed every ten seconds.
pub const LOOKED_AT: usize = 1_000_000;
/// Hashes of a tile, as seq counts.
const WIDTH: u64 = TILE_WIDTH as u64;

/// A stored checkpoint: the note, and what it states. Its signatures are for whoever verifies it;
/// that the ledger leads to its root is checked here whenever a proof is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// What it states.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}

/// Makes proofs about the ledgers of one storage; shared by all who need them.
pub struct Proofs {
    storage: Storage,
    origin: Origin,
    tiles: Cache<TileId, Arc<[Hash32]>>,
    edges: Cache<u64, Arc<Edge>>,
}

/// What was authenticated of each tenant's tree, with the root that it leads to: a hit counts only
/// where the same root is asked about.
type Cache<K, V> = Mutex<LruCache<(Tenant, K), (Hash32, V)>>;

/// Roots of perfect subtrees, all authenticated.
#[derive(Default)]
struct Nodes(HashMap<Subtree, Hash32>);

impl NodeSource for Nodes {
    fn root_of(&self, subtree: Subtree) -> Option<Hash32> {
        self.0.get(&subtree).copied()
    }
}

impl Proofs {
    /// Proofs about the ledgers in `storage`, which are named `<origin>/<tenant>`.
    pub fn new(storage: Storage, origin: Origin) -> Arc<Self> {
        let (tiles, edges) = (LruCache::new(CACHED_TILES), LruCache::new(CACHED_EDGES));
        Arc::new(Self { storage, origin, tiles: Mutex::new(tiles), edges: Mutex::new(edges) })
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`ProofError::Ledger`], [`ProofError::Note`].
    pub async fn newest(&self, tenant: &Tenant) -> Result<Option<Noted>, ProofError> {
        self.noted(tenant, self.storage.checkpoints.newest_note(tenant).await?)
    }

    /// The checkpoint of exactly this size.
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn of_size(&self, tenant: &Tenant, size: u64) -> Result<Option<Noted>, ProofError> {
        self.noted(tenant, self.storage.checkpoints.note_of(tenant, size).await?)
    }

    /// The oldest checkpoint whose tree has at least `size` events, and which is cosigned as asked. The
    /// same at every time once there is one, which is why exports and receipts build on it. Of those
    /// that are not cosigned so it looks at [`LOOKED_AT`].
    ///
    /// # Errors
    /// As [`newest`](Self::newest).
    pub async fn oldest_checkpoint_covering(
        &self,
        tenant: &Tenant,
        size: u64,
        quorum: &Quorum,
    ) -> Result<Option<Noted>, ProofError> {
        let store = &self.storage.checkpoints;
        if quorum.needed == 0 {
            return self.noted(tenant, store.note_from(tenant, size).await?);
        }
        let mut from = size;
        for _ in 0..LOOKED_AT / NOTES_LIMIT {
            let page = store.notes_from(tenant, from, NOTES_LIMIT).await?;
            let Some(last) = page.last() else { return Ok(None) };
            from = last.size.saturating_add(1);
            if let Some(found) = page.into_iter().find(|stored| quorum.holds_for(&stored.note)) {
                return self.noted(tenant, Some(found));
            }
            tokio::task::consume_budget().await;
        }
        Ok(None)
    }

    fn noted(
        &self,
        tenant: &Tenant,
        stored: Option<StoredNote>,
    ) -> Result<Option<Noted>, ProofError> {
        let Some(StoredNote { size, note }) = stored else { return Ok(None) };
        let wrong = |reason| ProofError::Note { size, reason };
        let checkpoint = Note::parse(&note).map_err(wrong)?.checkpoint().clone();
        let expected = LedgerId { origin: self.origin.clone(), tenant: tenant.clone() };
        if checkpoint.ledger != expected {
            let (expected, found) = (expected.to_string(), checkpoint.ledger);
            return Err(wrong(CheckpointError::OtherLedger { expected, found }));
        }
        if checkpoint.size != size {
            let rule = "it is stored under the size that it states";
            return Err(wrong(CheckpointError::Malformed { line: 2, rule }));
        }
        Ok(Some(Noted { checkpoint, note }))
    }

    /// The proof that the event with this seq and hash is in the checkpoint's tree.
    ///
    /// # Errors
    /// [`ProofError::Merkle`] when the tree does not reach so far; [`ProofError::Contradiction`].
    pub async fn inclusion(
        &self,
        of: &Checkpoint,
        seq: u64,
        event_hash: &Hash32,
    ) -> Result<Vec<Hash32>, ProofError> {
        let path = merkle::inclusion_path(seq, of.size);
        let nodes = self.nodes(of, path).await?;
        let proof = merkle::inclusion_proof(&nodes, seq, of.size)?;
        merkle::verify_inclusion(event_hash, seq, of.size, &of.root, &proof)
            .map_err(|_| contradiction(of))?;
        Ok(proof)
    }

    /// The root of the tree over the first `old` events, and the proof that the checkpoint's tree
    /// extends it.
    ///
    /// # Errors
    /// [`ProofError::Merkle`] when `old` is larger than the tree; [`ProofError::Contradiction`].
    pub async fn consistency(
        &self,
        of: &Checkpoint,
        old: u64,
    ) -> Result<(Hash32, Vec<Hash32>), ProofError> {
        let mut ranges = merkle::consistency_path(old, of.size);
        ranges.push(0..old.min(of.size));
        let nodes = self.nodes(of, ranges).await?;
        let proof = merkle::consistency_proof(&nodes, old, of.size)?;
        let old_root = Frontier::load(&nodes, old)?.root();
        merkle::verify_consistency((old, &old_root), (of.size, &of.root), &proof)
            .map_err(|_| contradiction(of))?;
        Ok((old_root, proof))
    }

    /// The proof that whoever has the events of `range` has these leaves of the checkpoint's tree.
    ///
    /// # Errors
    /// [`ProofError::Merkle`] when it is no range of the tree; [`ProofError::Contradiction`].
    pub async fn range_proof(
        &self,
        of: &Checkpoint,
        range: Range<u64>,
    ) -> Result<RangeProof, ProofError> {
        let sides = vec![0..range.start.min(of.size), range.end..of.size];
        let nodes = self.nodes(of, sides).await?;
        Ok(merkle::range_proof(&nodes, range, of.size)?)
    }

    /// The right edge of the checkpoint's tree, authenticated by its root. What it is made of
    /// includes the last event that is stored, whose hash stands for all before it.
    pub(super) async fn edge(&self, of: &Checkpoint) -> Result<Arc<Edge>, ProofError> {
        let key = (of.ledger.tenant.clone(), of.size);
        if let Some((root, edge)) = locked(&self.edges).get(&key)
            && *root == of.root
        {
            return Ok(Arc::clone(edge));
        }
        let edge = Arc::new(self.load_edge(of).await?);
        locked(&self.edges).put(key, (of.root, Arc::clone(&edge)));
        Ok(edge)
    }

    async fn load_edge(&self, of: &Checkpoint) -> Result<Edge, ProofError> {
        let tenant = &of.ledger.tenant;
        let base = of.size.saturating_sub(1) / WIDTH * WIDTH;
        let leaves = self.event_hashes(tenant, base..of.size).await?;
        if leaves.len() as u64 != of.size - base {
            return Err(contradiction(of));
        }
        let leading_to_root = |rows: Vec<Vec<Hash32>>| {
            let mut edge = Edge::from_rows(rows).filter(|edge| edge.size() == base)?;
            let mut whole = vec![];
            leaves.iter().for_each(|hash| edge.append(hash, &mut whole));
            (edge.root() == of.root).then_some(edge)
        };
        let mut rows = vec![vec![]];
        for row in 1..ROWS {
            rows.push(self.stored(tenant, row, Edge::span(base, row)).await?);
        }
        if let Some(edge) = leading_to_root(rows.clone()) {
            return Ok(edge);
        }
        tracing::warn!(%tenant, size = of.size, "stored tiles do not lead to the signed root: \
            they are computed again");
        let lacking = |row: &u32| {
            let span = Edge::span(base, *row);
            rows[*row as usize].len() as u64 != span.end - span.start
        };
        // One hash damaged is the usual case: then one row from what lies below it will do.
        if (1..ROWS).filter(lacking).count() <= 1 {
            for row in (1..ROWS).filter(|row| !Edge::span(base, *row).is_empty()) {
                let mut rows = rows.clone();
                rows[row as usize] = self.computed(tenant, row, Edge::span(base, row)).await?;
                if let Some(edge) = leading_to_root(rows) {
                    return Ok(edge);
                }
            }
        }
        let edge = self.rebuilt(tenant, of.size).await?;
        if edge.root() == of.root { Ok(edge) } else { Err(contradiction(of)) }
    }

    /// The tree over the first `size` events, from the events alone; tiles that are not stored are
    /// stored on the way.
    async fn rebuilt(&self, tenant: &Tenant, size: u64) -> Result<Edge, ProofError> {
        tracing::warn!(%tenant, size, "reading all events to build the Merkle tree again");
        let mut edge = Edge::default();
        while edge.size() < size {
            let mut whole = vec![];
            let end = size.min(edge.size() + TILES_AT_ONCE as u64 * WIDTH);
            let range = edge.size()..end;
            let reached = each_hash(&*self.storage.ledger, tenant, range, |hash| {
                edge.append(hash, &mut whole);
            })
            .await?;
            self.storage.checkpoints.insert_tiles(tenant, &whole).await?;
            if reached < end {
                break;
            }
        }
        Ok(edge)
    }

    /// The roots of the perfect subtrees that these ranges of leaves consist of.
    async fn nodes(&self, of: &Checkpoint, ranges: Vec<Range<u64>>) -> Result<Nodes, ProofError> {
        let edge = self.edge(of).await?;
        let mut nodes = Nodes::default();
        for subtree in ranges.into_iter().flat_map(|range| merkle::tiles(range.start, range.end)) {
            let (id, at) = TileId::of(subtree);
            let hashes = self.hashes(of, &edge, id).await?;
            let below = hashes.get(at).ok_or(MerkleError::MissingNode(subtree))?;
            nodes.0.insert(subtree, perfect_root(below));
        }
        Ok(nodes)
    }

    /// The hashes of a tile, or those that the edge has of one that is not whole.
    async fn hashes(
        &self,
        of: &Checkpoint,
        edge: &Edge,
        id: TileId,
    ) -> Result<Arc<[Hash32]>, ProofError> {
        // The way up to the edge: at most one tile a row.
        let (mut way, mut top) = (vec![], id);
        while is_whole(top, of.size) {
            way.push(top);
            top = top.parent().0;
        }
        let mut hashes: Arc<[Hash32]> = edge.row(top.level).into();
        while let Some(below) = way.pop() {
            let root = hashes.get(below.parent().1).copied().ok_or_else(|| contradiction(of))?;
            hashes = self.tile(of, below, root).await?;
        }
        Ok(hashes)
    }

    /// The 256 hashes of a whole tile whose root is known.
    async fn tile(
        &self,
        of: &Checkpoint,
        id: TileId,
        root: Hash32,
    ) -> Result<Arc<[Hash32]>, ProofError> {
        let tenant = &of.ledger.tenant;
        let key = (tenant.clone(), id);
        if let Some((cached, hashes)) = locked(&self.tiles).get(&key)
            && *cached == root
        {
            return Ok(Arc::clone(hashes));
        }
        let fits =
            |hashes: &Vec<Hash32>| hashes.len() == TILE_WIDTH && perfect_root(hashes) == root;
        let span = id.index * WIDTH..(id.index + 1) * WIDTH;
        let mut hashes = self.stored(tenant, id.level, span.clone()).await?;
        if !fits(&hashes) {
            if id.level > 0 {
                tracing::warn!(%tenant, ?id, "a stored tile is not the one that was signed: it \
                    is computed again");
                hashes = self.computed(tenant, id.level, span.clone()).await?;
            }
            if id.level > 1 && !fits(&hashes) {
                hashes = self.hashed_from_events(tenant, id.level, span).await?;
            }
            if !fits(&hashes) {
                return Err(contradiction(of));
            }
        }
        let hashes: Arc<[Hash32]> = hashes.into();
        locked(&self.tiles).put(key, (root, Arc::clone(&hashes)));
        Ok(hashes)
    }

    /// Hashes of a row as they are stored: not authenticated, and fewer where some are missing.
    async fn stored(
        &self,
        tenant: &Tenant,
        row: u32,
        span: Range<u64>,
    ) -> Result<Vec<Hash32>, ProofError> {
        match row.checked_sub(1) {
            _ if span.is_empty() => Ok(vec![]),
            Some(level) => Ok(self.storage.checkpoints.tile_roots(tenant, level, span).await?),
            None => Ok(self.event_hashes(tenant, span).await?.iter().map(merkle::leaf).collect()),
        }
    }

    /// Hashes of a row from what is stored of the row below it.
    async fn computed(
        &self,
        tenant: &Tenant,
        row: u32,
        span: Range<u64>,
    ) -> Result<Vec<Hash32>, ProofError> {
        if row <= 1 {
            return self.hashed_from_events(tenant, row, span).await;
        }
        let mut hashes = vec![];
        for index in span {
            let below = index * WIDTH..(index + 1) * WIDTH;
            let below = self.stored(tenant, row - 1, below).await?;
            if below.len() < TILE_WIDTH {
                break;
            }
            hashes.push(perfect_root(&below));
        }
        Ok(hashes)
    }

    /// Hashes of a row, which is not the lowest, from the events alone.
    async fn hashed_from_events(
        &self,
        tenant: &Tenant,
        row: u32,
        span: Range<u64>,
    ) -> Result<Vec<Hash32>, ProofError> {
        let level = row.saturating_sub(1);
        let first = TileId { level, index: span.start }.leaves().0;
        let end = TileId { level, index: span.end }.leaves().0;
        // Of its own, from `first` on: up to this row it is divided as the whole tree is.
        let (mut edge, mut whole, mut hashes) = (Edge::default(), vec![], vec![]);
        each_hash(&*self.storage.ledger, tenant, first..end, |hash| {
            edge.append(hash, &mut whole);
            let of_row = whole.drain(..).filter(|tile: &Tile| tile.id.level == level);
            hashes.extend(of_row.map(|tile| tile.root));
        })
        .await?;
        Ok(hashes)
    }

    async fn event_hashes(
        &self,
        tenant: &Tenant,
        range: Range<u64>,
    ) -> Result<Vec<Hash32>, ProofError> {
        let mut hashes = vec![];
        each_hash(&*self.storage.ledger, tenant, range, |hash| hashes.push(*hash)).await?;
        Ok(hashes)
    }
}

/// Whether a tree of `size` leaves has all of the tile.
fn is_whole(id: TileId, size: u64) -> bool {
    let (first, count) = id.leaves();
    first.saturating_add(count) <= size
}

fn contradiction(of: &Checkpoint) -> ProofError {
    ProofError::Contradiction { ledger: of.ledger.clone(), size: of.size }
}

/// A poisoned lock guards plain data that every holder leaves whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
