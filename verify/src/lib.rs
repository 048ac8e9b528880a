//! Offline verification: what bytes alone can show about a ledger, in the format of
//! `docs/ledger-format.md`.
//!
//! No network, no server, no configuration, no clock: whoever holds the bytes and a pinned key
//! needs nothing else, and can put this library into a program of their own.
//!
//! - [`ndjson`]: whether lines are an unbroken piece of one ledger (section 6). What a chain alone
//!   cannot show: that lines are missing at the very beginning or end, that the whole chain was
//!   rewritten, and whether an erasure was legal.

mod chain;
mod line;
mod lines;
pub mod ndjson;
mod reason;
mod scan;

pub use self::{
    line::{HexHash, LINE_BYTES, Line, hash_of},
    reason::Reason,
    scan::FormError,
};
