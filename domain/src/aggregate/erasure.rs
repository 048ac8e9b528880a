//! What a ledger has to know to erase the payloads of a run.

use std::str::FromStr;

use super::{Aggregate as _, Run, RunStatus};
use crate::{
    chain::{Commit, StoredPayload},
    event::{DataErased, Event, LedgerEvent, Reason},
    ids::RunId,
    limits::{ERASED_SEQS, ERASURES_AT_ONCE, REASON_BYTES},
};

/// Why somebody erases, in their words. It stays for ever: no personal data belongs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureReason(String);

/// A text that is no reason for an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an erasure needs a reason of 1 to {REASON_BYTES} bytes, which stays in the ledger for \
     ever: name the request or the rule that asks for it, and no person"
)]
pub struct ErasureReasonError;

impl FromStr for ErasureReason {
    type Err = ErasureReasonError;
    fn from_str(text: &str) -> Result<Self, ErasureReasonError> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= REASON_BYTES;
        if fits { Ok(Self(text.to_owned())) } else { Err(ErasureReasonError) }
    }
}

/// A run as its whole stream tells, as far as erasing is concerned. Nothing is added to a run that
/// has ended, so that what was read of one stays true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunToErase {
    /// The run.
    pub run_id: RunId,
    /// Where it stands; `None` when there is no such run.
    pub status: Option<RunStatus>,
    /// The seqs of its events whose payload is stored, ascending. A payload that somebody removed
    /// is not among them: an erasure must not explain what it did not do.
    pub payloads: Vec<u64>,
    /// The last of these that an erasure names already: those of a large run are named commit by
    /// commit, in their order. What was named and blanked since is no payload any more.
    pub named: Option<u64>,
    /// Version of the ledger's own stream up to which erasures were looked through for that.
    pub as_of: u64,
}

impl RunToErase {
    /// Fold the run's commits, each with its events.
    pub fn read<'a>(
        run_id: RunId,
        history: impl IntoIterator<Item = (&'a Commit, &'a [Event])>,
    ) -> Self {
        let (mut run, mut payloads) = (Run::default(), vec![]);
        for (commit, events) in history {
            for ((seq, stored), event) in (commit.seq..).zip(&commit.events).zip(events) {
                if let Event::Run(event) = event {
                    run.evolve(event);
                }
                if matches!(stored.payload, StoredPayload::Present { .. }) {
                    payloads.push(seq);
                }
            }
        }
        Self { run_id, status: run.status(), payloads, named: None, as_of: 0 }
    }

    /// Take into account an erasure that is recorded, of whatever run.
    pub fn is_named_by(&mut self, erased: &DataErased) {
        if erased.run_id == self.run_id {
            self.named = self.named.max(erased.seqs.last().copied());
        }
    }

    /// The events that erase the payloads that none names yet, as many as one commit takes.
    pub(super) fn erase(&self, reason: &ErasureReason) -> Vec<LedgerEvent> {
        let named = |named| self.payloads.partition_point(|seq| *seq <= named);
        let done = self.named.map_or(0, named);
        self.payloads[done..]
            .chunks(ERASED_SEQS)
            .take(ERASURES_AT_ONCE)
            .map(|seqs| {
                let data = DataErased { run_id: self.run_id.clone(), seqs: seqs.to_vec() };
                LedgerEvent::DataErased(data, Some(Reason { reason: reason.0.clone() }))
            })
            .collect()
    }
}
