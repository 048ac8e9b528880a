//! A set of seqs: one bit for each event, and only where there are any.

use std::collections::BTreeMap;

/// Seqs that share a block.
const BLOCK: u64 = 1 << 16;

/// A set of seqs.
#[derive(Debug, Default)]
pub struct Seqs {
    blocks: BTreeMap<u64, Box<[u64]>>,
    len: u64,
}

impl Seqs {
    /// Take `seq` in.
    pub fn insert(&mut self, seq: u64) {
        let empty = || vec![0; (BLOCK / 64) as usize].into_boxed_slice();
        let block = self.blocks.entry(seq / BLOCK).or_insert_with(empty);
        let (word, bit) = place(seq);
        if let Some(word) = block.get_mut(word) {
            self.len += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Take `seq` out; whether it was in.
    pub fn remove(&mut self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        let block = self.blocks.get_mut(&(seq / BLOCK));
        let Some(word) = block.and_then(|block| block.get_mut(word)) else { return false };
        let was_in = *word & bit != 0;
        self.len -= u64::from(was_in);
        *word &= !bit;
        was_in
    }

    /// Whether `seq` is in.
    pub fn contains(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        let block = self.blocks.get(&(seq / BLOCK));
        block.and_then(|block| block.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flat_map(|(block, words)| {
            let words = words.iter().enumerate().filter(|(_, word)| **word != 0);
            words.flat_map(move |(at, word)| {
                let first = block * BLOCK + at as u64 * 64;
                (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
            })
        })
    }
}

fn place(seq: u64) -> (usize, u64) {
    ((seq % BLOCK / 64) as usize, 1 << (seq % 64))
}
