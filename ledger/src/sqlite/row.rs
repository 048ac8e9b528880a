//! A commit as a row, and back.
//!
//! The events of a commit are one TEXT column: a JSON array in which `data` and `payload` stand as
//! the very text that was hashed. They are sliced out, never serialised again. One column because
//! a commit is written and read whole, so that a row is a commit and needs no join; JSON because
//! the record should be legible with nothing but `sqlite3` at hand. Cutting it costs a fraction of
//! the hashing that each read does anyway.

use std::{fmt::Write as _, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::{Row, sqlite::SqliteRow};
use stella_domain::{
    chain::{Commit, StoredEvent, StoredPayload},
    event::event_type,
    hash::{Hash32, Salt},
    ids::{LedgerId, Origin, Tenant},
    json::CanonicalJson,
    time::Timestamp,
};

use super::malformed;
use crate::{fsck::scan::Stored, port::LedgerError};

/// The last commit of a tenant.
pub(super) const LAST: &str = "SELECT * FROM ledger WHERE tenant = ? ORDER BY seq DESC LIMIT 1";

/// Commits of tenant ?1 from the one that holds seq ?2 on, at most ?3.
pub(super) const FROM_SEQ: &str = "\
    SELECT * FROM ledger WHERE tenant = ?1 AND last_seq >= ?2 AND seq >= coalesce(\
        (SELECT seq FROM ledger WHERE tenant = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), 0) \
    ORDER BY seq LIMIT ?3";

/// Commits of tenant ?1 whose stream is in the JSON array ?2.
/// `CROSS JOIN` and `+` keep the planner from walking the whole tenant by seq.
pub(super) const OF_STREAMS: &str = "\
    SELECT l.* FROM (SELECT DISTINCT value FROM json_each(?2)) AS wanted \
    CROSS JOIN ledger AS l ON l.tenant = ?1 AND l.stream = wanted.value ORDER BY +l.seq";

/// Commits of a stream from the one that begins at a version, or before it, on.
pub(super) const OF_STREAM: &str = "\
    SELECT * FROM ledger WHERE tenant = ?1 AND stream = ?2 AND stream_version >= coalesce(\
        (SELECT max(stream_version) FROM ledger \
         WHERE tenant = ?1 AND stream = ?2 AND stream_version <= ?3), 0) \
    ORDER BY stream_version LIMIT ?4";

/// Place and time of the commit that holds a seq.
pub(super) const AT_SEQ: &str = "\
    SELECT seq, last_seq, recorded_at FROM ledger WHERE tenant = ? AND seq <= ? \
    ORDER BY seq DESC LIMIT 1";

/// The tenants, by jumping from one to the next in the index.
pub(super) const TENANTS: &str = "\
    WITH RECURSIVE t(name) AS (\
        SELECT min(tenant) FROM ledger \
        UNION ALL SELECT (SELECT min(tenant) FROM ledger WHERE tenant > name) \
        FROM t WHERE name IS NOT NULL) \
    SELECT name FROM t WHERE name IS NOT NULL LIMIT ?";

/// An event within the column `events`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventText<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    hash: Hash32,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// In place of an erased payload.
    payload_hash: Option<Hash32>,
    salt: Option<Salt>,
    schema: u32,
    r#type: &'a str,
}

/// The column `events` of a commit.
pub(super) fn events_text(events: &[StoredEvent]) -> String {
    let mut out = String::with_capacity(256 * events.len());
    for event in events {
        out.push_str(if out.is_empty() { "[{\"data\":" } else { ",{\"data\":" });
        out.push_str(event.data.as_str());
        out.push_str(",\"hash\":\"");
        event.hash.write_hex(&mut out);
        match &event.payload {
            StoredPayload::None => out.push('"'),
            StoredPayload::Present { salt, json } => {
                out.push_str("\",\"payload\":");
                out.push_str(json.as_str());
                out.push_str(",\"salt\":\"");
                salt.write_hex(&mut out);
                out.push('"');
            }
            StoredPayload::Erased(hash) => {
                out.push_str("\",\"payloadHash\":\"");
                hash.write_hex(&mut out);
                out.push('"');
            }
        }
        // Writing to a String cannot fail; a type's grammar needs no escapes.
        let _ = write!(out, ",\"schema\":{},\"type\":\"{}\"}}", event.schema, event.event_type);
    }
    out.push(']');
    out
}

/// Reads rows of one tenant.
pub(super) struct Decoder<'t> {
    tenant: &'t Tenant,
    /// The ledger of the last row: nearly always that of the next one too.
    ledger: Option<Arc<LedgerId>>,
}

impl<'t> Decoder<'t> {
    pub(super) fn new(tenant: &'t Tenant) -> Self {
        Self { tenant, ledger: None }
    }

    /// The commit that `row` holds. Its hashes are not checked.
    pub(super) fn decode(&mut self, row: &SqliteRow) -> Result<Commit, LedgerError> {
        let seq: i64 = row.try_get("seq").map_err(super::read_error)?;
        match self.commit(row, seq) {
            Ok((commit, None)) => Ok(commit),
            Ok((_, Some(reason))) | Err(reason) => {
                Err(malformed(format!("{}/{seq}", self.tenant), &reason))
            }
        }
    }

    /// What `row` holds, whether it holds together or not.
    pub(super) fn look(&mut self, row: &SqliteRow) -> Stored {
        let seq = row.try_get("seq").unwrap_or_default();
        let id = format!("{}/{seq}", self.tenant);
        match self.commit(row, seq) {
            Ok((commit, misplaced)) => Stored { id, commit: Some(commit), misplaced },
            Err(reason) => Stored { id, commit: None, misplaced: Some(reason) },
        }
    }

    /// The commit, and why it does not belong where it stands.
    fn commit(&mut self, row: &SqliteRow, seq: i64) -> Result<(Commit, Option<String>), String> {
        let text = |column| row.try_get::<&str, _>(column).map_err(|e| e.to_string());
        let number = |column| row.try_get::<i64, _>(column).map_err(|e| e.to_string());
        let unsigned = |n: i64| u64::try_from(n).map_err(|_| format!("{n} is negative"));
        let prev: &[u8] = row.try_get("prev").map_err(|e| e.to_string())?;
        let prev: [u8; 32] = prev.try_into().map_err(|_| "`prev` has not 32 bytes".to_owned())?;
        let events: Vec<EventText<'_>> =
            serde_json::from_str(text("events")?).map_err(|e| format!("`events`: {e}"))?;
        let commit = Commit {
            ledger: self.ledger(text("origin")?)?,
            seq: unsigned(seq)?,
            stream: text("stream")?.parse().map_err(shown)?,
            stream_version: unsigned(number("stream_version")?)?,
            recorded_at: Timestamp::from_micros(number("recorded_at")?),
            actor: text("actor")?.parse().map_err(shown)?,
            prev: Hash32::from(prev),
            events: events.into_iter().map(stored).collect::<Result<_, _>>()?,
        };
        let last_seq = unsigned(number("last_seq")?)?;
        let fits = last_seq.checked_add(1) == Some(commit.head().next_seq);
        let misplaced = (!fits).then(|| format!("`last_seq` {last_seq} does not fit its events"));
        Ok((commit, misplaced))
    }

    fn ledger(&mut self, origin: &str) -> Result<Arc<LedgerId>, String> {
        if let Some(ledger) = &self.ledger
            && ledger.origin.as_str() == origin
        {
            return Ok(Arc::clone(ledger));
        }
        let origin: Origin = origin.parse().map_err(shown)?;
        let ledger = Arc::new(LedgerId { origin, tenant: self.tenant.clone() });
        self.ledger = Some(Arc::clone(&ledger));
        Ok(ledger)
    }
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn stored(event: EventText<'_>) -> Result<StoredEvent, String> {
    let payload = match (event.payload, event.salt, event.payload_hash) {
        (None, None, None) => StoredPayload::None,
        (Some(json), Some(salt), None) => {
            StoredPayload::Present { salt, json: CanonicalJson::trusted(json.get()) }
        }
        (None, None, Some(hash)) => StoredPayload::Erased(hash),
        _ => return Err("payload, salt and payloadHash of an event do not fit".to_owned()),
    };
    Ok(StoredEvent {
        event_type: event_type(event.r#type)
            .ok_or_else(|| format!("{:?} is no event type", event.r#type))?,
        schema: event.schema,
        // Hashed by the caller, which tells whether it is what was written.
        data: CanonicalJson::trusted(event.data.get()),
        payload,
        hash: event.hash,
    })
}
