//! Many short inputs hashed side by side.
//!
//! BLAKE3 takes a chunk of up to 1,024 bytes block after block, each waiting for the one before: a
//! single input of that length leaves most of a core's vector unit idle. Inputs that depend on each
//! other through nothing can share it, up to sixteen at a time, as long as they have equally many
//! whole blocks. What is left of each, up to a block, follows in the same way (`last_block`). Source: the BLAKE3 paper, sections 2.1 to
//! 2.4 and 5.3, <https://github.com/BLAKE3-team/BLAKE3-specs>.
//!
//! The crate does the same within one long input, but has no stable interface to it for many short
//! ones. What is used here is hidden from its documentation and may change with any release, so
//! the manifest names one release exactly, and a test compares each length with the stable interface.

use blake3::{
    BLOCK_LEN, CHUNK_LEN, Hasher, IncrementCounter,
    hazmat::{ContextKey, HasherExt},
    platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32},
};

use self::last_block::LastBlock;
use super::Hash32;

mod last_block;

/// Flags of a compression (table 3 of the paper).
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const DERIVE_KEY_MATERIAL: u8 = 1 << 6;
/// Whole blocks that a chunk can have before its last block, which is never empty.
const BLOCKS: usize = CHUNK_LEN / BLOCK_LEN;

/// Fewer inputs than that are hashed one by one: most lanes would have nothing to do.
const WORTHWHILE: usize = 6;

/// The hash of each input, in order.
pub(super) fn hash_each(key: &ContextKey, inputs: &[&[u8]]) -> Vec<Hash32> {
    let alone = |input: &[u8]| {
        let mut hasher = Hasher::new_from_context_key(key);
        Hash32(*hasher.update(input).finalize().as_bytes())
    };
    if inputs.len() < WORTHWHILE {
        return inputs.iter().map(|input| alone(input)).collect();
    }
    let mut hashes = vec![Hash32::ZERO; inputs.len()];
    let mut classes: [Vec<usize>; BLOCKS] = Default::default();
    for (i, input) in inputs.iter().enumerate() {
        match classes.get_mut(input.len().saturating_sub(1) / BLOCK_LEN) {
            Some(class) => class.push(i),
            None => hashes[i] = alone(input),
        }
    }
    let platform = Platform::detect();
    let key = words_from_le_bytes_32(key);
    for (blocks, class) in classes.iter().enumerate().filter(|(_, class)| !class.is_empty()) {
        let values = chaining_values(platform, &key, blocks, class, inputs);
        let start = if blocks == 0 { CHUNK_START } else { 0 };
        let flags = DERIVE_KEY_MATERIAL | start | CHUNK_END | ROOT;
        let last = class.iter().map(|&i| &inputs[i][blocks * BLOCK_LEN..]);
        let ends = values.iter().zip(last).zip(class);
        let ends = ends.map(|((value, last), &i)| LastBlock { value, last, hash: i });
        last_block::compress_each(ends, flags, &mut hashes);
    }
    hashes
}

/// What the first `blocks` blocks of each input of the class lead to.
fn chaining_values(
    platform: Platform,
    key: &[u32; 8],
    blocks: usize,
    class: &[usize],
    inputs: &[&[u8]],
) -> Vec<[u8; 32]> {
    macro_rules! of_length {
        ($($blocks:literal)*) => {
            match blocks {
                $($blocks => {
                    let whole: Vec<&[u8; $blocks * BLOCK_LEN]> =
                        class.iter().filter_map(|&i| inputs[i].first_chunk()).collect();
                    let mut values = vec![[0; 32]; class.len()];
                    platform.hash_many(
                        &whole,
                        key,
                        0,
                        IncrementCounter::No,
                        DERIVE_KEY_MATERIAL,
                        CHUNK_START,
                        0,
                        values.as_flattened_mut(),
                    );
                    values
                })*
                // Nothing before the last block.
                _ => vec![le_bytes_from_words_32(key); class.len()],
            }
        };
    }
    of_length!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn each_hash_is_that_of_the_stable_interface() {
        let key = blake3::hazmat::hash_derive_key_context("a context of tests");
        let bytes: Vec<u8> = (0..3_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
        // Every length up to two chunks, and many of one class beside each other.
        let mut inputs: Vec<&[u8]> = (0..=2_100).map(|end| &bytes[..end]).collect();
        inputs.extend((0..40).map(|i| &bytes[i..i + 400]));
        inputs.extend((0..17).map(|i| &bytes[i..i + 64]));
        let stable = |input: &&[u8]| {
            let mut hasher = Hasher::new_from_context_key(&key);
            Hash32(*hasher.update(input).finalize().as_bytes())
        };
        let expected: Vec<Hash32> = inputs.iter().map(stable).collect();
        assert_eq!(hash_each(&key, &inputs), expected);
        for few in [1, WORTHWHILE - 1, WORTHWHILE] {
            assert_eq!(hash_each(&key, &inputs[300..300 + few]), expected[300..300 + few]);
        }
        assert_eq!(hash_each(&key, &[]), []);
    }
}
