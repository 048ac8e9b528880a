//! Digests of whole read models, kept up to date row by row.
//!
//! A model's digest is the sum modulo 2^256 of the hashes of its rows, so that a row's change costs
//! one subtraction and one addition, in any order. It compares two folds of the same ledger by the
//! same program; it is no commitment against somebody who chooses rows to collide.

use std::{fmt, str::FromStr};

use stella_domain::hash::{Hash32, HexError};

use crate::model::Model;

/// The digest of one read model; zero when it has no rows.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// Least significant first.
    limbs: [u64; 4],
}

impl Digest {
    /// A row came in.
    pub(crate) fn add(&mut self, row: &Hash32) {
        let mut carry = false;
        for (limb, other) in self.limbs.iter_mut().zip(limbs_of(row)) {
            let (sum, over) = limb.overflowing_add(other);
            let (sum, over_by_carry) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_by_carry);
        }
    }

    /// A row went out.
    pub(crate) fn subtract(&mut self, row: &Hash32) {
        let mut borrow = false;
        for (limb, other) in self.limbs.iter_mut().zip(limbs_of(row)) {
            let (rest, under) = limb.overflowing_sub(other);
            let (rest, under_by_borrow) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, under || under_by_borrow);
        }
    }
}

fn limbs_of(hash: &Hash32) -> [u64; 4] {
    let bytes = hash.as_bytes();
    std::array::from_fn(|i| {
        let mut limb = [0; 8];
        limb.copy_from_slice(&bytes[8 * i..8 * i + 8]);
        u64::from_le_bytes(limb)
    })
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.limbs) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        Hash32::from(bytes).fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = HexError;
    fn from_str(text: &str) -> Result<Self, HexError> {
        Ok(Self { limbs: limbs_of(&text.parse()?) })
    }
}

/// The hash of one row, given as its canonical JSON text.
pub(crate) fn row_hash(model: Model, text: &str) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(model.table().as_bytes()).update(&[0]).update(text.as_bytes());
    Hash32::from(*hasher.finalize().as_bytes())
}

/// The digest of every read model, by [`Model`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ModelDigests([Digest; Model::ALL.len()]);

impl ModelDigests {
    pub(crate) fn of(&self, model: Model) -> Digest {
        self.0[model as usize]
    }

    pub(crate) fn of_mut(&mut self, model: Model) -> &mut Digest {
        &mut self.0[model as usize]
    }

    /// One text for all, in the order of [`Model::ALL`].
    pub(crate) fn to_text(self) -> String {
        self.0.map(|digest| digest.to_string()).join(" ")
    }

    /// What [`to_text`](Self::to_text) wrote; `None` for anything else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut digests = Self::default();
        for model in Model::ALL {
            *digests.of_mut(model) = parts.next()?.parse().ok()?;
        }
        parts.next().is_none().then_some(digests)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn order_does_not_matter_and_what_went_out_is_forgotten() {
        let rows: Vec<Hash32> =
            (0..100).map(|i| row_hash(Model::Runs, &format!("{{\"i\":{i}}}"))).collect();
        let (mut forward, mut backward) = (Digest::default(), Digest::default());
        rows.iter().for_each(|row| forward.add(row));
        rows.iter().rev().for_each(|row| backward.add(row));
        assert_eq!(forward, backward);
        assert_eq!(forward.to_string().parse::<Digest>().unwrap(), forward);
        rows[1..].iter().for_each(|row| forward.subtract(row));
        let mut first = Digest::default();
        first.add(&rows[0]);
        assert_eq!(forward, first);
        forward.subtract(&rows[0]);
        assert_eq!(forward, Digest::default());
    }

    #[test]
    fn carries_go_all_the_way() {
        let (ones, mut one) = (Hash32::from([0xff; 32]), [0; 32]);
        one[0] = 1;
        let mut digest = Digest::default();
        digest.add(&ones);
        digest.add(&Hash32::from(one));
        assert_eq!(digest, Digest::default());
        digest.subtract(&Hash32::from(one));
        assert_eq!(digest.to_string(), ones.to_string());
    }
}
