//! A row in memory, and what its table and its model's digest know of it.

use stella_domain::hash::Hash32;

use crate::{
    digest::{ModelDigests, row_hash},
    error::ProjectionError,
    model::Value,
    rows::Row,
};

/// A row in memory.
#[derive(Debug)]
pub(crate) struct Tracked<R> {
    row: R,
    /// Hash of the row as the digest counts it; `None` while it does not.
    hash: Option<Hash32>,
    /// Whether the row differs from what the digest counts.
    changed: bool,
    /// The row as text, while it is to be written and has not changed since.
    text: Option<String>,
    /// Bytes of the row as text, when it was last settled or read.
    bytes: usize,
}

impl<R: Row> Tracked<R> {
    /// A row that was not there before.
    pub(crate) fn new(row: R) -> Self {
        Self { row, hash: None, changed: true, text: None, bytes: 0 }
    }

    /// A row as it stands in its table.
    pub(crate) fn stored(text: &str) -> Result<Self, ProjectionError> {
        let hash = Some(row_hash(R::MODEL, text));
        let row = R::from_text(text)?;
        Ok(Self { row, hash, changed: false, text: None, bytes: text.len() })
    }

    pub(crate) fn get(&self) -> &R {
        &self.row
    }

    /// What the row takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn change(&mut self) -> &mut R {
        self.changed = true;
        &mut self.row
    }

    /// Bring the digest up to date.
    pub(crate) fn settle(&mut self, digests: &mut ModelDigests) {
        if !self.changed {
            return;
        }
        let text = self.row.to_text();
        let hash = row_hash(R::MODEL, &text);
        let digest = digests.of_mut(R::MODEL);
        if let Some(old) = self.hash.replace(hash) {
            digest.subtract(&old);
        }
        digest.add(&hash);
        self.bytes = text.len();
        self.text = Some(text);
        self.changed = false;
    }

    /// Add the settled row's values for its table, if it has to be written.
    pub(crate) fn bind(&mut self, values: &mut Vec<Value>) {
        debug_assert!(!self.changed, "a row is settled before it is written");
        if let Some(text) = self.text.take() {
            self.row.bind(text, values);
        }
    }
}
