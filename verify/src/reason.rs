//! What can be wrong with a line. Clear enough for an auditor who has nothing but the file.

use stella_domain::{
    hash::Hash32,
    ids::IdError,
    limits::{COMMIT_BYTES, COMMIT_EVENTS},
    time::TimestampError,
};

use crate::scan::FormError;

/// Why a line is not what the ledger wrote, or does not follow the line before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields hold")]
pub enum Reason {
    // The line by itself.
    #[error("the line is longer than {limit} bytes, which no event needs")]
    LineTooLong { limit: usize },
    #[error("the last line does not end with a line feed: the file was cut off")]
    NoLineFeed,
    #[error("the line is empty")]
    EmptyLine,
    #[error("the line is not UTF-8 from byte {offset} on")]
    NotUtf8 { offset: usize },
    #[error("the file begins with a byte order mark: something rewrote it")]
    ByteOrderMark,
    #[error("the line ends with a carriage return: something rewrote the line ends")]
    CarriageReturn,
    #[error("not in the ledger's canonical form {0}")]
    Form(#[from] FormError),
    #[error("the {part} has {bytes} bytes, more than the {limit} of the format")]
    PartTooLarge { part: &'static str, bytes: usize, limit: usize },
    #[error("{found:?} is not an event type: a capital letter and up to 63 letters and digits")]
    EventType { found: String },
    #[error("`schema` and `streamVersion` count from 1")]
    ZeroVersion,
    #[error("`salt` is not 32 lower-case hex digits")]
    Salt,
    #[error("`{member}` is not 64 lower-case hex digits")]
    NotHex { member: &'static str },
    #[error(
        "the content gives `{member}` {computed}, but {stored} is written there: \
         it was changed after it was recorded"
    )]
    Hash { member: &'static str, stored: Hash32, computed: Hash32 },
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("`recordedAt`: {0}")]
    RecordedAt(#[from] TimestampError),

    // The line after those before it.
    #[error("seq {found} stands where seq {expected} should: a line is missing, repeated or moved")]
    Seq { expected: u64, found: u64 },
    #[error("`prev` is {found}, but the event before has the hash {expected}")]
    Prev { expected: Hash32, found: Hash32 },
    #[error("the event belongs to the ledger {found}, those before it to {expected}")]
    OtherLedger { expected: String, found: String },
    #[error("it was recorded at {found}, before the event before it, at {before}")]
    BackInTime { before: String, found: String },
    #[error("it was recorded at {found}, outside the window")]
    OutsideWindow { found: String },
    #[error(
        "`commitSeq` is {found}: a commit begins at this event's own seq or is that of seq {own}"
    )]
    CommitSeq { own: u64, found: u64 },
    #[error("the first line stands within the commit of seq {commit_seq}: a window cuts no commit")]
    CutCommit { commit_seq: u64 },
    #[error("the event belongs to the commit before it, but has another `{member}`")]
    OtherInCommit { member: &'static str },
    #[error("the commit has more than {COMMIT_EVENTS} events or {COMMIT_BYTES} bytes")]
    CommitTooLarge,
    #[error("`streamVersion` {found} follows {before} in the same stream")]
    StreamVersion { before: u64, found: u64 },
    #[error("a ledger begins with LedgerOpened in its own stream, version 1, and `prev` zeros")]
    NotOpened,
}
