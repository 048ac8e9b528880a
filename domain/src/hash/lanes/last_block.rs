//! The compression that ends an input, for many inputs side by side: one in each lane of a vector.
//!
//! What the crate offers for many inputs takes whole blocks only, and each last block has a length of
//! its own. Source: the BLAKE3 paper, section 2.2 and tables 1 to 3.

use blake3::platform::{le_bytes_from_words_32, words_from_le_bytes_32, words_from_le_bytes_64};
use fearless_simd::{Level, Simd, SimdBase, dispatch};

use super::{BLOCK_LEN, Hash32};

/// Lanes of the widest vector.
const LANES: usize = 16;
const IV: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];
/// Words of the message in each round: every round permutes those of the one before (table 2).
const SCHEDULE: [[usize; 16]; 7] = {
    const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut schedule = [[0; 16]; 7];
    let (mut round, mut word) = (0, 0);
    while round < 7 {
        schedule[round][word] =
            if round == 0 { word } else { schedule[round - 1][PERMUTATION[word]] };
        (round, word) = if word == 15 { (round + 1, 0) } else { (round, word + 1) };
    }
    schedule
};
/// State words that each half of a round mixes: columns, then diagonals.
const COLUMNS: [[usize; 4]; 4] = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]];
const DIAGONALS: [[usize; 4]; 4] = [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

/// What is left of an input.
pub(super) struct LastBlock<'a> {
    /// What the blocks before led to.
    pub(super) value: &'a [u8; 32],
    /// One block at most.
    pub(super) last: &'a [u8],
    /// Which of the hashes it gives.
    pub(super) hash: usize,
}

/// Put the hash that each of `ends` leads to into its place.
pub(super) fn compress_each<'a>(
    ends: impl Iterator<Item = LastBlock<'a>>,
    flags: u8,
    hashes: &mut [Hash32],
) {
    let level = Level::new();
    let mut lanes = Lanes::default();
    let mut places = Vec::with_capacity(LANES);
    for end in ends {
        lanes.put(places.len(), &end);
        places.push(end.hash);
        if places.len() == LANES {
            dispatch!(level, simd => lanes.compress(simd, flags));
            lanes.take(&mut places, hashes);
        }
    }
    if !places.is_empty() {
        dispatch!(level, simd => lanes.compress(simd, flags));
        lanes.take(&mut places, hashes);
    }
}

/// Inputs of the compression function, word by word, each word of all lanes together.
#[derive(Default)]
struct Lanes {
    value: [[u32; LANES]; 8],
    block: [[u32; LANES]; 16],
    length: [u32; LANES],
}

impl Lanes {
    fn put(&mut self, lane: usize, end: &LastBlock<'_>) {
        let mut block = [0; BLOCK_LEN];
        block[..end.last.len()].copy_from_slice(end.last);
        for (words, word) in self.block.iter_mut().zip(words_from_le_bytes_64(&block)) {
            words[lane] = word;
        }
        for (words, word) in self.value.iter_mut().zip(words_from_le_bytes_32(end.value)) {
            words[lane] = word;
        }
        // The cast is exact: a block has 64 bytes.
        self.length[lane] = end.last.len() as u32;
    }

    /// Hand the values of the first lanes, which are hashes now, to their places.
    fn take(&self, places: &mut Vec<usize>, hashes: &mut [Hash32]) {
        for (lane, place) in places.drain(..).enumerate() {
            let words = std::array::from_fn(|word| self.value[word][lane]);
            hashes[place] = Hash32(le_bytes_from_words_32(&words));
        }
    }

    /// The compression function, in every lane.
    #[inline(always)]
    fn compress<S: Simd>(&mut self, simd: S, flags: u8) {
        let width = S::u32s::LEN;
        for from in (0..LANES).step_by(width) {
            let lanes = from..from + width;
            let load = |words: &[u32; LANES]| S::u32s::from_slice(simd, &words[lanes.clone()]);
            let all = |word: u32| S::u32s::splat(simd, word);
            let block: [S::u32s; 16] = std::array::from_fn(|word| load(&self.block[word]));
            let mut state: [S::u32s; 16] = std::array::from_fn(|word| match word {
                0..8 => load(&self.value[word]),
                8..12 => all(IV[word - 8]),
                // The counter of the one chunk that there is.
                12 | 13 => all(0),
                14 => load(&self.length),
                _ => all(u32::from(flags)),
            });
            for words in &SCHEDULE {
                for (i, mixed) in COLUMNS.iter().chain(&DIAGONALS).enumerate() {
                    mix::<S>(&mut state, mixed, block[words[2 * i]], block[words[2 * i + 1]]);
                }
            }
            for word in 0..8 {
                let value = state[word] ^ state[word + 8];
                value.store_slice(&mut self.value[word][lanes.clone()]);
            }
        }
    }
}

/// The function G (section 2.2).
#[inline(always)]
fn mix<S: Simd>(state: &mut [S::u32s; 16], [a, b, c, d]: &[usize; 4], x: S::u32s, y: S::u32s) {
    state[*a] = state[*a] + state[*b] + x;
    state[*d] = rotated::<S, 16>(state[*d] ^ state[*a]);
    state[*c] += state[*d];
    state[*b] = rotated::<S, 12>(state[*b] ^ state[*c]);
    state[*a] = state[*a] + state[*b] + y;
    state[*d] = rotated::<S, 8>(state[*d] ^ state[*a]);
    state[*c] += state[*d];
    state[*b] = rotated::<S, 7>(state[*b] ^ state[*c]);
}

#[inline(always)]
fn rotated<S: Simd, const RIGHT: u32>(word: S::u32s) -> S::u32s {
    (word >> RIGHT) | (word << (32 - RIGHT))
}
