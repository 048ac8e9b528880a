//! The right edge of a growing tree, in tiles: what is kept to append, and what becomes ready to
//! be stored on the way.
//!
//! A *tile* is a perfect subtree of height 8: 256 hashes of one *row* (row *r* holds the roots of
//! the perfect subtrees over 256^r leaves, from left to right), and its root, which is a hash of
//! the row above. Row 0 are the leaves.

use super::{Frontier, Subtree, leaf, node};
use crate::hash::Hash32;

/// Height of a tile.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes of a tile.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;
/// Rows of the largest tree: seq ends at 2^53 − 1.
pub const ROWS: u32 = 7;

/// Which tile: the one over the hashes [256·index, 256·(index + 1)) of row `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// The row of its hashes; a tile of level 0 holds leaves.
    pub level: u32,
    /// How many tiles of this level stand to its left.
    pub index: u64,
}

impl TileId {
    /// The leaves below it: the first, and how many.
    pub fn leaves(self) -> (u64, u64) {
        let height = TILE_HEIGHT * (self.level + 1);
        (self.index << height, 1 << height)
    }

    /// The tile that holds its root, and where in it.
    pub fn parent(self) -> (Self, usize) {
        let (index, at) = (self.index >> TILE_HEIGHT, self.index % TILE_WIDTH as u64);
        (Self { level: self.level + 1, index }, at as usize)
    }

    /// The tile that `subtree` lies in, and which of its hashes `subtree` is made of.
    pub fn of(subtree: Subtree) -> (Self, std::ops::Range<usize>) {
        let level = subtree.level / TILE_HEIGHT;
        let height = subtree.level % TILE_HEIGHT;
        let first = subtree.index << height;
        let at = (first % TILE_WIDTH as u64) as usize;
        (Self { level, index: first >> TILE_HEIGHT }, at..at + (1 << height))
    }
}

/// A whole tile, by its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Which.
    pub id: TileId,
    /// The root of its 256 hashes.
    pub root: Hash32,
}

/// The hashes of each row that belong to no whole tile: fewer than 256 a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Row 0 first.
    rows: Vec<Vec<Hash32>>,
}

impl Edge {
    /// The edge that is made of these rows, row 0 first; `None` when a row has 256 hashes or more.
    pub fn from_rows(rows: Vec<Vec<Hash32>>) -> Option<Self> {
        let fits = rows.len() <= ROWS as usize && rows.iter().all(|row| row.len() < TILE_WIDTH);
        let size =
            (0_u32..).zip(&rows).map(|(row, hashes)| (hashes.len() as u64) << place(row)).sum();
        fits.then_some(Self { size, rows })
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of `row` that belong to no whole tile.
    pub fn row(&self, row: u32) -> &[Hash32] {
        self.rows.get(row as usize).map_or(&[], Vec::as_slice)
    }

    /// The indices within `row` of the hashes that the edge of a tree of `size` leaves holds.
    pub fn span(size: u64, row: u32) -> std::ops::Range<u64> {
        let end = size >> place(row);
        end - end % TILE_WIDTH as u64..end
    }

    /// Append the next event; tiles that are whole now are added to `whole`, the lowest first.
    pub fn append(&mut self, event_hash: &Hash32, whole: &mut Vec<Tile>) {
        self.size += 1;
        let (mut row, mut hash) = (0, leaf(event_hash));
        loop {
            if self.rows.len() == row as usize {
                self.rows.push(Vec::with_capacity(TILE_WIDTH));
            }
            let hashes = &mut self.rows[row as usize];
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH {
                return;
            }
            hash = perfect_root(hashes);
            hashes.clear();
            let index = (self.size >> place(row + 1)) - 1;
            whole.push(Tile { id: TileId { level: row, index }, root: hash });
            row += 1;
        }
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash32 {
        let mut frontier = Frontier::default();
        for (row, hashes) in self.rows.iter().enumerate().rev() {
            for hash in hashes {
                // Aligned: every row above this one is in already. There are at most 7 rows.
                frontier.carry(place(row as u32), *hash);
            }
        }
        frontier.root()
    }
}

/// Height of the hashes of `row` above the leaves.
fn place(row: u32) -> u32 {
    row * TILE_HEIGHT
}

/// The root of a perfect subtree from the hashes of one of its levels: a power of two of them.
pub fn perfect_root(hashes: &[Hash32]) -> Hash32 {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| node(&pair[0], &pair[pair.len() - 1])).collect();
    }
    level.first().copied().unwrap_or(Hash32::ZERO)
}
