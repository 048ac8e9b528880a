//! How a line follows the lines before it. Costs memory for one line, however long the ledger.

use stella_domain::{
    hash::Hash32,
    ids::{Actor, LedgerId, StreamId},
    limits::{COMMIT_BYTES, COMMIT_EVENTS},
    time::Timestamp,
};

use crate::{
    line::{HexHash, Line, ZERO_HEX, hash_of},
    reason::Reason,
};

/// The line before, as far as the next one depends on it.
///
/// What many neighbours share (names, times) is checked against its grammar only where it changes.
///
/// Not checked: that a stream's versions are dense where other streams' events stand between, which
/// would take memory for every stream. The writer's unique index holds that.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Whether there was a line.
    begun: bool,
    /// The times that every line has to lie in, as texts.
    window: Option<(String, String)>,
    ledger: String,
    /// `None` before the first line, unless something is expected of it.
    next_seq: Option<u64>,
    /// Digits of the hash of the event before.
    hash: Option<HexHash>,
    recorded_at: String,
    actor: String,
    stream: String,
    stream_version: u64,
    commit_seq: u64,
    commit_bytes: usize,
}

impl Chain {
    /// A chain whose lines lie in the window [`from`, `to`), whatever comes first.
    pub(crate) fn within(from: Timestamp, to: Timestamp) -> Self {
        Self { window: Some((from.to_string(), to.to_string())), ..Self::default() }
    }

    /// As [`within`](Self::within), and the first line continues this place of this ledger.
    pub(crate) fn expecting(mut self, ledger: &LedgerId, seq: u64, prev: &Hash32) -> Self {
        let mut digits = [b'0'; 64];
        // As long as the text of a hash is.
        digits.copy_from_slice(prev.to_string().as_bytes());
        (self.ledger, self.next_seq, self.hash) = (ledger.to_string(), Some(seq), Some(digits));
        self
    }

    /// The seq that the next line should have; `None` before the first.
    pub(crate) fn next_seq(&self) -> Option<u64> {
        self.next_seq
    }

    /// Accept `line`, which is in order by itself, as the next one.
    pub(crate) fn follow(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        if let Some(expected) = self.next_seq {
            self.check_next(expected, line)?;
        }
        if !self.begun {
            self.check_first(line)?;
        }
        if self.actor != line.actor {
            line.actor.parse::<Actor>()?;
            replace(&mut self.actor, line.actor);
        }
        let continues = self.begun && line.commit_seq == self.commit_seq;
        if continues {
            self.check_in_commit(line)?;
        } else {
            self.check_new_commit(line)?;
        }
        self.stream_version = line.stream_version;
        self.commit_seq = line.commit_seq;
        self.hash = Some(*line.hash);
        self.next_seq = Some(line.seq + 1);
        self.begun = true;
        Ok(())
    }

    fn check_first(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        let ledger: LedgerId = line.ledger.parse()?;
        hash_of("prev", line.prev)?;
        // Later lines are parsed where they differ from the line before; this one has none.
        line.actor.parse::<Actor>()?;
        line.recorded_at.parse::<Timestamp>()?;
        line.stream.parse::<StreamId>()?;
        if line.commit_seq != line.seq {
            return Err(Reason::CutCommit { commit_seq: line.commit_seq });
        }
        if line.seq == 0 {
            let opened = line.event_type == "LedgerOpened"
                && line.stream_version == 1
                && line.prev == ZERO_HEX
                && line.stream == StreamId::Ledger(ledger.tenant).to_string();
            if !opened {
                return Err(Reason::NotOpened);
            }
        }
        replace(&mut self.ledger, line.ledger);
        Ok(())
    }

    fn check_next(&self, expected: u64, line: &Line<'_>) -> Result<(), Reason> {
        if self.ledger != line.ledger {
            let (expected, found) = (self.ledger.clone(), line.ledger.to_owned());
            return Err(Reason::OtherLedger { expected, found });
        }
        if line.seq != expected {
            return Err(Reason::Seq { expected, found: line.seq });
        }
        if self.hash.as_ref() != Some(line.prev) {
            let before = self.hash.as_ref().unwrap_or(ZERO_HEX);
            let (expected, found) = (hash_of("hash", before)?, hash_of("prev", line.prev)?);
            return Err(Reason::Prev { expected, found });
        }
        Ok(())
    }

    fn check_in_commit(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        if line.stream != self.stream {
            return Err(Reason::OtherInCommit { member: "stream" });
        }
        if line.recorded_at != self.recorded_at {
            return Err(Reason::OtherInCommit { member: "recordedAt" });
        }
        self.check_stream_version(line)?;
        self.commit_bytes += line.content_bytes();
        let events = line.seq - line.commit_seq + 1;
        if events > COMMIT_EVENTS as u64 || self.commit_bytes > COMMIT_BYTES {
            return Err(Reason::CommitTooLarge);
        }
        Ok(())
    }

    fn check_new_commit(&mut self, line: &Line<'_>) -> Result<(), Reason> {
        if line.commit_seq != line.seq {
            return Err(Reason::CommitSeq { own: self.commit_seq, found: line.commit_seq });
        }
        if line.recorded_at != self.recorded_at {
            if !is_in_second_of(&self.recorded_at, line.recorded_at) {
                line.recorded_at.parse::<Timestamp>()?;
            }
            // Of one length and one form, so that the order of the texts is that of the times.
            if line.recorded_at < self.recorded_at.as_str() {
                let before = self.recorded_at.clone();
                return Err(Reason::BackInTime { before, found: line.recorded_at.to_owned() });
            }
            if let Some((from, to)) = &self.window
                && !(from.as_str()..to.as_str()).contains(&line.recorded_at)
            {
                return Err(Reason::OutsideWindow { found: line.recorded_at.to_owned() });
            }
            replace(&mut self.recorded_at, line.recorded_at);
        }
        if line.stream == self.stream {
            self.check_stream_version(line)?;
        } else {
            line.stream.parse::<StreamId>()?;
            replace(&mut self.stream, line.stream);
        }
        self.commit_bytes = line.content_bytes();
        Ok(())
    }

    /// `line` stands in the stream of the line before it.
    fn check_stream_version(&self, line: &Line<'_>) -> Result<(), Reason> {
        let (before, found) = (self.stream_version, line.stream_version);
        if found == before + 1 { Ok(()) } else { Err(Reason::StreamVersion { before, found }) }
    }

    /// The ledger's name; empty before the first line.
    pub(crate) fn ledger(&self) -> &str {
        &self.ledger
    }

    /// `recordedAt` of the last line.
    pub(crate) fn recorded_at(&self) -> Timestamp {
        // Checked when it was taken over.
        self.recorded_at.parse().unwrap_or_default()
    }

    /// Hash of the last line.
    pub(crate) fn head(&self) -> Hash32 {
        // It equalled a computed hash.
        self.hash.as_ref().and_then(|hash| hash_of("hash", hash).ok()).unwrap_or(Hash32::ZERO)
    }
}

/// Whether `time` is one because `before`, which is, differs in its microseconds only.
fn is_in_second_of(before: &str, time: &str) -> bool {
    const SECOND: usize = "YYYY-MM-DDTHH:MM:SS.".len();
    const MICROS: usize = SECOND + 6;
    let (before, time) = (before.as_bytes(), time.as_bytes());
    time.len() == MICROS + 1
        && before.get(..SECOND) == Some(&time[..SECOND])
        && time[SECOND..MICROS].iter().all(u8::is_ascii_digit)
        && time[MICROS] == b'Z'
}

fn replace(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}
