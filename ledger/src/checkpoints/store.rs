//! What is stored beside the ledger: signed notes for ever, and roots of tiles, which can be
//! computed again from the events. MongoDB and SQLite implement it.

use std::ops::Range;

use async_trait::async_trait;
use stella_domain::{
    hash::Hash32,
    ids::Tenant,
    merkle::{TILE_WIDTH, Tile},
};

use crate::port::LedgerError;

/// Roots that one read returns at most: the hashes of one tile.
pub const ROOTS_LIMIT: u64 = TILE_WIDTH as u64;

/// Notes that one read returns at most.
pub const NOTES_LIMIT: usize = 1_000;

/// A signed note as stored; whether it holds is for the reader to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNote {
    /// The tree size that it is stored under.
    pub size: u64,
    /// The note's text.
    pub note: String,
}

/// The insert-only store of a ledger's checkpoints and tiles.
///
/// Invariants: at most one note for a tenant and size, at most one root for a tenant, level and
/// index; neither is ever changed. What was acknowledged is durable.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Store the roots of whole tiles; those that are there already stay as they are.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]: some may be stored. Do it again.
    async fn insert_tiles(&self, tenant: &Tenant, tiles: &[Tile]) -> Result<(), LedgerError>;

    /// The stored roots of the tiles of `level` from the first of `indices` on, at most
    /// [`ROOTS_LIMIT`]: they end before the first that is missing, or is no hash at all.
    async fn tile_roots(
        &self,
        tenant: &Tenant,
        level: u32,
        indices: Range<u64>,
    ) -> Result<Vec<Hash32>, LedgerError>;

    /// Store a note for this size; answers `false`, and stores nothing, where one is there.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]: it may be stored. Do it again.
    async fn insert_note(
        &self,
        tenant: &Tenant,
        size: u64,
        note: &str,
    ) -> Result<bool, LedgerError>;

    /// The note of exactly this size.
    async fn note_of(&self, tenant: &Tenant, size: u64) -> Result<Option<StoredNote>, LedgerError>;

    /// The notes of the smallest sizes that are at least this one, by size, at most `limit` (and at
    /// most [`NOTES_LIMIT`]).
    async fn notes_from(
        &self,
        tenant: &Tenant,
        size: u64,
        limit: usize,
    ) -> Result<Vec<StoredNote>, LedgerError>;

    /// The note of the smallest size that is at least this one.
    async fn note_from(
        &self,
        tenant: &Tenant,
        size: u64,
    ) -> Result<Option<StoredNote>, LedgerError> {
        Ok(self.notes_from(tenant, size, 1).await?.pop())
    }

    /// The note of the largest size.
    async fn newest_note(&self, tenant: &Tenant) -> Result<Option<StoredNote>, LedgerError>;
}
