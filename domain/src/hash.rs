//! The hashes of the ledger: BLAKE3 in key-derivation mode, one context per kind of hash, so that
//! one kind can never stand for another. Source: `docs/ledger-format.md`, section 2.

use std::{fmt, str::FromStr, sync::LazyLock};

use blake3::{
    Hasher,
    hazmat::{ContextKey, HasherExt, hash_derive_key_context},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    ids::{DagId, LedgerId, RunId, ScheduleId, Tenant},
    json::CanonicalJson,
    parsed,
    time::Timestamp,
};

mod lanes;

/// Why a text is not a hash or a salt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a valid {kind}: write it as {digits} lower-case hex digits")]
pub struct HexError {
    kind: &'static str,
    digits: usize,
    found: String,
}

/// A fixed number of bytes whose text is lower-case hex, everywhere.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self([0; $len]);

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The lower-case hex digits.
            pub fn hex_digits(&self) -> [u8; 2 * $len] {
                let mut digits = [b'0'; 2 * $len];
                hex_text(&self.0, &mut digits);
                digits
            }

            /// Append the lower-case hex text to `out`.
            pub fn write_hex(&self, out: &mut String) {
                out.push_str(hex_text(&self.0, &mut [0; 2 * $len]));
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                parse_hex(text).map(Self).ok_or_else(|| HexError {
                    kind: $kind,
                    digits: 2 * $len,
                    // Cut, so that the message stays readable.
                    found: text.chars().take(80).collect(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(hex_text(&self.0, &mut [0; 2 * $len]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(hex_text(&self.0, &mut [0; 2 * $len]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed::from_text(deserializer)
            }
        }
    };
}

hex_bytes!(
    /// A 256-bit hash.
    Hash32, "hash", 32
);
hex_bytes!(
    /// The 16 random bytes that make an erased payload impossible to guess back.
    Salt, "salt", 16
);

/// `bytes` as lower-case hex in `buffer`, which is twice as long.
fn hex_text<'a>(bytes: &[u8], buffer: &'a mut [u8]) -> &'a str {
    // Neither can fail: the buffer is twice as long as the bytes, and hex digits are ASCII.
    let written = const_hex::encode_to_slice(bytes, buffer).is_ok();
    debug_assert!(written);
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// Strict: lower case only, exactly 2·N digits.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // The length is looked at here, because the crate takes a leading 0x for no digits.
    let strict = text.len() == 2 * N && !text.bytes().any(|b| b.is_ascii_uppercase());
    (strict && const_hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// A context's key, derived once: hashing a small input then costs one compression, not two.
struct Context(LazyLock<ContextKey>);

impl Context {
    fn hash(&self, parts: &[&[u8]]) -> Hash32 {
        let mut hasher = Hasher::new_from_context_key(&self.0);
        for part in parts {
            hasher.update(part);
        }
        Hash32(*hasher.finalize().as_bytes())
    }

    fn hash_each<'a>(&self, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<Hash32> {
        lanes::hash_each(&self.0, &inputs.into_iter().collect::<Vec<_>>())
    }
}

macro_rules! context {
    ($name:ident, $purpose:literal) => {
        static $name: Context = Context(LazyLock::new(|| {
            hash_derive_key_context(concat!("stella-orchestrator 2026-11 ", $purpose))
        }));
    };
}

context!(DATA, "ledger data v1");
context!(PAYLOAD, "ledger payload v1");
context!(EVENT, "ledger event v1");
context!(INPUTS, "inputs v1");
context!(RUN_ID, "run id v1");
context!(CONCURRENCY_KEY, "concurrency key v1");
context!(JITTER, "jitter v1");
context!(ARTIFACT, "artifact v1");
context!(TRACE_ID, "trace id v1");
context!(SPAN_ID, "span id v1");
context!(SNAPSHOT, "snapshot v1");

/// `dataHash`: the commitment to an event's data, given as canonical JSON text.
pub fn data_hash(data: &str) -> Hash32 {
    DATA.hash(&[data.as_bytes()])
}

/// `payloadHash`: the salted commitment to an event's payload, given as canonical JSON text.
///
/// An event without a payload has [`Hash32::ZERO`] instead.
pub fn payload_hash(salt: &Salt, payload: &str) -> Hash32 {
    PAYLOAD.hash(&[salt.as_bytes(), payload.as_bytes()])
}

/// [`data_hash`] of each, in a fraction of the time.
pub fn data_hashes<'a>(data: impl IntoIterator<Item = &'a str>) -> Vec<Hash32> {
    DATA.hash_each(data.into_iter().map(str::as_bytes))
}

/// [`payload_hash`] of each, in a fraction of the time.
pub fn payload_hashes<'a>(payloads: impl IntoIterator<Item = (&'a Salt, &'a str)>) -> Vec<Hash32> {
    let mut text = vec![];
    let mut ends = vec![0];
    for (salt, payload) in payloads {
        text.extend_from_slice(salt.as_bytes());
        text.extend_from_slice(payload.as_bytes());
        ends.push(text.len());
    }
    PAYLOAD.hash_each(ends.windows(2).map(|ends| &text[ends[0]..ends[1]]))
}

/// [`event_hash`] of each, in a fraction of the time.
pub fn event_hashes<'a>(headers: impl IntoIterator<Item = &'a str>) -> Vec<Hash32> {
    EVENT.hash_each(headers.into_iter().map(str::as_bytes))
}

/// `hash`: an event's own hash, over its header given as canonical JSON text.
pub fn event_hash(header: &str) -> Hash32 {
    EVENT.hash(&[header.as_bytes()])
}

/// `inputsHash`: `b3:` and 64 hex digits. Unsalted, so that runs can be compared by it.
pub fn inputs_hash(inputs: &CanonicalJson) -> String {
    let mut text = String::with_capacity(3 + 64);
    text.push_str("b3:");
    INPUTS.hash(&[inputs.as_str().as_bytes()]).write_hex(&mut text);
    text
}

/// What runs share that share a concurrency limit: `b3:` and 64 hex digits, of the DAG and of the
/// value that its key expression gives. Unsalted, as [`inputs_hash`] is.
pub fn concurrency_key(dag_id: &DagId, value: &CanonicalJson) -> String {
    // JCS: an id has nothing to escape, and the value is canonical already.
    let text = format!("[\"{dag_id}\",{}]", value.as_str());
    let mut key = String::with_capacity(3 + 64);
    key.push_str("b3:");
    CONCURRENCY_KEY.hash(&[text.as_bytes()]).write_hex(&mut key);
    key
}

/// An artifact's digest while its bytes come in.
#[derive(Clone)]
pub struct ArtifactHasher(Hasher);

impl Default for ArtifactHasher {
    fn default() -> Self {
        Self(Hasher::new_from_context_key(&ARTIFACT.0))
    }
}

impl ArtifactHasher {
    /// Take the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was taken so far.
    pub fn finish(&self) -> Hash32 {
        Hash32(*self.0.finalize().as_bytes())
    }
}

/// Of a fold's text as it is kept beside a ledger: what a disk spoilt is not taken for it.
pub fn snapshot_hash(state: &str) -> Hash32 {
    SNAPSHOT.hash(&[state.as_bytes()])
}

/// A number that follows from a schedule and a fire time, spread evenly.
pub(crate) fn jitter(schedule_id: &ScheduleId, fire_time: Timestamp) -> u64 {
    let text = format!("{schedule_id}/{fire_time}");
    let hash = JITTER.hash(&[text.as_bytes()]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.0[..8]);
    u64::from_le_bytes(first)
}

/// The OpenTelemetry trace of a run: 32 hex digits.
pub fn trace_id(ledger: &LedgerId, run_id: &RunId) -> String {
    let text = format!("{ledger}/{run_id}");
    TRACE_ID.hash(&[text.as_bytes()]).to_string()[..32].to_owned()
}

/// A span of that trace: 16 hex digits. It is named by the stream version of the event that it began
/// with, which is 1 for the run itself, and for an attempt the version in its fencing token.
pub fn span_id(ledger: &LedgerId, run_id: &RunId, stream_version: u64) -> String {
    let text = format!("{ledger}/{run_id}/{stream_version}");
    SPAN_ID.hash(&[text.as_bytes()]).to_string()[..16].to_owned()
}

/// What a derived run id is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunIdKind {
    /// The key is the caller's run token; attempt 0 is the first run, its reruns count from 1.
    Token,
    /// The key is the id of a first run that had no token; attempts count from 1.
    Run,
}

/// The run id for this attempt: a repeat of the same request meets the same run.
pub fn derived_run_id(tenant: &Tenant, kind: RunIdKind, key: &str, attempt: u32) -> RunId {
    let kind = match kind {
        RunIdKind::Token => "token",
        RunIdKind::Run => "run",
    };
    // JCS: serde_json escapes strings exactly as RFC 8785, 3.2.2.2 does, and an array of strings
    // and a small integer has nothing to sort or to reformat.
    let text = serde_json::json!([tenant.as_str(), kind, key, attempt]).to_string();
    let hash = RUN_ID.hash(&[text.as_bytes()]);
    let mut first = [0; 16];
    first.copy_from_slice(&hash.0[..16]);
    RunId::from_bytes(first)
}

/// The id of attempt `attempt` of a run: of its run token, if it has one, otherwise of `first`, the id
/// of its first attempt.
pub fn rerun_id(tenant: &Tenant, first: &RunId, token: Option<&str>, attempt: u32) -> RunId {
    match token {
        Some(token) => derived_run_id(tenant, RunIdKind::Token, token, attempt),
        None => derived_run_id(tenant, RunIdKind::Run, first.as_str(), attempt),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn text_is_strict_lower_case_hex() {
        let text = "0123456789abcdef".repeat(4);
        let hash: Hash32 = text.parse().expect("hash");
        assert_eq!(hash.to_string(), text);
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Hash32>(&format!("\"{text}\"")).unwrap(), hash);
        let spaced = format!(" {}", &text[1..]);
        let prefixed = [format!("0x{text}"), format!("0x{}", &text[2..])];
        let upper = text.to_uppercase();
        let more = [&upper, &text[1..], &format!("{text}0"), &spaced, "", "é"];
        for bad in prefixed.iter().map(String::as_str).chain(more) {
            assert!(bad.parse::<Hash32>().is_err(), "{bad}");
        }
        assert!("00".repeat(16).parse::<Salt>().is_ok_and(|salt| salt == Salt::ZERO));
    }
}
