//! Payloads that are gone, and the events that say so.

use stella_domain::{
    chain::{Commit, StoredPayload},
    event::{Event, LedgerEvent},
    ids::StreamId,
    seqs::Seqs,
};

use super::Report;

/// What has been read so far.
#[derive(Default)]
pub(super) struct Erasures {
    /// Events whose payload is gone, and which no event named yet. One that names them stands behind
    /// them.
    unexplained: Seqs,
    /// Those that one named: naming them once more says nothing new.
    explained: Seqs,
}

impl Erasures {
    pub(super) fn take(&mut self, commit: &Commit, report: &mut Report) {
        for (seq, event) in (commit.seq..).zip(&commit.events) {
            if matches!(event.payload, StoredPayload::Erased(_)) {
                self.unexplained.insert(seq);
            }
            // Most are of runs, and are not decoded.
            if matches!(commit.stream, StreamId::Ledger(_))
                && let Ok(Event::Ledger(LedgerEvent::DataErased(erased, _))) =
                    Event::decode(&commit.stream, event)
            {
                erased.seqs.iter().for_each(|named| self.named(*named, seq, report));
            }
        }
    }

    fn named(&mut self, named: u64, by: u64, report: &mut Report) {
        if self.unexplained.remove(named) {
            self.explained.insert(named);
        } else if !self.explained.contains(named) {
            let message = format!(
                "its payload is still there, though event {by} says that it was erased: a server with \
                 the erasing credential finishes that when it starts, or is just about it"
            );
            report.add("ERASURE_UNFINISHED", Some(named), message);
        }
    }

    /// After the last commit.
    pub(super) fn end(&self, report: &mut Report) {
        for seq in self.unexplained.iter() {
            let message = "its payload is gone, and no DataErased says so: somebody removed it from \
                           the storage";
            report.add("ERASURE_UNLOGGED", Some(seq), message);
        }
    }
}
