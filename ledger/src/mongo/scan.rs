//! Looking through the collection, whatever was done to it.

use std::future::IntoFuture as _;

use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use mongodb::{
    Cursor,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
    error::Error,
    options::Hint,
};
use stella_domain::ids::Tenant;

use super::{
    MongoLedger,
    document::{Decoder, above_keys, lowest_key},
    setup::stream_index,
};
use crate::{
    fsck::scan::{Scan, Stored, StreamPlace},
    port::LedgerError,
};

impl Scan for MongoLedger {
    fn commits<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<Stored, LedgerError>> {
        let range = doc! { "$gte": lowest_key(tenant), "$lt": above_keys(tenant) };
        let find = self.collection.find(doc! { "_id": range }).sort(doc! { "_id": 1 });
        self.each(find.into_future(), |document| Ok(Decoder::default().look(document)))
    }

    fn places<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<StreamPlace, LedgerError>> {
        // By the index, so that nothing is sorted.
        let find = self
            .collection
            .find(doc! { "tenant": tenant.as_str() })
            .sort(stream_index())
            .hint(Hint::Keys(stream_index()))
            .projection(doc! { "stream": 1, "streamVersion": 1, "seq": 1, "lastSeq": 1 });
        self.each(find.into_future(), |document| {
            let place = Document::try_from(document).ok().and_then(|place| {
                Some(StreamPlace {
                    stream: place.get_str("stream").ok()?.to_owned(),
                    version: place.get_i64("streamVersion").ok()?,
                    seq: place.get_i64("seq").ok()?,
                    last_seq: place.get_i64("lastSeq").ok()?,
                })
            });
            // What has not this shape was found among the commits.
            Ok(place)
        })
        .try_filter_map(async |place| Ok(place))
        .boxed()
    }
}

impl MongoLedger {
    /// What `read` makes of each document that is found.
    fn each<'a, T: Send + 'a>(
        &'a self,
        found: impl Future<Output = Result<Cursor<RawDocumentBuf>, Error>> + Send + 'a,
        read: impl Fn(&RawDocument) -> Result<T, LedgerError> + Copy + Send + 'a,
    ) -> BoxStream<'a, Result<T, LedgerError>> {
        let opened = async move {
            let cursor = self.within("a read", found).await?;
            Ok::<_, LedgerError>(stream::try_unfold(cursor, move |mut cursor| async move {
                if !self.within("a read", cursor.advance()).await? {
                    return Ok(None);
                }
                let item = read(cursor.current())?;
                Ok(Some((item, cursor)))
            }))
        };
        stream::once(opened).try_flatten().boxed()
    }
}
