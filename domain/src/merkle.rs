//! The Merkle tree over a ledger: RFC 6962, section 2.1, with SHA-256. The input of leaf *i* is
//! the 32 bytes of event *i*'s `hash`. Source: `docs/ledger-format.md`, section 5.
//!
//! A node is named by the [`Subtree`] it is the root of. Every proof is made of roots of perfect
//! subtrees, so whoever can look those up ([`NodeSource`]) can make every proof; a source that
//! must be awaited first asks which ones a proof needs (`…_path`, [`tiles`]) and fetches those.

mod edge;
mod proofs;
#[cfg(test)]
mod tests;

use std::ops::Range;

use sha2::{Digest, Sha256};

pub use self::{
    edge::{Edge, ROWS, TILE_HEIGHT, TILE_WIDTH, Tile, TileId, perfect_root},
    proofs::{
        RangeFold, RangeProof, consistency_path, consistency_proof, inclusion_path,
        inclusion_proof, range_proof, verify_consistency, verify_inclusion,
    },
};
use crate::hash::Hash32;

/// Why a proof could not be made, or does not prove what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The request makes no sense for a tree of this size.
    #[error("[{first}, {end}) is not a range of a tree of {size} leaves")]
    OutOfRange {
        /// First leaf asked for.
        first: u64,
        /// One past the last leaf asked for.
        end: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The proof, or one of a range proof's two lists, has the wrong number of hashes.
    #[error(
        "the {part} has {found} hashes where this tree needs {expected}: it is for another one"
    )]
    WrongLength {
        /// Which list of hashes.
        part: &'static str,
        /// How many the sizes call for.
        expected: usize,
        /// How many there were.
        found: usize,
    },
    /// A range was not given exactly its leaves.
    #[error("the range ends at leaf {end}, but leaves were given up to {found}")]
    WrongLeaves {
        /// One past the last leaf of the range.
        end: u64,
        /// One past the last leaf that was given, as far as it was read.
        found: u64,
    },
    /// A subtree was appended where none of its size can begin, or would overfill the tree.
    #[error("a subtree of 2^{level} leaves cannot begin at leaf {size}")]
    Misaligned {
        /// Leaves in the tree so far.
        size: u64,
        /// Height of the subtree.
        level: u32,
    },
    /// The proof leads to another root.
    #[error("the proof leads to root {computed}, not to {expected}")]
    RootMismatch {
        /// The root that was to be proved.
        expected: Hash32,
        /// The root that the proof leads to.
        computed: Hash32,
    },
    /// The source lacks a node that the proof is made of.
    #[error("the root of the 2^{} leaves from {} is not known", .0.level, .0.leaves().start)]
    MissingNode(Subtree),
}

/// The perfect, aligned subtree over the leaves [index·2^level, (index+1)·2^level).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// Height above the leaves, at most 63; a leaf is at level 0.
    pub level: u32,
    /// How many subtrees of this height stand to its left.
    pub index: u64,
}

impl Subtree {
    /// The leaves below it, as a half-open range.
    pub fn leaves(self) -> Range<u64> {
        let first = self.index << self.level;
        first..first.saturating_add(1 << self.level)
    }
}

/// Knows the roots of perfect subtrees.
pub trait NodeSource {
    /// The root of `subtree`, or `None` if it is not known (or not yet whole).
    fn root_of(&self, subtree: Subtree) -> Option<Hash32>;
}

/// The event hashes of a whole ledger, in memory; each answer hashes the leaves it covers.
impl NodeSource for [Hash32] {
    fn root_of(&self, subtree: Subtree) -> Option<Hash32> {
        let leaves = subtree.leaves();
        let leaves = usize::try_from(leaves.start).ok()?..usize::try_from(leaves.end).ok()?;
        self.get(leaves).map(root)
    }
}

/// A leaf of the tree: SHA-256(0x00 ‖ event hash).
pub fn leaf(event_hash: &Hash32) -> Hash32 {
    let digest = Sha256::new().chain_update([0]).chain_update(event_hash.as_bytes());
    Hash32::from(<[u8; 32]>::from(digest.finalize()))
}

/// An inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Hash32, right: &Hash32) -> Hash32 {
    let digest = Sha256::new()
        .chain_update([1])
        .chain_update(left.as_bytes())
        .chain_update(right.as_bytes());
    Hash32::from(<[u8; 32]>::from(digest.finalize()))
}

/// The root of the tree over these event hashes.
pub fn root(event_hashes: &[Hash32]) -> Hash32 {
    let mut frontier = Frontier::default();
    for hash in event_hashes {
        frontier.append(hash);
    }
    frontier.root()
}

/// The maximal aligned perfect subtrees that tile the leaves [from, to), from left to right.
///
/// At most 126 of them; none if `from` >= `to`.
pub fn tiles(from: u64, to: u64) -> impl Iterator<Item = Subtree> {
    let mut at = from;
    std::iter::from_fn(move || {
        let level = at.trailing_zeros().min(to.checked_sub(at)?.checked_ilog2()?);
        let tile = Subtree { level, index: at >> level };
        at += 1 << level;
        Some(tile)
    })
}

/// All that is needed of a tree to append to it and to say its root: one hash for each bit set in
/// its size, so never more than 64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of `tiles(0, size)`, from left to right.
    peaks: Vec<Hash32>,
}

impl Frontier {
    /// The frontier of a tree whose first `size` leaves `source` knows.
    ///
    /// # Errors
    /// [`MerkleError::MissingNode`] when the source lacks one of `tiles(0, size)`.
    pub fn load(source: &(impl NodeSource + ?Sized), size: u64) -> Result<Self, MerkleError> {
        let peaks = tile_roots(source, 0..size)?;
        Ok(Self { size, peaks })
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Append the next event. O(1) hashes amortised, O(log size) at worst.
    ///
    /// # Panics
    /// After 2^64 − 1 leaves; a ledger ends at 2^53 − 1, the last seq that JSON can say.
    pub fn append(&mut self, event_hash: &Hash32) {
        self.carry(0, leaf(event_hash));
    }

    /// Append 2^`level` leaves at once, by the root of the subtree that they make up.
    ///
    /// # Errors
    /// [`MerkleError::Misaligned`] when no subtree of that height can begin at the present size.
    pub fn append_subtree(&mut self, level: u32, root: Hash32) -> Result<(), MerkleError> {
        let fits = level < 64
            && self.size.trailing_zeros() >= level
            && self.size.checked_add(1 << level).is_some();
        if !fits {
            return Err(MerkleError::Misaligned { size: self.size, level });
        }
        self.carry(level, root);
        Ok(())
    }

    /// The root of the tree as it stands; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Hash32 {
        fold_peaks(&self.peaks)
    }

    /// Binary addition: two subtrees of one height become one of the next.
    fn carry(&mut self, level: u32, root: Hash32) {
        let twins = (self.size >> level).trailing_ones() as usize;
        let lower = self.peaks.split_off(self.peaks.len() - twins);
        self.peaks.push(lower.iter().rfold(root, |right, left| node(left, &right)));
        self.size += 1 << level;
    }
}

/// Folds neighbouring leaves, from anywhere in a tree, into the roots of the tiles that they fill:
/// what several threads can do for pieces of one range.
#[derive(Debug, Clone, Default)]
pub struct TileFold {
    next: u64,
    /// Level and root of each tile of the leaves so far, from left to right.
    tiles: Vec<(u32, Hash32)>,
}

impl TileFold {
    /// Nothing yet; the first leaf will be the one at `first`.
    pub fn from(first: u64) -> Self {
        Self { next: first, tiles: vec![] }
    }

    /// The next event. O(1) hashes amortised.
    pub fn append(&mut self, event_hash: &Hash32) {
        let (mut level, mut root) = (0, leaf(event_hash));
        // The tile before it is its twin if it is as high and stands to the left of an odd index.
        while let Some((_, twin)) =
            self.tiles.pop_if(|(height, _)| *height == level && (self.next >> level) & 1 == 1)
        {
            (level, root) = (level + 1, node(&twin, &root));
        }
        self.tiles.push((level, root));
        self.next += 1;
    }

    /// Level and root of each tile, from left to right: as many as [`tiles`] has for these leaves.
    pub fn tiles(&self) -> &[(u32, Hash32)] {
        &self.tiles
    }
}

/// The root of a tree (or of a subtree that RFC 6962 splits off) from its tiles' roots.
fn fold_peaks(peaks: &[Hash32]) -> Hash32 {
    match peaks.split_last() {
        Some((last, rest)) => rest.iter().rfold(*last, |right, left| node(left, &right)),
        None => Hash32::from(<[u8; 32]>::from(Sha256::digest([]))),
    }
}

/// The roots of the tiles of `range`, from left to right.
fn tile_roots(
    source: &(impl NodeSource + ?Sized),
    range: Range<u64>,
) -> Result<Vec<Hash32>, MerkleError> {
    let root = |tile| source.root_of(tile).ok_or(MerkleError::MissingNode(tile));
    tiles(range.start, range.end).map(root).collect()
}
