//! The header of an event, in its canonical form.

use std::fmt::Write as _;

use super::{Commit, StoredPayload};
use crate::hash::{self, Hash32};

/// Room for nearly every header.
pub(super) const HEADER_BYTES: usize = 640;

/// What a header commits to of its event's content.
pub(super) struct ContentHash {
    pub(super) data: Hash32,
    pub(super) payload: Hash32,
}

/// Those of all events of some commits, in order, computed side by side.
pub(super) struct ContentHashes {
    data: std::vec::IntoIter<Hash32>,
    payloads: std::vec::IntoIter<Hash32>,
}

impl ContentHashes {
    pub(super) fn of(commits: &[Commit]) -> Self {
        let events = || commits.iter().flat_map(|commit| &commit.events);
        let data = hash::data_hashes(events().map(|event| event.data.as_str()));
        let present = events().filter_map(|event| match &event.payload {
            StoredPayload::Present { salt, json } => Some((salt, json.as_str())),
            StoredPayload::None | StoredPayload::Erased(_) => None,
        });
        let mut present = hash::payload_hashes(present).into_iter();
        let payloads = events().map(|event| match &event.payload {
            StoredPayload::None => Hash32::ZERO,
            // There is one for each.
            StoredPayload::Present { .. } => present.next().unwrap_or(Hash32::ZERO),
            StoredPayload::Erased(hash) => *hash,
        });
        let payloads = payloads.collect::<Vec<_>>().into_iter();
        Self { data: data.into_iter(), payloads }
    }
}

impl Iterator for ContentHashes {
    type Item = ContentHash;

    fn next(&mut self) -> Option<ContentHash> {
        Some(ContentHash { data: self.data.next()?, payload: self.payloads.next()? })
    }
}

/// The runs of header text that all events of a commit have in common, written once.
pub(super) struct SharedHeader {
    text: String,
    /// Where `{"actor":…,"commitSeq":…,"dataHash":"` ends.
    opening: usize,
    /// Where `","ledger":…,"payloadHash":"` after it ends.
    ledger: usize,
    /// Where `","recordedAt":…,"schema":` after it ends; the rest is `,"stream":…,"streamVersion":`.
    recorded_at: usize,
}

impl SharedHeader {
    pub(super) fn of(commit: &Commit) -> Self {
        let mut text = String::with_capacity(HEADER_BYTES / 2);
        // None of these texts can hold a character that JSON escapes: their grammars forbid it.
        text.push_str("{\"actor\":\"");
        text.push_str(commit.actor.as_str());
        text.push_str("\",\"commitSeq\":");
        push_number(&mut text, commit.seq);
        text.push_str(",\"dataHash\":\"");
        let opening = text.len();
        // Writing to a String cannot fail.
        let _ = write!(text, "\",\"ledger\":\"{}\",\"payloadHash\":\"", commit.ledger);
        let ledger = text.len();
        let _ = write!(text, "\",\"recordedAt\":\"{}\",\"schema\":", commit.recorded_at);
        let recorded_at = text.len();
        let _ = write!(text, ",\"stream\":\"{}\",\"streamVersion\":", commit.stream);
        Self { text, opening, ledger, recorded_at }
    }

    /// Members in the order of their names: the header's canonical form.
    pub(super) fn write(
        &self,
        out: &mut String,
        commit: &Commit,
        i: usize,
        prev: Hash32,
        content: &ContentHash,
    ) {
        let event = &commit.events[i];
        out.push_str(&self.text[..self.opening]);
        content.data.write_hex(out);
        out.push_str(&self.text[self.opening..self.ledger]);
        content.payload.write_hex(out);
        out.push_str("\",\"prev\":\"");
        prev.write_hex(out);
        out.push_str(&self.text[self.ledger..self.recorded_at]);
        push_number(out, u64::from(event.schema));
        out.push_str(",\"seq\":");
        push_number(out, commit.seq + i as u64);
        out.push_str(&self.text[self.recorded_at..]);
        push_number(out, commit.stream_version + i as u64);
        out.push_str(",\"type\":\"");
        out.push_str(&event.event_type);
        out.push_str("\",\"v\":1}");
    }
}

/// Headers are written for every event that is read, too: a formatter would be felt.
fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}
