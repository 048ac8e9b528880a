//! From the lines of an export back to commits.

use std::{str::FromStr, sync::Arc};

use stella_domain::{
    chain::Commit,
    hash::Hash32,
    ids::{LedgerId, StreamId},
};
use stella_verify::{Line, hash_of};

use super::TelemetryError;
use crate::stored::stored_of;

/// Puts lines together that are of one commit.
#[derive(Debug)]
pub(super) struct Commits {
    ledger: Arc<LedgerId>,
    begun: Option<Commit>,
}

impl Commits {
    pub(super) fn new(ledger: Arc<LedgerId>) -> Self {
        Self { ledger, begun: None }
    }

    /// Take the next line, which was verified; the answer is the commit before it, if it begins another.
    pub(super) fn take(&mut self, line: &Line<'_>) -> Result<Option<Commit>, TelemetryError> {
        if line.ledger != self.ledger.to_string() {
            let (expected, found) = (self.ledger.to_string(), line.ledger.to_owned());
            return Err(TelemetryError::OtherLedger { expected, found });
        }
        if let Some(begun) = self.begun.as_mut().filter(|begun| begun.seq == line.commit_seq) {
            begun.events.push(stored_of(line));
            return Ok(None);
        }
        let commit = Commit {
            ledger: Arc::clone(&self.ledger),
            seq: line.seq,
            stream: parsed::<StreamId>(line, line.stream)?,
            stream_version: line.stream_version,
            recorded_at: parsed(line, line.recorded_at)?,
            actor: parsed(line, line.actor)?,
            prev: hash_of("prev", line.prev).unwrap_or(Hash32::ZERO),
            events: vec![stored_of(line)],
        };
        Ok(self.begun.replace(commit))
    }

    /// The last one.
    pub(super) fn end(&mut self) -> Option<Commit> {
        self.begun.take()
    }
}

fn parsed<T: FromStr<Err: ToString>>(line: &Line<'_>, text: &str) -> Result<T, TelemetryError> {
    let unreadable =
        |error: T::Err| TelemetryError::Unreadable { seq: line.seq, reason: error.to_string() };
    text.parse().map_err(unreadable)
}
