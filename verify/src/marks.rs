//! Where in a text those bytes stand that a string does not hold as they are: quotes, backslashes and
//! control characters. One pass with the vector unit finds them all; a scanner then goes from one to
//! the next, however short the strings.

use fearless_simd::{Level, Simd, SimdBase, SimdMask, dispatch, u8x64};

/// Bytes that a word of marks is for.
const WORD: usize = 64;

/// A bit for each byte of a text, lowest first.
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut words = Vec::with_capacity(text.len().div_ceil(WORD));
        let level = Level::new();
        dispatch!(level, simd => mark(simd, text, &mut words));
        Self(words)
    }

    /// The first marked place from `at` on; beyond the text where there is none.
    #[inline(always)]
    pub(crate) fn next(&self, at: usize) -> usize {
        let (mut word, bit) = (at / WORD, at % WORD);
        let mut marks = self.0.get(word).map_or(0, |marks| marks >> bit << bit);
        while marks == 0 {
            word += 1;
            match self.0.get(word) {
                Some(more) => marks = *more,
                None => return usize::MAX,
            }
        }
        word * WORD + marks.trailing_zeros() as usize
    }
}

#[inline(always)]
fn mark<S: Simd>(simd: S, text: &[u8], words: &mut Vec<u64>) {
    let all = |byte: u8| u8x64::splat(simd, byte);
    let (quote, backslash, space) = (all(b'"'), all(b'\\'), all(b' '));
    let mut push = |bytes: &[u8; WORD]| {
        let bytes = u8x64::from_slice(simd, bytes);
        let marked = bytes.simd_eq(quote) | bytes.simd_eq(backslash) | bytes.simd_lt(space);
        words.push(marked.to_bitmask());
    };
    let (whole, rest) = text.as_chunks();
    whole.iter().for_each(&mut push);
    if !rest.is_empty() {
        // What follows the text is as plain as a space.
        let mut last = [b' '; WORD];
        last[..rest.len()].copy_from_slice(rest);
        push(&last);
    }
}
