//! What a batch of commits changed, ready to be written.

use std::{ops::RangeInclusive, sync::Arc};

use stella_domain::{chain::Head, ids::LedgerId};

use crate::{
    digest::ModelDigests,
    model::{Model, Value},
    rows::Row,
    tracked::Tracked,
};

/// The digests at the end of the first commit at or after a multiple of
/// [`DIGEST_INTERVAL`](crate::DIGEST_INTERVAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Events folded.
    pub(crate) next_seq: u64,
    pub(crate) digests: ModelDigests,
}

/// What erasures took away.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    /// Labels that are to be removed: the label's text, the run's key.
    pub(crate) labels: Vec<(String, u64)>,
    /// Places whose digests cannot be reached again.
    pub(crate) unrepeatable: Vec<RangeInclusive<u64>>,
    /// Whether any row, or label, lost something: the file's free pages may still hold it.
    pub(crate) anything: bool,
}

/// What a batch of commits changed.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Which ledger; `None` while there is no event.
    pub(crate) ledger: Option<Arc<LedgerId>>,
    pub(crate) head: Head,
    pub(crate) digests: ModelDigests,
    /// The values of rows, one after the other, by model.
    pub(crate) rows: [Vec<Value>; Model::ALL.len()],
    pub(crate) labels: Vec<(String, u64)>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) erased: Erased,
}

impl Batch {
    pub(crate) fn at(ledger: Option<Arc<LedgerId>>, head: Head, digests: ModelDigests) -> Self {
        let (labels, checkpoints, erased) = (vec![], vec![], Erased::default());
        Self { ledger, head, digests, rows: Default::default(), labels, checkpoints, erased }
    }

    pub(crate) fn push<R: Row>(&mut self, row: &mut Tracked<R>) {
        row.bind(&mut self.rows[R::MODEL as usize]);
    }
}

/// Labels as one JSON array of pairs; `None` when there are none.
pub(crate) fn labels_text(labels: &[(String, u64)]) -> Option<String> {
    (!labels.is_empty()).then(|| serde_json::json!(labels).to_string())
}
