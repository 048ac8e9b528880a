//! What a batch of commits changed, as text ready to be written.

use std::sync::Arc;

use stella_domain::{chain::Head, ids::LedgerId};

use crate::{digest::ModelDigests, model::Model, rows::Row, tracked::Tracked};

/// Bytes of row text that one statement writes, give or take a row.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// The digests at the end of the first commit at or after a multiple of
/// [`DIGEST_INTERVAL`](crate::DIGEST_INTERVAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Events folded.
    pub(crate) next_seq: u64,
    pub(crate) digests: ModelDigests,
}

/// What a batch of commits changed.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Which ledger; `None` while there is no event.
    pub(crate) ledger: Option<Arc<LedgerId>>,
    pub(crate) head: Head,
    pub(crate) digests: ModelDigests,
    /// JSON arrays of rows, by model.
    rows: [Vec<String>; Model::ALL.len()],
    pub(crate) labels: Vec<(String, u64)>,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

impl Batch {
    pub(crate) fn at(ledger: Option<Arc<LedgerId>>, head: Head, digests: ModelDigests) -> Self {
        let (labels, checkpoints) = (vec![], vec![]);
        Self { ledger, head, digests, rows: Default::default(), labels, checkpoints }
    }

    pub(crate) fn push<R: Row>(&mut self, row: &mut Tracked<R>) {
        let Some(text) = row.take_text() else { return };
        let chunks = &mut self.rows[R::MODEL as usize];
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_BYTES => chunk.push(','),
            Some(_) | None => chunks.push("[".to_owned()),
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.push_str(&text);
        }
    }

    /// Every statement's argument, with its model.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = (Model, String)> {
        Model::ALL.into_iter().zip(self.rows).flat_map(|(model, chunks)| {
            chunks.into_iter().map(move |mut chunk| {
                chunk.push(']');
                (model, chunk)
            })
        })
    }

    /// The new labels as one JSON array of pairs; `None` when there are none.
    pub(crate) fn labels_text(&self) -> Option<String> {
        (!self.labels.is_empty()).then(|| serde_json::json!(self.labels).to_string())
    }
}
