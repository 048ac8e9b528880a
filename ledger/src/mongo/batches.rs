//! What a query finds, a batch at a time as the server sends it: no document is copied, and the next
//! batch is on its way while one is looked at.

use futures::StreamExt as _;
use mongodb::{
    action::Find,
    bson::{RawArray, RawDocument, RawDocumentBuf, raw::RawBsonRef},
    error::{Error, Result},
    raw_batch_cursor::{RawBatch, RawBatchCursor},
};
use tokio::task::JoinHandle;

/// Documents of a batch: few enough that looking at one hides the fetching of the next, enough that
/// a trip to the server does not count.
pub(super) const BATCH: u32 = 600;

/// What a query finds.
pub(super) enum Batches {
    /// The next one has been asked for.
    Coming(JoinHandle<(Option<Result<RawBatch>>, RawBatchCursor)>),
    /// The server has no more, or what it said last was an error.
    Over,
}

/// Documents as the server sent them.
pub(super) struct Batch(RawBatch);

impl Batches {
    /// Ask, and wait for the first batch.
    pub(super) async fn of(find: Find<'_, RawDocumentBuf>) -> Result<(Batch, Self)> {
        let mut cursor = find.batch().await?;
        // It came with the answer, so nothing is waited for here.
        let first = cursor.next().await.transpose()?;
        let first = first.ok_or_else(|| broken("a query was answered without a batch"))?;
        let rest = Self::after(&first, cursor);
        Ok((Batch(first), rest))
    }

    /// The next batch, if there is one.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        let Self::Coming(fetch) = self else { return Ok(None) };
        let fetched = fetch.await;
        *self = Self::Over;
        let (batch, cursor) = fetched.map_err(|_| broken("reading was interrupted"))?;
        let Some(batch) = batch.transpose()? else { return Ok(None) };
        *self = Self::after(&batch, cursor);
        Ok(Some(Batch(batch)))
    }

    /// A cursor that is not used up is dropped, and so ended, with whoever fetches from it.
    fn after(batch: &RawBatch, mut cursor: RawBatchCursor) -> Self {
        let id =
            batch.as_raw_document().get_document("cursor").and_then(|about| about.get_i64("id"));
        match id {
            Ok(0) => Self::Over,
            _ => Self::Coming(tokio::spawn(async move { (cursor.next().await, cursor) })),
        }
    }
}

impl Batch {
    /// Its documents, in the order of the query.
    pub(super) fn documents(&self) -> Result<impl Iterator<Item = Result<&RawDocument>>> {
        let documents: &RawArray = self.0.doc_slices()?;
        Ok(documents.into_iter().map(|document| match document {
            Ok(RawBsonRef::Document(document)) => Ok(document),
            Ok(_) => Err(broken("a batch holds what is no document")),
            Err(error) => Err(broken(&error.to_string())),
        }))
    }
}

fn broken(what: &str) -> Error {
    Error::custom(what.to_owned())
}
