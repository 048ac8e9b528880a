//! The events: what each records as `data` (needed to fold state, never erased) and, apart, as
//! `payload` (what people and plugins wrote, erasable). See `docs/ledger-format.md`, section 2.
//!
//! Members of every struct stand in the order of their names, so that writing one gives canonical
//! JSON at once; a debug assertion and the tests hold that.

mod control;
mod dag;
mod ledger;
mod run;
mod schedule;

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};

pub use self::{control::*, dag::*, ledger::*, run::*, schedule::*};
use crate::{chain::StoredEvent, ids::StreamId, json::CanonicalJson};

/// An event as text, on its way into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The event's type, past tense.
    pub event_type: &'static str,
    /// Version of this type's data and payload, from 1.
    pub schema: u32,
    /// Canonical JSON object.
    pub data: CanonicalJson,
    /// Canonical JSON object, if the event has a payload.
    pub payload: Option<CanonicalJson>,
}

/// A stored event that this build cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "event {event_type} (schema {schema}) of stream {stream} does not decode: {reason}; \
     it was written by a newer release or the ledger is damaged: run `stella orch ledger verify`"
)]
pub struct DecodeError {
    /// The event's type as stored.
    pub event_type: String,
    /// Its schema version as stored.
    pub schema: u32,
    /// The stream it stands in.
    pub stream: String,
    /// What the reader said.
    pub reason: String,
}

/// Any event of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of `ledger/<tenant>`.
    Ledger(LedgerEvent),
    /// Of `dag/<dagId>`.
    Dag(DagEvent),
    /// Of `run/<runId>`.
    Run(RunEvent),
    /// Of `control/<tenant>`.
    Control(ControlEvent),
    /// Of `schedule/<scheduleId>`.
    Schedule(ScheduleEvent),
}

impl Event {
    /// The event as canonical text.
    pub fn encode(&self) -> EncodedEvent {
        match self {
            Self::Ledger(event) => event.encode(),
            Self::Dag(event) => event.encode(),
            Self::Run(event) => event.encode(),
            Self::Control(event) => event.encode(),
            Self::Schedule(event) => event.encode(),
        }
    }

    /// Read a stored event; the stream's kind says which events it may hold.
    ///
    /// # Errors
    /// [`DecodeError`] when the type or its schema is unknown or its text has another shape.
    /// Nothing is ever skipped.
    pub fn decode(stream: &StreamId, stored: &StoredEvent) -> Result<Self, DecodeError> {
        let decoded = match stream {
            StreamId::Ledger(_) => LedgerEvent::decode(stored).map(Self::Ledger),
            StreamId::Dag(_) => DagEvent::decode(stored).map(Self::Dag),
            StreamId::Run(_) => RunEvent::decode(stored).map(Self::Run),
            StreamId::Control(_) => ControlEvent::decode(stored).map(Self::Control),
            StreamId::Schedule(_) => ScheduleEvent::decode(stored).map(Self::Schedule),
            StreamId::Plugin(_) => Err("this build knows no events of such streams".to_owned()),
        };
        decoded.map_err(|reason| DecodeError {
            event_type: stored.event_type.to_string(),
            schema: stored.schema,
            stream: stream.to_string(),
            reason,
        })
    }

    /// The event's type, past tense.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Ledger(event) => event.event_type(),
            Self::Dag(event) => event.event_type(),
            Self::Run(event) => event.event_type(),
            Self::Control(event) => event.event_type(),
            Self::Schedule(event) => event.event_type(),
        }
    }
}

/// A type name as stored; known ones cost no allocation.
///
/// `None` when it is outside the grammar `[A-Z][A-Za-z0-9]{0,63}`.
pub fn event_type(text: &str) -> Option<Cow<'static, str>> {
    // Most are of runs.
    let known = [
        RunEvent::TYPES,
        LedgerEvent::TYPES,
        DagEvent::TYPES,
        ControlEvent::TYPES,
        ScheduleEvent::TYPES,
    ];
    if let Some(known) = known.into_iter().flatten().find(|known| **known == text) {
        return Some(Cow::Borrowed(known));
    }
    is_event_type(text).then(|| Cow::Owned(text.to_owned()))
}

/// Whether `text` is a type name, known or not: `[A-Z][A-Za-z0-9]{0,63}`.
pub fn is_event_type(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn to_canonical<T: Serialize>(part: &T) -> CanonicalJson {
    // Plain structs of strings, integers and canonical JSON: serialising them cannot fail, and an
    // empty text would be refused by every reader.
    let text = serde_json::to_string(part).unwrap_or_default();
    debug_assert_eq!(CanonicalJson::parse(&text).as_ref().map(CanonicalJson::as_str), Ok(&*text));
    CanonicalJson::trusted(text)
}

fn from_canonical<T: DeserializeOwned>(json: &CanonicalJson) -> Result<T, String> {
    serde_json::from_str(json.as_str()).map_err(|e| e.to_string())
}

/// Declares one aggregate's events: type name, schema version, data and, where there is one,
/// payload. An event whose payload was erased reads back with `None`.
macro_rules! events {
    ($(#[$doc:meta])* $enum:ident {
        $($(#[$vdoc:meta])* $variant:ident = $schema:literal ($data:ty $(, $part:ident: $payload:ty)?),)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub enum $enum {
            $($(#[$vdoc])* $variant($data $(, Option<$payload>)?),)*
        }

        impl $enum {
            /// The types this enum knows, as stored.
            pub const TYPES: &[&str] = &[$(stringify!($variant)),*];

            /// The event's type, past tense.
            pub fn event_type(&self) -> &'static str {
                match self {
                    $(Self::$variant(..) => stringify!($variant),)*
                }
            }

            /// Version of this type's data and payload.
            pub fn schema(&self) -> u32 {
                match self {
                    $(Self::$variant(..) => $schema,)*
                }
            }

            /// The event as canonical text.
            pub fn encode(&self) -> $crate::event::EncodedEvent {
                #[allow(unused_mut, unused_assignments)]
                let mut payload = None;
                let data = match self {
                    $(Self::$variant(data $(, $part)?) => {
                        $(payload = $part.as_ref().map($crate::event::to_canonical);)?
                        $crate::event::to_canonical(data)
                    })*
                };
                $crate::event::EncodedEvent {
                    event_type: self.event_type(),
                    schema: self.schema(),
                    data,
                    payload,
                }
            }

            /// Read a stored event of this aggregate.
            pub(crate) fn decode(stored: &$crate::chain::StoredEvent) -> Result<Self, String> {
                match (&*stored.event_type, stored.schema) {
                    $((stringify!($variant), $schema) => Ok(Self::$variant(
                        $crate::event::from_canonical(&stored.data)?
                        $(, stored.payload.json()
                            .map($crate::event::from_canonical::<$payload>)
                            .transpose()?)?
                    )),)*
                    _ => Err("unknown type or schema version".to_owned()),
                }
            }
        }
    };
}
use events;

/// The data of an event that needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct NoData {}

/// Why somebody did something, in their words.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// Free text.
    pub reason: String,
}

/// What a plugin or a worker said about a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Free text, cut at [`crate::limits::MESSAGE_BYTES`].
    pub message: String,
}
