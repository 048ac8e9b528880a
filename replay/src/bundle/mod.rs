//! The bundle of a closed window: what an auditor takes away (`docs/ledger-format.md`, section 10).
//!
//! - [`prove`] makes everything of it but the events, next to the ledger.
//! - [`BundleWriter`] puts events and proof together, wherever they came from: a directory, or an
//!   archive. It keeps nothing of the events in memory.
//!
//! Whether the bundle shows what it should is for `stella_verify` to say, which shares nothing with
//! this but names, types and digests.

mod archive;
mod erasures;
mod proof;
mod write;

pub use self::{
    archive::ARCHIVE_BYTES,
    erasures::ERASURES_BYTES,
    proof::{Extends, Proof, ProveError, prove},
    write::{BundleWriter, Destination, WriteError},
};
