//! Commits, headers and the hash chain: `docs/ledger-format.md`, sections 2 and 3, to the byte.

use std::{borrow::Cow, sync::Arc};

use self::header::{ContentHash, ContentHashes, HEADER_BYTES, SharedHeader};
use crate::{
    event::EncodedEvent,
    hash::{self, Hash32, Salt},
    ids::{Actor, LedgerId, StreamId},
    json::CanonicalJson,
    limits::{COMMIT_BYTES, COMMIT_EVENTS},
    time::Timestamp,
};

mod header;

/// Where a ledger ends: what the next commit links to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The seq that the next event will have: the number of events so far.
    pub next_seq: u64,
    /// Hash of the last event; zeros when there is none.
    pub hash: Hash32,
    /// `recordedAt` of the last event.
    pub recorded_at: Timestamp,
}

impl Head {
    /// The head of a ledger without events.
    pub const EMPTY: Self = Self { next_seq: 0, hash: Hash32::ZERO, recorded_at: Timestamp::ZERO };
}

/// An event's payload as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPayload {
    /// The event never had one.
    None,
    /// There, with the salt that makes its hash unguessable.
    Present {
        /// Random, per event.
        salt: Salt,
        /// Canonical JSON object.
        json: CanonicalJson,
    },
    /// Erased; only the commitment is left.
    Erased(Hash32),
}

impl StoredPayload {
    /// The payload's text, where there is one.
    pub fn json(&self) -> Option<&CanonicalJson> {
        match self {
            Self::Present { json, .. } => Some(json),
            Self::None | Self::Erased(_) => None,
        }
    }

    /// The header's `payloadHash`.
    pub fn hash(&self) -> Hash32 {
        match self {
            Self::None => Hash32::ZERO,
            Self::Present { salt, json } => hash::payload_hash(salt, json.as_str()),
            Self::Erased(hash) => *hash,
        }
    }
}

/// An event within its commit; what it shares with its neighbours stands in [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The event's type, past tense.
    pub event_type: Cow<'static, str>,
    /// Version of this type's data and payload.
    pub schema: u32,
    /// Canonical JSON object.
    pub data: CanonicalJson,
    /// The erasable part.
    pub payload: StoredPayload,
    /// Hash of the header: the link of the chain.
    pub hash: Hash32,
}

/// What lands in the ledger whole or not at all: neighbouring events of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Which ledger.
    pub ledger: Arc<LedgerId>,
    /// `seq` of its first event, which is every event's `commitSeq`.
    pub seq: u64,
    /// The aggregate.
    pub stream: StreamId,
    /// `streamVersion` of its first event.
    pub stream_version: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// Hash of the event before its first.
    pub prev: Hash32,
    /// At least one.
    pub events: Vec<StoredEvent>,
}

/// A commit that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The stored hash is not that of the stored content.
    #[error("event {seq}: its content does not give its hash: it was changed after it was written")]
    HashMismatch {
        /// The event.
        seq: u64,
    },
    /// The commit does not follow the event before it.
    #[error("event {seq} does not follow event {expected_seq}: {reason}")]
    NotNext {
        /// The commit's first event.
        seq: u64,
        /// The seq that should come.
        expected_seq: u64,
        /// What does not fit.
        reason: &'static str,
    },
    /// A commit beyond the format's limits.
    #[error(
        "the commit at seq {seq} would hold {events} events with {bytes} bytes of data and \
         payloads; {COMMIT_EVENTS} events with {COMMIT_BYTES} bytes are allowed: record less at once"
    )]
    TooLarge {
        /// Where it would stand.
        seq: u64,
        /// Its events.
        events: usize,
        /// Canonical bytes of their data and payloads.
        bytes: usize,
    },
    /// A commit without events.
    #[error("the commit at seq {seq} holds no event")]
    Empty {
        /// Where it stands.
        seq: u64,
    },
}

/// A commit to be sealed: everything but its place in the chain.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The aggregate.
    pub stream: StreamId,
    /// `streamVersion` of its first event.
    pub stream_version: u64,
    /// Who caused it.
    pub actor: Actor,
    /// The events, each with the salt for its payload.
    pub events: Vec<(EncodedEvent, Salt)>,
}

impl Commit {
    /// Give `draft` its place after `head`.
    ///
    /// # Errors
    /// [`ChainError::Empty`] when there is nothing to record, [`ChainError::TooLarge`] when it is
    /// more than a verifier lets pass.
    pub fn seal(
        ledger: &Arc<LedgerId>,
        head: &Head,
        recorded_at: Timestamp,
        draft: Draft,
    ) -> Result<Self, ChainError> {
        if draft.events.is_empty() {
            return Err(ChainError::Empty { seq: head.next_seq });
        }
        let (seq, events) = (head.next_seq, draft.events.len());
        let bytes = draft.events.iter().map(|(event, _)| content_bytes(event)).sum();
        if events > COMMIT_EVENTS || bytes > COMMIT_BYTES {
            return Err(ChainError::TooLarge { seq, events, bytes });
        }
        let mut commit = Self {
            ledger: Arc::clone(ledger),
            seq: head.next_seq,
            stream: draft.stream,
            stream_version: draft.stream_version,
            recorded_at,
            actor: draft.actor,
            prev: head.hash,
            events: draft.events.into_iter().map(|(event, salt)| stored(event, salt)).collect(),
        };
        let contents = ContentHashes::of(std::slice::from_ref(&commit));
        let mut header = String::with_capacity(HEADER_BYTES);
        let (shared, mut prev) = (SharedHeader::of(&commit), commit.prev);
        for (i, content) in contents.enumerate() {
            header.clear();
            shared.write(&mut header, &commit, i, prev, &content);
            prev = hash::event_hash(&header);
            commit.events[i].hash = prev;
        }
        Ok(commit)
    }

    /// `seq` of its last event.
    pub fn last_seq(&self) -> u64 {
        self.seq + self.events.len() as u64 - 1
    }

    /// The ledger's head once this commit is in.
    pub fn head(&self) -> Head {
        Head {
            next_seq: self.seq + self.events.len() as u64,
            hash: self.events.last().map_or(self.prev, |event| event.hash),
            recorded_at: self.recorded_at,
        }
    }

    /// Check that every stored hash is that of its content, chained from `prev`.
    ///
    /// # Errors
    /// [`ChainError`] names the first event that does not hold.
    pub fn verify(&self) -> Result<(), ChainError> {
        Self::verify_each(std::slice::from_ref(self))
    }

    /// [`verify`](Self::verify) each of `commits`, in a fraction of the time: nothing that is hashed
    /// has to wait for another hash, because every event links to a stored one.
    ///
    /// # Errors
    /// [`ChainError`] names the first event that does not hold.
    pub fn verify_each(commits: &[Self]) -> Result<(), ChainError> {
        let events = commits.iter().map(|commit| commit.events.len()).sum::<usize>();
        let mut headers = String::with_capacity(events * HEADER_BYTES);
        let mut ends = Vec::with_capacity(events + 1);
        ends.push(0);
        let mut contents = ContentHashes::of(commits);
        for commit in commits {
            if commit.events.is_empty() {
                return Err(ChainError::Empty { seq: commit.seq });
            }
            let (shared, mut prev) = (SharedHeader::of(commit), commit.prev);
            for ((i, event), content) in commit.events.iter().enumerate().zip(&mut contents) {
                shared.write(&mut headers, commit, i, prev, &content);
                ends.push(headers.len());
                prev = event.hash;
            }
        }
        let hashes = hash::event_hashes(ends.windows(2).map(|ends| &headers[ends[0]..ends[1]]));
        let events = commits.iter().flat_map(|commit| (commit.seq..).zip(&commit.events));
        for ((seq, event), hash) in events.zip(hashes) {
            if event.hash != hash {
                return Err(ChainError::HashMismatch { seq });
            }
        }
        Ok(())
    }

    /// Check that this commit follows `head`.
    ///
    /// # Errors
    /// [`ChainError::NotNext`] says what does not fit.
    pub fn verify_follows(&self, head: &Head) -> Result<(), ChainError> {
        let reason = if self.seq != head.next_seq {
            "events are missing between them"
        } else if self.prev != head.hash {
            "its `prev` is not the hash of the event before it"
        } else if self.recorded_at < head.recorded_at {
            "its `recordedAt` lies before that of the event before it"
        } else {
            return Ok(());
        };
        Err(ChainError::NotNext { seq: self.seq, expected_seq: head.next_seq, reason })
    }

    /// Append each event as one line of NDJSON (section 3), each ended by a line feed.
    pub fn write_ndjson(&self, out: &mut String) {
        let shared = SharedHeader::of(self);
        let mut prev = self.prev;
        let contents = ContentHashes::of(std::slice::from_ref(self));
        for ((i, event), content) in self.events.iter().enumerate().zip(contents) {
            out.push_str("{\"data\":");
            out.push_str(event.data.as_str());
            out.push_str(",\"hash\":\"");
            event.hash.write_hex(out);
            out.push_str("\",\"header\":");
            shared.write(out, self, i, prev, &content);
            match &event.payload {
                StoredPayload::Present { salt, json } => {
                    out.push_str(",\"payload\":");
                    out.push_str(json.as_str());
                    out.push_str(",\"salt\":\"");
                    salt.write_hex(out);
                    out.push_str("\"}\n");
                }
                StoredPayload::None | StoredPayload::Erased(_) => {
                    out.push_str(",\"payload\":null,\"salt\":null}\n");
                }
            }
            prev = event.hash;
        }
    }

    /// The header of event `i` of this commit, in canonical form.
    pub fn header(&self, i: usize) -> String {
        let (event, mut header) = (&self.events[i], String::with_capacity(HEADER_BYTES));
        let prev = if i == 0 { self.prev } else { self.events[i - 1].hash };
        let content = ContentHash {
            data: hash::data_hash(event.data.as_str()),
            payload: event.payload.hash(),
        };
        SharedHeader::of(self).write(&mut header, self, i, prev, &content);
        header
    }
}

fn content_bytes(event: &EncodedEvent) -> usize {
    event.data.as_str().len() + event.payload.as_ref().map_or(0, |json| json.as_str().len())
}

fn stored(event: EncodedEvent, salt: Salt) -> StoredEvent {
    let payload = match event.payload {
        Some(json) => StoredPayload::Present { salt, json },
        None => StoredPayload::None,
    };
    StoredEvent {
        event_type: Cow::Borrowed(event.event_type),
        schema: event.schema,
        data: event.data,
        payload,
        hash: Hash32::ZERO,
    }
}
