//! Appending: one ordered `insert` for a batch.
//!
//! The command is put together here, of documents that were made ahead: the driver's own way copies
//! each of them three times and keeps its id, while the server has nothing to do. It also sends an
//! insert again by itself, for which the server keeps a second record of every document; the writer,
//! which compares hashes, needs no such help.

use mongodb::bson::{self, RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use super::{COLLECTION, MongoLedger, document, failure};
use crate::port::{AppendError, AppendFailure, Prepared};

/// BSON of the documents of one command at most. The server takes 16 MiB with what goes around them.
const COMMAND_BYTES: usize = 15_000_000;
/// Documents of one command at most. The server takes 100,000.
const COMMAND_DOCUMENTS: usize = 50_000;

impl MongoLedger {
    pub(super) async fn append_all(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        let mut landed = 0;
        while landed < commits.len() {
            let stopped =
                |more: AppendError| AppendError { landed: landed + more.landed, cause: more.cause };
            let documents = next_documents(&commits[landed..]).map_err(stopped)?;
            let sent = documents.len();
            self.insert(documents).await.map_err(stopped)?;
            landed += sent;
        }
        Ok(())
    }

    async fn insert(&self, documents: Vec<RawDocumentBuf>) -> Result<(), AppendError> {
        let sent = documents.len();
        let command = self.insert_of(documents).map_err(|reason| AppendError {
            landed: 0,
            cause: AppendFailure::Unavailable(reason),
        })?;
        let insert = self.database.run_raw_command(command);
        match tokio::time::timeout(self.options.append_limit(), async { insert.await }).await {
            Ok(Ok(answer)) => failure::of_answer(&answer, sent),
            Ok(Err(error)) => Err(failure::classify(&error)),
            Err(_) => {
                let limit_ms = self.options.append_limit().as_millis();
                let reason = format!("MongoDB did not answer an insert within {limit_ms} ms");
                Err(AppendError { landed: 0, cause: AppendFailure::Unknown(reason) })
            }
        }
    }

    /// `insert`, as MongoDB's manual has it among the database commands. A command that is put together
    /// here gets no write concern by itself: it is that of the database.
    fn insert_of(&self, documents: Vec<RawDocumentBuf>) -> Result<RawDocumentBuf, String> {
        let durable = self.database.write_concern().ok_or("no write concern is set")?;
        let durable = bson::to_raw_document_buf(durable).map_err(|error| error.to_string())?;
        let mut array = RawArrayBuf::new();
        documents.into_iter().for_each(|document| array.push(document));
        let mut command = rawdoc! { "insert": COLLECTION, "ordered": true };
        command.append("writeConcern", durable);
        command.append("documents", array);
        Ok(command)
    }
}

/// As many documents as fit one command: at least one.
fn next_documents(commits: &[Prepared]) -> Result<Vec<RawDocumentBuf>, AppendError> {
    let mut documents = Vec::with_capacity(commits.len().min(COMMAND_DOCUMENTS));
    let mut bytes = 0;
    for commit in commits.iter().take(COMMAND_DOCUMENTS) {
        let document = match document_of(commit) {
            Ok(document) => document,
            Err(reason) if documents.is_empty() => {
                let cause = AppendFailure::Unavailable(reason);
                return Err(AppendError { landed: 0, cause });
            }
            // Those before it go first.
            Err(_) => break,
        };
        bytes += document.as_bytes().len();
        if bytes > COMMAND_BYTES && !documents.is_empty() {
            break;
        }
        documents.push(document);
    }
    Ok(documents)
}

fn document_of(commit: &Prepared) -> Result<RawDocumentBuf, String> {
    match commit.stored.as_deref().map(RawDocument::from_bytes) {
        Some(Ok(document)) => Ok(document.to_owned()),
        Some(Err(_)) | None => document::encode(&commit.commit),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use mongodb::bson::{Document, doc};

    use super::*;
    use crate::mongo::MongoOptions;

    #[tokio::test]
    async fn an_insert_is_durable_whatever_the_uri_says() {
        let uri = "mongodb://127.0.0.1:1/?w=1&journal=false";
        let ledger = MongoLedger::connect(uri, MongoOptions::default()).await.unwrap();
        let command: Document = (&*ledger.insert_of(vec![]).unwrap()).try_into().unwrap();
        let limit = i32::try_from(ledger.options.append_timeout.as_millis()).unwrap();
        let durable = doc! { "w": "majority", "wtimeout": limit, "j": true };
        assert_eq!(command.get_document("writeConcern"), Ok(&durable));
        assert_eq!(command.get_bool("ordered"), Ok(true));
    }
}
