//! A commit as a MongoDB document, both ways on raw BSON: this is the hottest path of the system,
//! and a tree of values in between would cost more than all the rest.
//!
//! ```text
//! { _id: "<tenant>/<seq, 12 digits>", origin, tenant, seq, lastSeq, stream, streamVersion,
//!   recordedAt, actor, prev, events: [ { type, schema, hash, data, payload, salt } ] }
//! ```
//! Numbers are int64 (`recordedAt` in µs since 1970), `schema` is int32, hashes and salts are
//! binary, `data` and `payload` the exact text that was hashed. An event without a payload has
//! neither `payload` nor `salt`; an erased one has `payloadHash` in their place.

use std::sync::Arc;

use mongodb::bson::{
    RawArrayBuf, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, spec::BinarySubtype,
};
use stella_domain::{
    chain::{Commit, StoredEvent, StoredPayload},
    event,
    ids::{LedgerId, Tenant},
    json::CanonicalJson,
    time::Timestamp,
};

use super::elements::{Elements, Value};
use crate::{fsck::scan::Stored, port::LedgerError};

/// The largest seq that a key can hold in its 12 digits.
pub(super) const LAST_SEQ: u64 = 999_999_999_999;
/// BSON of a commit around its events, and of an event around its texts, at most.
const COMMIT_OVERHEAD_BYTES: usize = 1_024;
const EVENT_OVERHEAD_BYTES: usize = 256;

/// The `_id` of the commit that begins at `seq`. Keys of a tenant sort by seq.
pub(super) fn key(tenant: &Tenant, seq: u64) -> String {
    format!("{tenant}/{:012}", seq.min(LAST_SEQ))
}

/// Whether `text` is what [`key`] gives.
fn is_key(text: &str, tenant: &Tenant, seq: u64) -> bool {
    let digits = text.strip_prefix(tenant.as_str()).and_then(|rest| rest.strip_prefix('/'));
    digits.is_some_and(|digits| {
        let all_are = digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_digit());
        all_are && digits.parse() == Ok(seq)
    })
}

/// Below every key of the tenant.
pub(super) fn lowest_key(tenant: &Tenant) -> String {
    format!("{tenant}/")
}

/// Above every key of the tenant, and not above any other tenant's that sorts after it: `0` comes
/// right after `/`.
pub(super) fn above_keys(tenant: &Tenant) -> String {
    format!("{tenant}0")
}

/// The document for `commit`.
///
/// # Errors
/// Why it cannot be stored.
pub(super) fn encode(commit: &Commit) -> Result<RawDocumentBuf, String> {
    if commit.last_seq() > LAST_SEQ {
        return Err(format!("seq {} is beyond the last that can be stored", commit.last_seq()));
    }
    let texts: usize = commit.events.iter().map(event_bytes).sum();
    let mut document = with_capacity(COMMIT_OVERHEAD_BYTES + texts);
    let tenant = &commit.ledger.tenant;
    document.append_ref("_id", key(tenant, commit.seq).as_str());
    document.append_ref("origin", commit.ledger.origin.as_str());
    document.append_ref("tenant", tenant.as_str());
    document.append_ref("seq", int64(commit.seq)?);
    document.append_ref("lastSeq", int64(commit.last_seq())?);
    document.append_ref("stream", commit.stream.to_string().as_str());
    document.append_ref("streamVersion", int64(commit.stream_version)?);
    document.append_ref("recordedAt", commit.recorded_at.as_micros());
    document.append_ref("actor", commit.actor.as_str());
    document.append_ref("prev", binary(commit.prev.as_bytes()));
    let mut events = RawArrayBuf::new();
    for event in &commit.events {
        events.push(encode_event(event)?);
    }
    document.append_ref("events", &events);
    Ok(document)
}

fn encode_event(event: &StoredEvent) -> Result<RawDocumentBuf, String> {
    let schema =
        i32::try_from(event.schema).map_err(|e| format!("schema {}: {e}", event.schema))?;
    let mut document = with_capacity(event_bytes(event));
    document.append_ref("type", &*event.event_type);
    document.append_ref("schema", schema);
    document.append_ref("hash", binary(event.hash.as_bytes()));
    document.append_ref("data", event.data.as_str());
    match &event.payload {
        StoredPayload::None => {}
        StoredPayload::Present { salt, json } => {
            document.append_ref("payload", json.as_str());
            document.append_ref("salt", binary(salt.as_bytes()));
        }
        StoredPayload::Erased(hash) => {
            document.append_ref("payloadHash", binary(hash.as_bytes()));
        }
    }
    Ok(document)
}

fn event_bytes(event: &StoredEvent) -> usize {
    let payload = event.payload.json().map_or(0, |json| json.as_str().len());
    EVENT_OVERHEAD_BYTES + event.data.as_str().len() + payload
}

/// An empty document that grows without being copied.
fn with_capacity(bytes: usize) -> RawDocumentBuf {
    let mut buffer = Vec::with_capacity(bytes);
    // Its own length in four bytes, then the end mark (bsonspec.org).
    buffer.extend([5, 0, 0, 0, 0]);
    RawDocumentBuf::from_bytes(buffer).unwrap_or_default()
}

fn int64(n: u64) -> Result<i64, String> {
    i64::try_from(n).map_err(|e| format!("{n}: {e}"))
}

fn binary(bytes: &[u8]) -> RawBinaryRef<'_> {
    RawBinaryRef { subtype: BinarySubtype::Generic, bytes }
}

/// Reads documents; keeps what neighbours share.
#[derive(Default)]
pub(super) struct Decoder {
    ledger: Option<Arc<LedgerId>>,
}

impl Decoder {
    /// The commit that `document` holds. Its hashes are not checked.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] names the document's `_id`.
    pub(super) fn decode(&mut self, document: &RawDocument) -> Result<Commit, LedgerError> {
        let malformed = |reason| LedgerError::Malformed { id: id_of(document), reason };
        let (commit, misplaced) = self.read(document).map_err(malformed)?;
        match misplaced {
            Some(reason) => Err(malformed(reason.to_owned())),
            None => Ok(commit),
        }
    }

    /// What `document` holds, whether it holds together or not.
    pub(super) fn look(&mut self, document: &RawDocument) -> Stored {
        let id = id_of(document);
        match self.read(document) {
            Ok((commit, misplaced)) => {
                Stored { id, commit: Some(commit), misplaced: misplaced.map(str::to_owned) }
            }
            Err(reason) => Stored { id, commit: None, misplaced: Some(reason) },
        }
    }

    /// The commit, and why it does not belong where it stands.
    fn read(&mut self, document: &RawDocument) -> Result<(Commit, Option<&'static str>), String> {
        let members = Members::of(document)?;
        let (id, last_seq) = (members.id, members.last_seq);
        let commit = self.commit(members)?;
        let misplaced = if id.is_none_or(|id| !is_key(id, &commit.ledger.tenant, commit.seq)) {
            Some("`_id` is not that of its tenant and seq")
        } else if last_seq != i64::try_from(commit.head().next_seq).ok().map(|next| next - 1) {
            Some("`lastSeq` is not that of its last event")
        } else {
            None
        };
        Ok((commit, misplaced))
    }

    fn commit(&mut self, members: Members<'_>) -> Result<Commit, String> {
        let ledger =
            self.ledger(need("origin", members.origin)?, need("tenant", members.tenant)?)?;
        let actor = need("actor", members.actor)?;
        Ok(Commit {
            ledger,
            seq: unsigned("seq", members.seq)?,
            stream: need("stream", members.stream)?.parse().map_err(text)?,
            stream_version: unsigned("streamVersion", members.stream_version)?,
            recorded_at: Timestamp::from_micros(need("recordedAt", members.recorded_at)?),
            actor: actor.parse().map_err(text)?,
            prev: fixed("prev", members.prev)?.into(),
            events: need("events", members.events)?,
        })
    }

    fn ledger(&mut self, origin: &str, tenant: &str) -> Result<Arc<LedgerId>, String> {
        if let Some(ledger) = &self.ledger
            && ledger.origin.as_str() == origin
            && ledger.tenant.as_str() == tenant
        {
            return Ok(Arc::clone(ledger));
        }
        let origin = origin.parse().map_err(text)?;
        let ledger = Arc::new(LedgerId { origin, tenant: tenant.parse().map_err(text)? });
        self.ledger = Some(Arc::clone(&ledger));
        Ok(ledger)
    }
}

/// A document's `_id`, for error messages.
fn id_of(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(RawBsonRef::String(id))) => id.to_owned(),
        Ok(Some(other)) => format!("{other:?}"),
        Ok(None) | Err(_) => "(without an _id)".to_owned(),
    }
}

/// A commit's members as they stand in the document.
#[derive(Default)]
struct Members<'a> {
    id: Option<&'a str>,
    origin: Option<&'a str>,
    tenant: Option<&'a str>,
    seq: Option<i64>,
    last_seq: Option<i64>,
    stream: Option<&'a str>,
    stream_version: Option<i64>,
    recorded_at: Option<i64>,
    actor: Option<&'a str>,
    prev: Option<&'a [u8]>,
    events: Option<Vec<StoredEvent>>,
}

impl<'a> Members<'a> {
    fn of(document: &'a RawDocument) -> Result<Self, String> {
        use Value::{Array, Binary, Int64, Text};
        let mut members = Self::default();
        let mut elements = Elements::of(document.as_bytes())?;
        while let Some(element) = elements.next()? {
            match element {
                (b"_id", Text(id)) => members.id = Some(id),
                (b"origin", Text(origin)) => members.origin = Some(origin),
                (b"tenant", Text(tenant)) => members.tenant = Some(tenant),
                (b"seq", Int64(seq)) => members.seq = Some(seq),
                (b"lastSeq", Int64(seq)) => members.last_seq = Some(seq),
                (b"stream", Text(stream)) => members.stream = Some(stream),
                (b"streamVersion", Int64(version)) => members.stream_version = Some(version),
                (b"recordedAt", Int64(micros)) => members.recorded_at = Some(micros),
                (b"actor", Text(actor)) => members.actor = Some(actor),
                (b"prev", Binary(prev)) => members.prev = Some(prev),
                (b"events", Array(events)) => members.events = Some(decode_events(events)?),
                (name, value) => return Err(unexpected(name, value)),
            }
        }
        Ok(members)
    }
}

fn decode_events(array: &[u8]) -> Result<Vec<StoredEvent>, String> {
    let mut elements = Elements::of(array)?;
    let mut events = vec![];
    // The names are indexes.
    while let Some((_, event)) = elements.next()? {
        let decoded = match event {
            Value::Document(event) => decode_event(event),
            _ => Err("it is no document".to_owned()),
        };
        events.push(decoded.map_err(|e| format!("event {}: {e}", events.len()))?);
    }
    Ok(events)
}

fn decode_event(event: &[u8]) -> Result<StoredEvent, String> {
    use Value::{Binary, Int32, Text};
    let (mut event_type, mut schema, mut hash, mut data) = (None, None, None, None);
    let (mut payload, mut salt, mut payload_hash) = (None, None, None);
    let mut elements = Elements::of(event)?;
    while let Some(element) = elements.next()? {
        match element {
            (b"type", Text(name)) => event_type = Some(name),
            (b"schema", Int32(version)) => schema = Some(version),
            (b"hash", Binary(bytes)) => hash = Some(bytes),
            (b"data", Text(json)) => data = Some(json),
            (b"payload", Text(json)) => payload = Some(json),
            (b"salt", Binary(bytes)) => salt = Some(bytes),
            (b"payloadHash", Binary(bytes)) => payload_hash = Some(bytes),
            (name, value) => return Err(unexpected(name, value)),
        }
    }
    let payload = match (payload, salt, payload_hash) {
        (None, None, None) => StoredPayload::None,
        (Some(json), Some(salt), None) => {
            let salt = fixed("salt", Some(salt))?.into();
            StoredPayload::Present { salt, json: CanonicalJson::trusted(json) }
        }
        (None, None, Some(hash)) => StoredPayload::Erased(fixed("payloadHash", Some(hash))?.into()),
        (Some(_), _, _) | (None, Some(_), _) => {
            return Err("`payload`, `salt` and `payloadHash` do not fit together".to_owned());
        }
    };
    let event_type = need("type", event_type)?;
    Ok(StoredEvent {
        event_type: event::event_type(event_type)
            .ok_or_else(|| format!("{event_type:?} is no event type"))?,
        schema: u32::try_from(need("schema", schema)?).map_err(text)?,
        // The text's hash is checked as soon as the commit is whole.
        data: CanonicalJson::trusted(need("data", data)?),
        payload,
        hash: fixed("hash", hash)?.into(),
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn need<T>(name: &str, member: Option<T>) -> Result<T, String> {
    member.ok_or_else(|| format!("`{name}` is missing"))
}

fn unsigned(name: &str, member: Option<i64>) -> Result<u64, String> {
    let n = need(name, member)?;
    u64::try_from(n).map_err(|_| format!("`{name}` is negative: {n}"))
}

fn fixed<const N: usize>(name: &str, member: Option<&[u8]>) -> Result<[u8; N], String> {
    let bytes = need(name, member)?;
    bytes.try_into().map_err(|_| format!("`{name}` has {} bytes instead of {N}", bytes.len()))
}

/// Nothing is read past: what a hash does not cover has no place in the ledger.
fn unexpected(name: &[u8], value: Value<'_>) -> String {
    let name = String::from_utf8_lossy(name);
    format!("member {name:?} has no place there, or not as {value:.80?}")
}
