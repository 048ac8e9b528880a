//! The collections, the unique keys of the ledger, and the validators.

use futures::TryStreamExt;
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc},
    error::ErrorKind,
    options::IndexOptions,
};

use super::{CHECKPOINTS, MongoLedger, TILES, failure};
use crate::port::LedgerError;

/// `NamespaceExists` and `NamespaceNotFound` (`src/mongo/base/error_codes.yml`).
const NAMESPACE_EXISTS: i32 = 48;
const NAMESPACE_NOT_FOUND: i32 = 26;

/// The unique key that no two commits of a stream share.
pub(super) fn stream_index() -> Document {
    doc! { "tenant": 1, "stream": 1, "streamVersion": 1 }
}

impl MongoLedger {
    /// Create the collections, the ledger's unique index, and the validators, whatever of it is
    /// missing. Where nothing is, nothing is written, and no privilege beyond reading is needed.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] with the server's reason.
    pub async fn setup(&self) -> Result<(), LedgerError> {
        self.set_up_collection(self.collection.name(), commits_only()).await?;
        self.set_up_collection(TILES, only(&[("_id", "string"), ("root", "binData")])).await?;
        self.set_up_collection(CHECKPOINTS, only(&[("_id", "string"), ("note", "string")])).await?;
        if !self.indexes().await?.iter().any(is_stream_index) {
            let unique = IndexOptions::builder().unique(true).build();
            let index = IndexModel::builder().keys(stream_index()).options(unique).build();
            // No limit of time: it reads the whole collection.
            let created = self.collection.create_index(index).await;
            created.map_err(|error| failure::unavailable(&error))?;
        }
        Ok(())
    }

    async fn set_up_collection(&self, name: &str, validator: Document) -> Result<(), LedgerError> {
        let failed = |error| failure::unavailable(&error);
        let database = &self.database;
        let mut found =
            database.list_collections().filter(doc! { "name": name }).await.map_err(failed)?;
        match found.try_next().await.map_err(failed)? {
            None => match database.create_collection(name).validator(validator).await {
                // Another node was faster; it made the same one.
                Err(error) if has_code(&error, NAMESPACE_EXISTS) => Ok(()),
                created => created.map_err(failed),
            },
            Some(found) if found.options.validator.as_ref() != Some(&validator) => {
                let command = doc! {
                    "collMod": name,
                    "validator": validator,
                    "writeConcern": { "w": "majority" },
                };
                database.run_command(command).await.map(drop).map_err(failed)
            }
            Some(_) => Ok(()),
        }
    }

    /// [`setup`](Self::setup) for a database that holds no ledger yet: no collection, or one without
    /// a commit, as a crash between making it and its index leaves it behind. In one that does, a
    /// missing index is a finding for people, not something to be put back unseen.
    ///
    /// # Errors
    /// As [`setup`](Self::setup).
    pub async fn setup_if_new(&self) -> Result<(), LedgerError> {
        let named = doc! { "name": self.collection.name() };
        let found = self.database.list_collections().filter(named).await;
        let mut found = found.map_err(|error| failure::unavailable(&error))?;
        match found.try_next().await.map_err(|error| failure::unavailable(&error))? {
            None => self.setup().await,
            Some(_) if self.indexes().await?.iter().any(is_stream_index) => Ok(()),
            Some(_) => {
                let first = self.collection.find_one(doc! {}).projection(doc! { "_id": 1 });
                match self.within("a read", async { first.await }).await? {
                    None => self.setup().await,
                    Some(_) => Ok(()),
                }
            }
        }
    }

    /// The collection's indexes; none when there is no collection.
    pub(super) async fn indexes(&self) -> Result<Vec<IndexModel>, LedgerError> {
        let list = async {
            match self.collection.list_indexes().await {
                Ok(cursor) => cursor.try_collect().await,
                Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => Ok(vec![]),
                Err(error) => Err(error),
            }
        };
        self.within("listIndexes", list).await
    }
}

/// Whether `index` keeps the commits of a stream apart, all of them.
pub(super) fn is_stream_index(index: &IndexModel) -> bool {
    has_keys(index, &stream_index())
        && index.options.as_ref().is_some_and(|options| {
            options.unique == Some(true)
                && options.sparse != Some(true)
                && options.partial_filter_expression.is_none()
                && options.collation.is_none()
        })
}

/// Whether `index` has these ascending keys, in this order.
pub(super) fn has_keys(index: &IndexModel, keys: &Document) -> bool {
    index.keys.len() == keys.len()
        && index
            .keys
            .iter()
            .zip(keys.keys())
            .all(|((name, direction), key)| name == key && is_ascending(direction))
}

/// The shells write directions as any kind of number.
pub(super) fn is_ascending(direction: &Bson) -> bool {
    matches!(direction, Bson::Int32(1) | Bson::Int64(1)) || *direction == Bson::Double(1.0)
}

pub(super) fn has_code(error: &mongodb::error::Error, code: i32) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == code)
}

/// Keeps out what is no commit at all. Whether a commit is sound, its hashes say; the check is
/// shallow because every insert pays for it.
fn commits_only() -> Document {
    only(&[
        ("_id", "string"),
        ("origin", "string"),
        ("tenant", "string"),
        ("seq", "long"),
        ("lastSeq", "long"),
        ("stream", "string"),
        ("streamVersion", "long"),
        ("recordedAt", "long"),
        ("actor", "string"),
        ("prev", "binData"),
        ("events", "array"),
    ])
}

/// Documents with exactly these members.
fn only(types: &[(&str, &str)]) -> Document {
    let required: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
    let properties: Document = types
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), doc! { "bsonType": kind }.into()))
        .collect();
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    } }
}
