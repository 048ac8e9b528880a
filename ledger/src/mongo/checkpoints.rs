//! Checkpoints and tiles, each in a collection of its own beside the ledger's.
//!
//! Both are made by the first insert; `find` and `insert` on them is all that is needed.

use std::{future::IntoFuture as _, ops::Range};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use mongodb::{
    Collection,
    bson::{Binary, Document, doc, spec::BinarySubtype},
    error::{Error, ErrorKind, WriteFailure},
};
use stella_domain::{hash::Hash32, ids::Tenant, merkle::Tile};

use super::MongoLedger;
use crate::{
    checkpoints::store::{CheckpointStore, NOTES_LIMIT, ROOTS_LIMIT, StoredNote},
    port::LedgerError,
};

/// The collection of signed notes.
pub const CHECKPOINTS: &str = "checkpoints";
/// The collection of the roots of whole tiles.
pub const TILES: &str = "tiles";

/// Tiles of one insert.
const TILES_AT_ONCE: usize = 10_000;
/// Duplicate key (`src/mongo/base/error_codes.yml`).
const DUPLICATE_KEY: i32 = 11000;

impl MongoLedger {
    fn checkpoints(&self) -> Collection<Document> {
        self.database.collection(CHECKPOINTS)
    }

    fn tiles(&self) -> Collection<Document> {
        self.database.collection(TILES)
    }

    async fn note(
        &self,
        sizes: Document,
        direction: i32,
    ) -> Result<Option<StoredNote>, LedgerError> {
        let checkpoints = self.checkpoints();
        let find = checkpoints
            .find_one(doc! { "_id": sizes })
            .sort(doc! { "_id": direction })
            .max_time(self.options.read_timeout);
        let found = self.within("a read", find.into_future()).await?;
        found.as_ref().map(note_of).transpose()
    }
}

/// The note that a document is.
fn note_of(found: &Document) -> Result<StoredNote, LedgerError> {
    let id = found.get_str("_id").unwrap_or_default();
    let size = id.rsplit('/').next().and_then(|digits| digits.parse().ok());
    match (size, found.get_str("note")) {
        (Some(size), Ok(note)) => Ok(StoredNote { size, note: note.to_owned() }),
        _ => Err(LedgerError::Malformed {
            id: format!("{CHECKPOINTS} {id}"),
            reason: "it is no note under <tenant>/<size>".to_owned(),
        }),
    }
}

fn note_key(tenant: &Tenant, size: u64) -> String {
    format!("{tenant}/{size:016}")
}

fn tile_key(tenant: &Tenant, level: u32, index: u64) -> String {
    format!("{tenant}/{level}/{index:016}")
}

/// Whether nothing went wrong but that what was to be inserted is there already.
fn only_duplicates(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(failure) => {
            failure.write_concern_error.is_none()
                && failure
                    .write_errors
                    .as_ref()
                    .is_some_and(|errors| errors.iter().all(|e| e.code == DUPLICATE_KEY))
        }
        ErrorKind::Write(WriteFailure::WriteError(e)) => e.code == DUPLICATE_KEY,
        _ => false,
    }
}

#[async_trait]
impl CheckpointStore for MongoLedger {
    async fn insert_tiles(&self, tenant: &Tenant, tiles: &[Tile]) -> Result<(), LedgerError> {
        for tiles in tiles.chunks(TILES_AT_ONCE) {
            let documents = tiles.iter().map(|tile| {
                let bytes = tile.root.as_bytes().to_vec();
                let root = Binary { subtype: BinarySubtype::Generic, bytes };
                doc! { "_id": tile_key(tenant, tile.id.level, tile.id.index), "root": root }
            });
            let collection = self.tiles();
            let insert = collection.insert_many(documents).ordered(false);
            let insert = async {
                match insert.await {
                    Err(error) if only_duplicates(&error) => Ok(()),
                    outcome => outcome.map(drop),
                }
            };
            self.within("an insert of tiles", insert).await?;
        }
        Ok(())
    }

    async fn tile_roots(
        &self,
        tenant: &Tenant,
        level: u32,
        indices: Range<u64>,
    ) -> Result<Vec<Hash32>, LedgerError> {
        let end = indices.end.min(indices.start.saturating_add(ROOTS_LIMIT));
        if indices.start >= end {
            return Ok(vec![]);
        }
        let first = tile_key(tenant, level, indices.start);
        let range = doc! { "$gte": first, "$lt": tile_key(tenant, level, end) };
        let collection = self.tiles();
        let find = collection
            .find(doc! { "_id": range })
            .sort(doc! { "_id": 1 })
            .batch_size(ROOTS_LIMIT as u32 + 1)
            .max_time(self.options.read_timeout);
        let found = async { find.await?.try_collect::<Vec<Document>>().await };
        let found = self.within("a read", found).await?;
        let mut roots = Vec::with_capacity(found.len());
        for (index, tile) in (indices.start..).zip(&found) {
            let expected = tile_key(tenant, level, index);
            let Ok(root) = tile.get_binary_generic("root") else { break };
            let Ok(root) = <[u8; 32]>::try_from(root.as_slice()) else { break };
            if tile.get_str("_id") != Ok(&expected) {
                break;
            }
            roots.push(Hash32::from(root));
        }
        Ok(roots)
    }

    async fn insert_note(
        &self,
        tenant: &Tenant,
        size: u64,
        note: &str,
    ) -> Result<bool, LedgerError> {
        let collection = self.checkpoints();
        let insert = collection.insert_one(doc! { "_id": note_key(tenant, size), "note": note });
        let insert = async {
            match insert.await {
                Err(error) if only_duplicates(&error) => Ok(false),
                outcome => outcome.map(|_| true),
            }
        };
        self.within("an insert of a checkpoint", insert).await
    }

    async fn note_of(&self, tenant: &Tenant, size: u64) -> Result<Option<StoredNote>, LedgerError> {
        self.note(doc! { "$eq": note_key(tenant, size) }, 1).await
    }

    async fn notes_from(
        &self,
        tenant: &Tenant,
        size: u64,
        limit: usize,
    ) -> Result<Vec<StoredNote>, LedgerError> {
        let limit = limit.min(NOTES_LIMIT);
        if limit == 0 {
            return Ok(vec![]);
        }
        let all = format!("{tenant}0"); // `0` comes after `/`.
        let range = doc! { "$gte": note_key(tenant, size), "$lt": all };
        let checkpoints = self.checkpoints();
        // The casts are exact: at most 1,000. The batch is one larger, else there is a second trip.
        let find = checkpoints
            .find(doc! { "_id": range })
            .sort(doc! { "_id": 1 })
            .limit(limit as i64)
            .batch_size(limit as u32 + 1)
            .max_time(self.options.read_timeout);
        let found = async { find.await?.try_collect::<Vec<Document>>().await };
        self.within("a read", found).await?.iter().map(note_of).collect()
    }

    async fn newest_note(&self, tenant: &Tenant) -> Result<Option<StoredNote>, LedgerError> {
        let all = format!("{tenant}0");
        self.note(doc! { "$gte": note_key(tenant, 0), "$lt": all }, -1).await
    }
}
