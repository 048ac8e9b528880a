//! A commit together with its events, decoded once for everybody who follows the ledger.

use std::sync::Arc;

use stella_domain::{
    chain::Commit,
    event::{DataErased, DecodeError, Event, LedgerEvent},
    ids::StreamId,
};

/// A commit and its events as the domain knows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// As stored.
    pub commit: Arc<Commit>,
    /// One for each of the commit's events, in order.
    pub events: Vec<Event>,
}

impl Recorded {
    /// Decode the events of a stored commit.
    ///
    /// # Errors
    /// [`DecodeError`] for the first event that this build cannot read, with its place.
    pub fn decode(commit: impl Into<Arc<Commit>>) -> Result<Self, UndecodableEvent> {
        let commit = commit.into();
        let mut events = Vec::with_capacity(commit.events.len());
        for (stored, seq) in commit.events.iter().zip(commit.seq..) {
            let decoded = Event::decode(&commit.stream, stored);
            events.push(decoded.map_err(|reason| UndecodableEvent { seq, reason })?);
        }
        Ok(Self { commit, events })
    }

    /// The erasures that it records, each with the seq of its event.
    pub fn erasures(&self) -> impl Iterator<Item = (u64, &DataErased)> {
        // Most commits are of runs, and are not looked through.
        let is_ledgers = matches!(self.commit.stream, StreamId::Ledger(_));
        let events = if is_ledgers { &self.events[..] } else { &[] };
        (self.commit.seq..).zip(events).filter_map(|(seq, event)| match event {
            Event::Ledger(LedgerEvent::DataErased(erased, _)) => Some((seq, erased)),
            _ => None,
        })
    }

    /// The events with their seqs.
    pub fn with_seq(&self) -> impl Iterator<Item = (u64, &Event)> {
        (self.commit.seq..).zip(&self.events)
    }
}

/// A stored event that stops every reader: it is never skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at seq {seq}: {reason}")]
pub struct UndecodableEvent {
    /// Where it stands.
    pub seq: u64,
    /// Why it cannot be read.
    pub reason: DecodeError,
}
