//! Events as they are stored, from lines that were verified.

use std::borrow::Cow;

use stella_domain::{
    chain::{StoredEvent, StoredPayload},
    event::event_type,
    hash::Hash32,
    json::CanonicalJson,
};
use stella_verify::{Line, hash_of};

/// The event of a line that was verified, so nothing of it fails to parse.
pub(crate) fn stored_of(line: &Line<'_>) -> StoredEvent {
    let hash = |digits| hash_of("", digits).unwrap_or(Hash32::ZERO);
    let payload = match line.payload {
        Some((json, salt)) => StoredPayload::Present { salt, json: CanonicalJson::trusted(json) },
        None if line.is_erased() => StoredPayload::Erased(hash(line.payload_hash)),
        None => StoredPayload::None,
    };
    let name = event_type(line.event_type);
    StoredEvent {
        event_type: name.unwrap_or_else(|| Cow::Owned(line.event_type.to_owned())),
        // A schema beyond 32 bits is none that this build knows.
        schema: u32::try_from(line.schema).unwrap_or(u32::MAX),
        data: CanonicalJson::trusted(line.data),
        payload,
        hash: hash(line.hash),
    }
}
