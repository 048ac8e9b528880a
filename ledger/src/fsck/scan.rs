//! What is stored, as it stands: damage does not end the reading.
//!
//! [`Ledger`](crate::port::Ledger) never hands out what does not hold; this is for those who want to know what else
//! does not.

use futures::stream::BoxStream;
use stella_domain::{chain::Commit, ids::Tenant};

use crate::port::LedgerError;

/// A stored commit, and what is wrong with it by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key in the storage.
    pub id: String,
    /// What it holds, as far as it has the shape of a commit. Its hashes were not looked at.
    pub commit: Option<Commit>,
    /// Why it has not that shape, or does not belong where it stands.
    pub misplaced: Option<String>,
}

/// Where a commit stands in its stream, by the storage's own columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlace {
    /// The stream.
    pub stream: String,
    /// Version of its first event.
    pub version: i64,
    /// Seq of its first event.
    pub seq: i64,
    /// Seq of its last event.
    pub last_seq: i64,
}

/// A storage that can be looked through, whatever was done to it.
pub trait Scan: Send + Sync + 'static {
    /// Every stored commit of a tenant by its key, which is by seq.
    ///
    /// An error ends it: the storage does not answer, or cannot be read at all.
    fn commits<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<Stored, LedgerError>>;

    /// Where each commit stands in its stream, by stream and version. Needs the index over them.
    fn places<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<StreamPlace, LedgerError>>;
}
