//! Blanking payloads in MongoDB: a client of its own, with a user of its own who may `find` and
//! `update`. The server's own user may do neither update nor delete.

use async_trait::async_trait;
use mongodb::{
    bson::{Binary, Bson, Document, doc, spec::BinarySubtype},
    error::{Error, ErrorKind},
};
use stella_domain::hash::Hash32;

use super::{MongoLedger, MongoOptions, document, failure};
use crate::{
    erasure::{Blanking, EraseError, Eraser},
    port::LedgerError,
};

/// `Unauthorized` and `AuthenticationFailed` (`src/mongo/base/error_codes.yml`).
const REFUSALS: [i32; 2] = [13, 18];
/// Events of one update at most, so that an update of a large commit stays small.
const EVENTS_AT_ONCE: usize = 100;

/// Blanks payloads of ledgers in one MongoDB database.
pub struct MongoEraser(MongoLedger);

impl MongoEraser {
    /// With the credential in `uri`. The server need not be up.
    ///
    /// # Errors
    /// As [`MongoLedger::connect`].
    pub async fn connect(uri: &str, options: MongoOptions) -> Result<Self, LedgerError> {
        MongoLedger::connect(uri, options).await.map(Self)
    }

    /// Answers how many documents the filter found.
    async fn update(&self, filter: Document, update: Document) -> Result<u64, EraseError> {
        let update = async { self.0.collection.update_one(filter, update).await };
        let limit = self.0.options.append_limit();
        match tokio::time::timeout(limit, update).await {
            Ok(Ok(updated)) => Ok(updated.matched_count),
            Ok(Err(error)) if is_refusal(&error) => {
                Err(EraseError::Refused(failure::reason(&error)))
            }
            Ok(Err(error)) => Err(EraseError::Unavailable(failure::reason(&error))),
            Err(_) => Err(EraseError::Unavailable(format!(
                "MongoDB did not answer an update within {} ms",
                limit.as_millis()
            ))),
        }
    }
}

#[async_trait]
impl Eraser for MongoEraser {
    async fn may_blank(&self) -> Result<(), EraseError> {
        // No commit has this key: the server says whether it would, and does nothing.
        let nowhere = doc! { "_id": "" };
        let update = doc! { "$unset": { "events.0.payload": "", "events.0.salt": "" } };
        self.update(nowhere, update).await.map(drop)
    }

    async fn blank(&self, blanking: &Blanking<'_>) -> Result<(), EraseError> {
        let commit = blanking.before();
        let tenant = &commit.ledger.tenant;
        for places in blanking.events().chunks(EVENTS_AT_ONCE) {
            // Nothing of a payload is in the filter: the server may log what it is asked. An
            // event's hash stands for its `payloadHash` and, through it, for payload and salt.
            let mut filter = doc! { "_id": document::key(tenant, commit.seq) };
            let (mut set, mut unset) = (Document::new(), Document::new());
            for place in places {
                let event = &commit.events[*place];
                let member = |name: &str| format!("events.{place}.{name}");
                filter.insert(member("hash"), binary(&event.hash));
                set.insert(member("payloadHash"), binary(&event.payload.hash()));
                unset.insert(member("payload"), "");
                unset.insert(member("salt"), "");
            }
            if self.update(filter, doc! { "$set": set, "$unset": unset }).await? == 0 {
                return Err(EraseError::NotThere { tenant: tenant.clone(), seq: commit.seq });
            }
        }
        Ok(())
    }

    async fn scrub(&self) -> Result<(), EraseError> {
        // The server's files are its own; the operator's guide says what stays in them, how long.
        Ok(())
    }
}

fn binary(hash: &Hash32) -> Bson {
    let bytes = hash.as_bytes().to_vec();
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

fn is_refusal(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Command(command) => REFUSALS.contains(&command.code),
        ErrorKind::Authentication { .. } => true,
        _ => false,
    }
}
