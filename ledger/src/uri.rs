//! Where a ledger is kept, as users write it.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use crate::{
    checkpoints::store::CheckpointStore,
    erasure::Eraser,
    fsck::scan::Scan,
    mongo::{MadeRole, MongoEraser, MongoLedger, MongoOptions, RoleError},
    port::{Ledger, LedgerError},
    sqlite::{SqliteEraser, SqliteLedger},
};

/// `sqlite:PATH`, or a MongoDB connection string.
#[derive(Clone, PartialEq, Eq)]
pub enum LedgerUri {
    /// The embedded ledger: a file on this machine.
    Sqlite(PathBuf),
    /// A MongoDB replica set.
    Mongo(String),
}

/// One storage, by what it is used for.
#[derive(Clone)]
pub struct Storage {
    /// The record.
    pub ledger: Arc<dyn Ledger>,
    /// Its checkpoints and tiles.
    pub checkpoints: Arc<dyn CheckpointStore>,
}

impl Storage {
    /// What one implementation of both ports stores.
    pub fn of(storage: impl Ledger + CheckpointStore) -> Self {
        let storage = Arc::new(storage);
        Self { ledger: storage.clone(), checkpoints: storage }
    }
}

/// Why a text does not say where a ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a ledger: write sqlite:PATH, or mongodb://HOST[,HOST]/?replicaSet=NAME")]
pub struct LedgerUriError(String);

impl FromStr for LedgerUri {
    type Err = LedgerUriError;
    fn from_str(text: &str) -> Result<Self, LedgerUriError> {
        if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
            return Ok(Self::Mongo(text.to_owned()));
        }
        match text.strip_prefix("sqlite:").map(|path| path.trim_start_matches("//")) {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(_) | None => Err(LedgerUriError(without_password(text))),
        }
    }
}

impl fmt::Display for LedgerUri {
    /// Without the password, if there is one: this is for logs and screens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mongo(uri) => f.write_str(&without_password(uri)),
        }
    }
}

impl fmt::Debug for LedgerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let hosts = rest.split('/').next().unwrap_or(rest);
    match hosts.rsplit_once('@') {
        Some((credentials, _)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***{}", &rest[credentials.len()..])
        }
        None => uri.to_owned(),
    }
}

impl LedgerUri {
    /// Open the ledger; where there is none yet, make room for one.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when the storage does not answer.
    pub async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        let ledger = self.connect().await?.ledger;
        ledger.make_room().await?;
        Ok(ledger)
    }

    /// The way to the storage, for those who go on without it for a while: a server that stores it
    /// need not answer yet, and [room](Ledger::make_room) is still to be made.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when a file cannot be opened, or when the URI is not one that
    /// the driver takes.
    pub async fn connect(&self) -> Result<Storage, LedgerError> {
        match self {
            Self::Sqlite(path) => Ok(Storage::of(SqliteLedger::open(path).await?)),
            Self::Mongo(uri) => {
                Ok(Storage::of(MongoLedger::connect(uri, MongoOptions::default()).await?))
            }
        }
    }

    /// The way to look through the storage, whatever was done to it. Nothing is written.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn scan(&self) -> Result<Arc<dyn Scan>, LedgerError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteLedger::open(path).await?),
            Self::Mongo(uri) => Arc::new(MongoLedger::connect(uri, MongoOptions::default()).await?),
        })
    }

    /// The way to blank payloads there, with the credential that this names.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn eraser(&self) -> Result<Arc<dyn Eraser>, LedgerError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteEraser::open(path).await?),
            Self::Mongo(uri) => Arc::new(MongoEraser::connect(uri, MongoOptions::default()).await?),
        })
    }

    /// Put back whatever the storage's set-up lacks, also where a ledger has begun: something that
    /// people decide, hence apart from [`open`](Self::open). An index on a large ledger takes time.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] with the server's reason.
    pub async fn set_up(&self) -> Result<(), LedgerError> {
        match self {
            // Opening sees to all of it.
            Self::Sqlite(_) => self.open().await.map(drop),
            Self::Mongo(uri) => {
                MongoLedger::connect(uri, MongoOptions::default()).await?.setup().await
            }
        }
    }

    /// Make the role that lets a server append, and nothing else.
    ///
    /// # Errors
    /// [`RoleError`]; [`RoleError::NoRoles`] where storages know no users.
    pub async fn make_role(&self, name: &str) -> Result<MadeRole, RoleError> {
        match self {
            Self::Sqlite(_) => Err(RoleError::NoRoles),
            Self::Mongo(uri) => {
                let ledger = MongoLedger::connect(uri, MongoOptions::default()).await?;
                ledger.make_append_only_role(name).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_kinds_parse_and_passwords_stay_hidden() {
        assert_eq!("sqlite:a/b.db".parse(), Ok(LedgerUri::Sqlite("a/b.db".into())));
        assert_eq!("sqlite:///a.db".parse(), Ok(LedgerUri::Sqlite("/a.db".into())));
        let uri: LedgerUri = "mongodb://ann:s3cret@h1,h2/db?replicaSet=rs0".parse().unwrap();
        assert_eq!(uri.to_string(), "mongodb://ann:***@h1,h2/db?replicaSet=rs0");
        for bad in ["", "sqlite:", "postgres://x", "ledger.db"] {
            assert!(bad.parse::<LedgerUri>().is_err(), "{bad}");
        }
    }
}
