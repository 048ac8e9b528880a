//! The limits of the format and of what is let in, in one place.

/// Canonical bytes that an event's `data` or its `payload` may have (ledger format, section 2).
pub const EVENT_PART_BYTES: usize = 64 * 1024;
/// Canonical bytes of inputs or outputs that an event holds itself: the rest of
/// [`EVENT_PART_BYTES`] is for what the ledger puts around them. What is larger becomes an artifact.
pub const INLINE_BYTES: usize = 60 * 1024;
/// Bytes of one file that a step leaves.
pub const FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of one step's log that are kept.
pub const LOG_BYTES: usize = 16 * 1024 * 1024;
/// Events in one commit (ledger format, section 2).
pub const COMMIT_EVENTS: usize = 1_000;
/// Canonical bytes of all data and payloads of one commit (ledger format, section 2).
pub const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// Steps of one run that stand in the queue at a time; the others follow as these are leased, so
/// that a wide DAG's commits stay small.
pub const QUEUE_WAVE: usize = 256;
/// Leases of one step that may expire before the step fails; apart from the author's retries,
/// because a lost worker is not the step's fault, but one that kills its workers must end.
pub const LEASE_EXPIRIES: u32 = 3;
/// Times that workers may give one step back before it fails. A worker that stops does so, and a step
/// of days survives each deploy; a worker that does nothing else must not fill the ledger.
pub const LEASE_RETURNS: u32 = 100;
/// Bytes of a plugin's or worker's error message that are kept.
pub const MESSAGE_BYTES: usize = 4 * 1024;
/// Bytes of what is said about a condition or a list without an answer. One commit may have such a
/// failure for every step of a DAG, and keeps below [`COMMIT_BYTES`].
pub const EXPRESSION_MESSAGE_BYTES: usize = 1_024;
/// Labels on a run.
pub const LABELS: usize = 32;
/// Seconds that clocks may differ before a writer refuses to write (ledger format, section 4).
pub const CLOCK_TOLERANCE_MICROS: i64 = 5_000_000;
/// Seqs that one `DataErased` names at most, so that its data keeps far from [`EVENT_PART_BYTES`].
pub const ERASED_SEQS: usize = 2_000;
/// `DataErased` events of one commit: with full data and reasons they keep below [`COMMIT_BYTES`].
pub const ERASURES_AT_ONCE: usize = 100;
/// Bytes of the reason that somebody gives for what they do. That of an erasure stands in each of its
/// events.
pub const REASON_BYTES: usize = 1_024;
/// Upper bounds of the buckets of run durations, in milliseconds, each inclusive; one more bucket
/// takes what is above the last.
pub const DURATION_BUCKETS_MS: [u64; 16] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000,
    7_200_000,
];
