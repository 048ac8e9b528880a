//! Identifiers that parse. Every grammar is the one of `docs/ledger-format.md`, section 1.
//!
//! A value of these types is valid by construction: there is no way to make one except through
//! [`FromStr`], and deserialising goes the same way.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::{SmolStr, format_smolstr};

use crate::parsed;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a valid {kind}: {rule}")]
pub struct IdError {
    kind: &'static str,
    rule: &'static str,
    found: String,
}

impl IdError {
    /// The offending text is cut so that an error message stays readable.
    fn new(kind: &'static str, rule: &'static str, found: &str) -> Self {
        Self { kind, rule, found: found.chars().take(80).collect() }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr, $check:expr) => {
        text_id!($(#[$doc])* $name(SmolStr), $kind, $rule, $check);
    };
    ($(#[$doc:meta])* $name:ident($text:ty), $kind:literal, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($text);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                match text.try_into() {
                    Ok(kept) if check(text) => Ok(Self(kept)),
                    _ => Err(IdError::new($kind, $rule, text)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed::from_text(deserializer)
            }
        }
    };
}

/// Starts and ends with `edge`, `inner` between, at most `max` bytes.
fn framed(text: &str, max: usize, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => {
            bytes.len() <= max && edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b))
        }
    }
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_name(text: &str) -> bool {
    framed(
        text,
        128,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || b"._-".contains(&b),
    )
}

const NAME_RULE: &str =
    "1 to 128 of A-Z a-z 0-9 . _ -, beginning and ending with a letter or a digit";

text_id!(
    /// Who runs this installation; the first half of a ledger's name.
    Origin, "origin",
    "1 to 253 of a-z 0-9 . -, beginning and ending with a letter or a digit",
    |t| framed(t, 253, lower_alnum, |b| lower_alnum(b) || b".-".contains(&b))
);
text_id!(
    /// Whose ledger it is; each tenant has a ledger of its own.
    Tenant, "tenant",
    "1 to 63 of a-z 0-9 -, beginning and ending with a letter or a digit",
    |t| framed(t, 63, lower_alnum, |b| lower_alnum(b) || b == b'-')
);
text_id!(
    /// Names a DAG; its versions are numbered.
    DagId, "dagId", NAME_RULE, is_name
);
text_id!(
    /// Names a schedule.
    ScheduleId, "scheduleId", NAME_RULE, is_name
);
text_id!(
    /// Names a step within its DAG.
    StepId, "stepId", NAME_RULE, is_name
);
text_id!(
    /// Names a plugin, the thing that carries out actions.
    PluginName, "plugin name", NAME_RULE, is_name
);
text_id!(
    /// Which version of a plugin; recorded and compared, never interpreted.
    PluginVersion, "plugin version", "1 to 64 printable ASCII characters, no spaces",
    |t| (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// The digest of a plugin's files, by an algorithm of the worker's choice; stella's own workers
    /// say `b3:` and 64 digits.
    PluginDigest, "plugin digest",
    "an algorithm, 1 to 16 of a-z 0-9; a colon; and 32 to 128 of 0-9 a-f",
    |t| t.split_once(':').is_some_and(|(algorithm, digits)| {
        (1..=16).contains(&algorithm.len())
            && algorithm.bytes().all(lower_alnum)
            && (32..=128).contains(&digits.len())
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
);
text_id!(
    /// Names a worker process.
    WorkerId, "worker id", NAME_RULE, is_name
);
text_id!(
    /// A run: 26 characters of Crockford base 32, as a ULID.
    RunId(Ulid), "runId", "26 characters of Crockford base 32 (0-9 A-Z without I L O U), the first 0 to 7",
    |t| t.len() == 26
        && t.as_bytes()[0] <= b'7'
        && t.bytes().all(|b| IS_CROCKFORD[usize::from(b)])
);
text_id!(
    /// Who caused an event, pseudonymous: `user:`, `worker:` or `system:` and a subject.
    Actor, "actor", "user:, worker: or system: and 1 to 128 of A-Z a-z 0-9 . _ @ | -",
    |t| t.split_once(':').is_some_and(|(kind, subject)| {
        matches!(kind, "user" | "worker" | "system") && is_subject(subject)
    })
);
text_id!(
    /// The caller's idempotency key for a run.
    RunToken, "runToken", "1 to 256 characters, none of them U+0000",
    |t| { let n = t.chars().take(257).count(); (1..=256).contains(&n) && !t.contains('\0') }
);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
static IS_CROCKFORD: [bool; 256] = {
    let (mut is, mut i) = ([false; 256], 0);
    while i < CROCKFORD.len() {
        is[CROCKFORD[i] as usize] = true;
        i += 1;
    }
    is
};

fn is_subject(subject: &str) -> bool {
    (1..=128).contains(&subject.len())
        && subject.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@|-".contains(&b))
}

impl RunId {
    /// The run id that these 16 bytes spell: 130 bits, the first two zero, most significant first.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let n = u128::from_be_bytes(bytes);
        Self(Ulid(std::array::from_fn(|i| CROCKFORD[((n >> (125 - 5 * i)) & 31) as usize])))
    }
}

/// The characters of a ULID, in place: every commit and every lease names its run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ulid([u8; 26]);

impl TryFrom<&str> for Ulid {
    type Error = std::array::TryFromSliceError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.as_bytes().try_into().map(Self)
    }
}

impl std::ops::Deref for Ulid {
    type Target = str;

    fn deref(&self) -> &str {
        // Characters of Crockford base 32.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Actor {
    /// An actor of this installation itself, such as `system:scheduler`.
    ///
    /// # Errors
    /// [`IdError`] when `part` is not a subject.
    pub fn system(part: &str) -> Result<Self, IdError> {
        format!("system:{part}").parse()
    }

    /// Dispatch: leases that expire, retries that come due.
    pub fn dispatch() -> Self {
        Self("system:dispatch".into())
    }

    /// Schedules that fire.
    pub fn scheduler() -> Self {
        Self("system:scheduler".into())
    }

    /// A worker acting under its own name; a worker id is always a valid subject.
    pub fn worker(id: &WorkerId) -> Self {
        Self(format_smolstr!("worker:{id}"))
    }

    /// A person or program, by the subject of its credentials.
    ///
    /// A subject outside the grammar is recorded as `h-` and 32 hex digits of its BLAKE3.
    pub fn user(subject: &str) -> Self {
        if is_subject(subject) {
            return Self(format_smolstr!("user:{subject}"));
        }
        let digest = blake3::hash(subject.as_bytes()).to_hex();
        Self(format_smolstr!("user:h-{}", &digest.as_str()[..32]))
    }
}

/// Which ledger: `<origin>/<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerId {
    /// The installation.
    pub origin: Origin,
    /// The tenant.
    pub tenant: Tenant,
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.tenant)
    }
}

impl FromStr for LedgerId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (origin, tenant) = text
            .split_once('/')
            .ok_or_else(|| IdError::new("ledger name", "it is <origin>/<tenant>", text))?;
        Ok(Self { origin: origin.parse()?, tenant: tenant.parse()? })
    }
}

/// One aggregate's events: `<kind>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// The ledger itself: opened, sealed, keys, erasures.
    Ledger(Tenant),
    /// A DAG and its versions.
    Dag(DagId),
    /// One run of a DAG.
    Run(RunId),
    /// A schedule.
    Schedule(ScheduleId),
    /// A plugin and its versions.
    Plugin(PluginName),
    /// What holds for a whole tenant.
    Control(Tenant),
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(id) => write!(f, "ledger/{id}"),
            Self::Dag(id) => write!(f, "dag/{id}"),
            Self::Run(id) => write!(f, "run/{id}"),
            Self::Schedule(id) => write!(f, "schedule/{id}"),
            Self::Plugin(id) => write!(f, "plugin/{id}"),
            Self::Control(id) => write!(f, "control/{id}"),
        }
    }
}

impl FromStr for StreamId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let rule = "it is ledger/, dag/, run/, schedule/, plugin/ or control/ and an id";
        let (kind, id) = text.split_once('/').ok_or_else(|| IdError::new("stream", rule, text))?;
        Ok(match kind {
            "ledger" => Self::Ledger(id.parse()?),
            "dag" => Self::Dag(id.parse()?),
            "run" => Self::Run(id.parse()?),
            "schedule" => Self::Schedule(id.parse()?),
            "plugin" => Self::Plugin(id.parse()?),
            "control" => Self::Control(id.parse()?),
            _ => return Err(IdError::new("stream", rule, text)),
        })
    }
}

/// Proves that a lease is the current one: the run, and the stream version of its `StepStarted`.
///
/// Minted when the run aggregate decides to grant a lease and checked where a completion is
/// decided. Stream versions only grow, so a later lease always carries a higher token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// The run that the leased step belongs to.
    pub run_id: RunId,
    /// `streamVersion` of the `StepStarted` event that granted the lease.
    pub stream_version: u64,
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run_id, self.stream_version)
    }
}

impl FromStr for FencingToken {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::new("fencing token", "it is <runId>.<stream version>", text);
        let (run_id, version) = text.split_once('.').ok_or_else(wrong)?;
        let canonical = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
        let stream_version = version.parse().ok().filter(|_| canonical).ok_or_else(wrong)?;
        Ok(Self { run_id: run_id.parse()?, stream_version })
    }
}

impl Serialize for FencingToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FencingToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed::from_text(deserializer)
    }
}

impl StepId {
    /// The id of an item of this step's `forEach`.
    ///
    /// `None` when it would be too long, which a spec's check rules out.
    pub fn item(&self, index: u32) -> Option<Self> {
        format!("{self}.{index}").parse().ok()
    }

    /// The step and the index, if this is the form of an item's id.
    pub fn as_item(&self) -> Option<(Self, u32)> {
        let (step, digits) = self.as_str().rsplit_once('.')?;
        let index: u32 = digits.parse().ok()?;
        // One id for one item: no leading zeros, no sign.
        if index.to_string() != digits {
            return None;
        }
        Some((step.parse().ok()?, index))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn grammars_accept_and_refuse() {
        let long = "a".repeat(129);
        for (good, text) in [
            (true, "a"),
            (true, "Supply-chain_1.2"),
            (false, ""),
            (false, "-a"),
            (false, "a-"),
            (false, "a b"),
            (false, "é"),
            (false, long.as_str()),
        ] {
            assert_eq!(text.parse::<DagId>().is_ok(), good, "{text:?}");
        }
        assert!("Acme".parse::<Tenant>().is_err());
        assert!("user:alice@x".parse::<Actor>().is_ok());
        assert!("root:alice".parse::<Actor>().is_err());
        assert_eq!(Actor::user("Ann Lee").as_str().len(), "user:h-".len() + 32);
    }

    #[test]
    fn streams_and_fencing_tokens_round_trip() {
        for text in ["run/0RQ9CWTXP9BPJR3KTYEG0MB9FF", "dag/x", "ledger/acme", "control/acme"] {
            assert_eq!(text.parse::<StreamId>().expect(text).to_string(), text);
        }
        for bad in ["run/x", "run", "step/x", "dag/"] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad}");
        }
        let token = "0RQ9CWTXP9BPJR3KTYEG0MB9FF.7";
        assert_eq!(token.parse::<FencingToken>().expect(token).to_string(), token);
        for bad in ["0RQ9CWTXP9BPJR3KTYEG0MB9FF.07", "0RQ9CWTXP9BPJR3KTYEG0MB9FF.", "x.1"] {
            assert!(bad.parse::<FencingToken>().is_err(), "{bad}");
        }
    }
}
