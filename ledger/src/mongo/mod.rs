//! The ledger in MongoDB: one document per commit, insert only; payloads are blanked by another
//! client, with a credential of its own.
//!
//! A single document is written whole or not at all, so no transactions are used. Writes are
//! acknowledged by a majority, from their journals; reads see what a majority has.

mod append;
mod batches;
mod checkpoints;
mod document;
mod elements;
mod erase;
mod failure;
mod findings;
mod read;
mod role;
mod scan;
mod setup;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mongodb::{
    Client, Collection, Database,
    bson::RawDocumentBuf,
    options::{
        Acknowledgment, ClientOptions, DatabaseOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use stella_domain::{
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};

pub use self::{
    checkpoints::{CHECKPOINTS, TILES},
    erase::MongoEraser,
    role::{APPEND_ONLY_ROLE, MadeRole, RoleError},
};
use crate::{
    port::{AppendError, Finding, Ledger, LedgerError, Prepared},
    sound::Sound,
};

/// The collection that holds the ledgers of all tenants.
pub const COLLECTION: &str = "ledger";
/// The database, where the URI names none.
pub const DATABASE: &str = "stella";

/// Connections per server where the URI does not say; the driver's own default of 10 would let
/// reads hold up appends.
const POOL_SIZE: u32 = 64;

/// How long to wait for what. Short, so that an outage is answered and not waited out.
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// The database; `None`: the one that the URI names, else [`DATABASE`].
    pub database: Option<String>,
    /// How long to look for a primary; also how long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a majority may take to acknowledge an append, once it is written (`wtimeout`).
    pub append_timeout: Duration,
    /// How long the server may work at one read.
    pub read_timeout: Duration,
    /// How often an append looks whether the unique indexes are still there.
    pub check_every: Duration,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            database: None,
            connect_timeout: Duration::from_secs(3),
            append_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(5),
            check_every: Duration::from_secs(10),
        }
    }
}

impl MongoOptions {
    /// When an insert is given up. The driver has no limit of its own for a server that keeps the
    /// connection and says nothing.
    fn append_limit(&self) -> Duration {
        self.connect_timeout + self.append_timeout + Duration::from_secs(1)
    }

    fn read_limit(&self) -> Duration {
        self.connect_timeout + self.read_timeout + Duration::from_secs(1)
    }
}

/// Ledgers in one MongoDB database.
pub struct MongoLedger {
    database: Database,
    collection: Collection<RawDocumentBuf>,
    options: MongoOptions,
    sound: Sound,
}

impl MongoLedger {
    /// A ledger at `uri`. The server need not be up: what is asked of it meanwhile is
    /// [`LedgerError::Unavailable`], and works as soon as it is back. [`Ledger::findings`] says
    /// whether it is there and sound; [`setup`](Self::setup) makes it so.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] when `uri` is not a MongoDB connection string, or names a
    /// `mongodb+srv` host that does not resolve.
    pub async fn connect(uri: &str, options: MongoOptions) -> Result<Self, LedgerError> {
        let unusable = |error: mongodb::error::Error| {
            LedgerError::Unavailable(format!("the MongoDB URI: {}", failure::reason(&error)))
        };
        let mut client = ClientOptions::parse(uri).await.map_err(unusable)?;
        client.server_selection_timeout = Some(options.connect_timeout);
        client.connect_timeout = Some(options.connect_timeout);
        client.max_pool_size.get_or_insert(POOL_SIZE);
        client.app_name.get_or_insert_with(|| "stella".to_owned());
        let name = options
            .database
            .clone()
            .or_else(|| client.default_database.clone())
            .unwrap_or_else(|| DATABASE.to_owned());
        let client = Client::with_options(client).map_err(unusable)?;
        // Whatever the URI says: the ledger rests on these.
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(options.append_timeout)
            .build();
        let database = client.database_with_options(
            &name,
            DatabaseOptions::builder()
                .read_concern(ReadConcern::majority())
                .write_concern(durable)
                .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
                .build(),
        );
        let collection = database.collection(COLLECTION);
        let sound = Sound::new(options.check_every);
        Ok(Self { database, collection, options, sound })
    }

    /// `work` with the limit of a read.
    async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T, LedgerError> {
        let limit = self.options.read_limit();
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome.map_err(|error| failure::unavailable(&error)),
            Err(_) => Err(LedgerError::Unavailable(format!(
                "MongoDB did not answer {what} within {} ms",
                limit.as_millis()
            ))),
        }
    }
}

#[async_trait]
impl Ledger for MongoLedger {
    async fn make_room(&self) -> Result<(), LedgerError> {
        self.setup_if_new().await
    }

    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        // Why it cannot be stored is found out again when it is to be.
        let stored = document::encode(&commit).ok().map(|document| document.into_bytes().into());
        Prepared { commit, stored }
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.sound.check(self.set_up_findings()).await?;
        self.append_all(commits).await
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        let last = self.commit_at_or_before(tenant, document::LAST_SEQ).await?;
        Ok(last.map_or(Head::EMPTY, |commit| commit.head()))
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.nothing_at(tenant, next_seq).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.commits_from(tenant, from_seq, limit).await
    }

    async fn read_streams(
        &self,
        tenant: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        self.commits_of(tenant, streams).await
    }

    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.commits_of_one(tenant, stream, from_version, limit).await
    }

    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.first_since(tenant, time).await
    }

    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.tenants_by_name(limit).await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.local_time().await.map(Some)
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.all_findings().await
    }
}
