//! Making and checking proofs: inclusion and consistency (RFC 6962, sections 2.1.1 and 2.1.2) and
//! the range proof of `docs/ledger-format.md`, section 5.
//!
//! One function says which ranges of leaves a proof consists of; making and checking both follow
//! it, so they cannot disagree about its shape.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Frontier, MerkleError, NodeSource, fold_peaks, leaf, node, tile_roots, tiles};
use crate::hash::Hash32;

/// Proves that a run of leaves stands at its place in a tree: the roots of the tiles on either
/// side of it, from left to right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeProof {
    /// Roots of `tiles(0, first)`.
    pub left: Vec<Hash32>,
    /// Roots of `tiles(end, size)`.
    pub right: Vec<Hash32>,
}

/// The range proof for the leaves `range` in a tree of `size` leaves.
///
/// # Errors
/// [`MerkleError::OutOfRange`]; [`MerkleError::MissingNode`] when the source lacks a tile.
pub fn range_proof(
    source: &(impl NodeSource + ?Sized),
    range: Range<u64>,
    size: u64,
) -> Result<RangeProof, MerkleError> {
    check_range(&range, size)?;
    let left = tile_roots(source, 0..range.start)?;
    Ok(RangeProof { left, right: tile_roots(source, range.end..size)? })
}

/// Checks a [`RangeProof`] while the leaves stream by, in constant memory.
#[derive(Debug, Clone)]
pub struct RangeFold<'a> {
    frontier: Frontier,
    end: u64,
    size: u64,
    right: &'a [Hash32],
}

impl<'a> RangeFold<'a> {
    /// Begin with the leaves left of `range`.
    ///
    /// # Errors
    /// [`MerkleError::OutOfRange`]; [`MerkleError::WrongLength`] when either list of the proof has
    /// not one hash for each tile.
    pub fn new(range: Range<u64>, size: u64, proof: &'a RangeProof) -> Result<Self, MerkleError> {
        check_range(&range, size)?;
        check_length("left part of the range proof", tiles(0, range.start).count(), &proof.left)?;
        check_length(
            "right part of the range proof",
            tiles(range.end, size).count(),
            &proof.right,
        )?;
        let frontier = Frontier { size: range.start, peaks: proof.left.clone() };
        Ok(Self { frontier, end: range.end, size, right: &proof.right })
    }

    /// The next event of the range.
    ///
    /// # Errors
    /// [`MerkleError::WrongLeaves`] when the range has had all its leaves.
    pub fn push(&mut self, event_hash: &Hash32) -> Result<(), MerkleError> {
        if self.frontier.size() >= self.end {
            return Err(self.wrong_leaves(1));
        }
        self.frontier.append(event_hash);
        Ok(())
    }

    /// The next 2^`level` events of the range, by the root of the subtree over them.
    ///
    /// # Errors
    /// [`MerkleError::WrongLeaves`] when the range does not have so many more leaves;
    /// [`MerkleError::Misaligned`] when no subtree of that height can begin here.
    pub fn push_subtree(&mut self, level: u32, root: Hash32) -> Result<(), MerkleError> {
        let leaves = 1_u64.checked_shl(level).unwrap_or(u64::MAX);
        if self.end.saturating_sub(self.frontier.size()) < leaves {
            return Err(self.wrong_leaves(leaves));
        }
        self.frontier.append_subtree(level, root)
    }

    /// The root that leaves and proof lead to; the caller compares it with the one it trusts.
    ///
    /// # Errors
    /// [`MerkleError::WrongLeaves`] when the range has not had all its leaves.
    pub fn root(mut self) -> Result<Hash32, MerkleError> {
        if self.frontier.size() != self.end {
            return Err(self.wrong_leaves(0));
        }
        for (tile, root) in tiles(self.end, self.size).zip(self.right) {
            self.frontier.append_subtree(tile.level, *root)?;
        }
        Ok(self.frontier.root())
    }

    fn wrong_leaves(&self, beyond: u64) -> MerkleError {
        let found = self.frontier.size().saturating_add(beyond);
        MerkleError::WrongLeaves { end: self.end, found }
    }
}

/// The ranges of leaves whose roots are the inclusion proof of leaf `index`, from the leaf up.
///
/// At most 64; empty when `index` is not in the tree.
pub fn inclusion_path(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    if index >= size {
        return path;
    }
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = split(from, to);
        if index < middle {
            path.push(middle..to);
            to = middle;
        } else {
            path.push(from..middle);
            from = middle;
        }
    }
    path.reverse();
    path
}

/// The inclusion proof (audit path) of leaf `index` in a tree of `size` leaves.
///
/// # Errors
/// [`MerkleError::OutOfRange`]; [`MerkleError::MissingNode`] when the source lacks a node.
pub fn inclusion_proof(
    source: &(impl NodeSource + ?Sized),
    index: u64,
    size: u64,
) -> Result<Vec<Hash32>, MerkleError> {
    check_index(index, size)?;
    roots(source, inclusion_path(index, size))
}

/// Check that `event_hash` is leaf `index` of the tree with this size and root.
///
/// # Errors
/// [`MerkleError::OutOfRange`], [`MerkleError::WrongLength`] or [`MerkleError::RootMismatch`].
pub fn verify_inclusion(
    event_hash: &Hash32,
    index: u64,
    size: u64,
    root: &Hash32,
    proof: &[Hash32],
) -> Result<(), MerkleError> {
    check_index(index, size)?;
    let path = inclusion_path(index, size);
    check_length("inclusion proof", path.len(), proof)?;
    let computed = path.iter().zip(proof).fold(leaf(event_hash), |below, (range, sibling)| {
        if range.start > index { node(&below, sibling) } else { node(sibling, &below) }
    });
    check_root(root, computed)
}

/// The ranges of leaves whose roots are the consistency proof between two sizes of a tree.
///
/// At most 65; empty when there is nothing to prove (equal sizes, an empty old tree) and when the
/// old tree is the larger.
pub fn consistency_path(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    if old == 0 {
        return path;
    }
    let (mut from, mut to) = (0, new);
    while old < to {
        let middle = split(from, to);
        if old <= middle {
            path.push(middle..to);
            to = middle;
        } else {
            path.push(from..middle);
            from = middle;
        }
    }
    // An old tree that is itself a node on the left edge is known to the verifier: its root.
    if from > 0 {
        path.push(from..to);
    }
    path.reverse();
    path
}

/// The proof that the tree of `new` leaves extends the one of `old` leaves.
///
/// # Errors
/// [`MerkleError::OutOfRange`] when `old` > `new`; [`MerkleError::MissingNode`] when the source
/// lacks a node.
pub fn consistency_proof(
    source: &(impl NodeSource + ?Sized),
    old: u64,
    new: u64,
) -> Result<Vec<Hash32>, MerkleError> {
    check_range(&(0..old), new)?;
    roots(source, consistency_path(old, new))
}

/// Check that the tree `new` (size and root) extends the tree `old`.
///
/// # Errors
/// [`MerkleError::OutOfRange`] when the old tree is the larger, [`MerkleError::WrongLength`], or
/// [`MerkleError::RootMismatch`] naming the tree, old first, to whose root the proof does not lead.
pub fn verify_consistency(
    old: (u64, &Hash32),
    new: (u64, &Hash32),
    proof: &[Hash32],
) -> Result<(), MerkleError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    check_range(&(0..old_size), new_size)?;
    let path = consistency_path(old_size, new_size);
    check_length("consistency proof", path.len(), proof)?;
    if old_size == 0 {
        // Every tree extends the empty one, whose root is known.
        return check_root(old_root, fold_peaks(&[]));
    }
    let mut steps = path.iter().zip(proof);
    let seed = if old_size.is_power_of_two() || old_size == new_size {
        *old_root
    } else {
        // Never missing: the path ends in the old tree's last tile unless that is the whole tree.
        steps.next().map_or(*old_root, |(_, hash)| *hash)
    };
    let (old_computed, new_computed) = steps.fold((seed, seed), |(old, new), (range, hash)| {
        if range.start < old_size {
            (node(hash, &old), node(hash, &new))
        } else {
            (old, node(&new, hash))
        }
    });
    check_root(old_root, old_computed)?;
    check_root(new_root, new_computed)
}

/// Where RFC 6962 divides [from, to), of at least two leaves: after the largest power of two that
/// is smaller than their number.
fn split(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

/// The roots of ranges that lie in the tree as RFC 6962 divides it.
fn roots(
    source: &(impl NodeSource + ?Sized),
    ranges: Vec<Range<u64>>,
) -> Result<Vec<Hash32>, MerkleError> {
    ranges.into_iter().map(|range| Ok(fold_peaks(&tile_roots(source, range)?))).collect()
}

fn check_range(range: &Range<u64>, size: u64) -> Result<(), MerkleError> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(MerkleError::OutOfRange { first: range.start, end: range.end, size })
}

fn check_index(index: u64, size: u64) -> Result<(), MerkleError> {
    if index < size {
        return Ok(());
    }
    Err(MerkleError::OutOfRange { first: index, end: index.saturating_add(1), size })
}

fn check_length(part: &'static str, expected: usize, hashes: &[Hash32]) -> Result<(), MerkleError> {
    if hashes.len() == expected {
        return Ok(());
    }
    Err(MerkleError::WrongLength { part, expected, found: hashes.len() })
}

fn check_root(expected: &Hash32, computed: Hash32) -> Result<(), MerkleError> {
    if *expected == computed {
        return Ok(());
    }
    Err(MerkleError::RootMismatch { expected: *expected, computed })
}
