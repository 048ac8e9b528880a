//! Appending: one ordered `insertMany` for a batch.

use std::sync::Arc;

use mongodb::bson::RawDocumentBuf;
use stella_domain::chain::Commit;

use super::{MongoLedger, document, failure::classify};
use crate::port::{AppendError, AppendFailure};

/// BSON of one message at most. The server takes 48,000,000 bytes with what goes around it.
const MESSAGE_BYTES: usize = 40_000_000;
/// Documents of one message at most. The server takes 100,000.
const MESSAGE_DOCUMENTS: usize = 50_000;

impl MongoLedger {
    pub(super) async fn append_all(&self, commits: &[Arc<Commit>]) -> Result<(), AppendError> {
        let mut landed = 0;
        while landed < commits.len() {
            let stopped =
                |more: AppendError| AppendError { landed: landed + more.landed, cause: more.cause };
            // One message an insert: the driver would split a larger one itself, and forget how
            // far it came when a later part fails.
            let documents = next_message(&commits[landed..]).map_err(stopped)?;
            self.insert(&documents).await.map_err(stopped)?;
            landed += documents.len();
        }
        Ok(())
    }

    async fn insert(&self, documents: &[RawDocumentBuf]) -> Result<(), AppendError> {
        let insert = async { self.collection.insert_many(documents).ordered(true).await };
        match tokio::time::timeout(self.options.append_limit(), insert).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => {
                let limit_ms = self.options.append_limit().as_millis();
                let reason = format!("MongoDB did not answer an insert within {limit_ms} ms");
                Err(AppendError { landed: 0, cause: AppendFailure::Unknown(reason) })
            }
        }
    }
}

/// As many documents as fit one message: at least one.
fn next_message(commits: &[Arc<Commit>]) -> Result<Vec<RawDocumentBuf>, AppendError> {
    let mut documents = Vec::with_capacity(commits.len().min(MESSAGE_DOCUMENTS));
    let mut bytes = 0;
    for commit in commits.iter().take(MESSAGE_DOCUMENTS) {
        let document = match document::encode(commit) {
            Ok(document) => document,
            Err(reason) if documents.is_empty() => {
                let cause = AppendFailure::Unavailable(reason);
                return Err(AppendError { landed: 0, cause });
            }
            // Those before it go first.
            Err(_) => break,
        };
        bytes += document.as_bytes().len();
        if bytes > MESSAGE_BYTES && !documents.is_empty() {
            break;
        }
        documents.push(document);
    }
    Ok(documents)
}
