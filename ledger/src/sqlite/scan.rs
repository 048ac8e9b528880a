//! Looking through the file, whatever was done to it.

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use sqlx::{Row as _, sqlite::SqliteRow};
use stella_domain::ids::Tenant;

use super::{SqliteLedger, read_error, row::Decoder};
use crate::{
    fsck::scan::{Scan, Stored, StreamPlace},
    port::LedgerError,
};

const COMMITS: &str = "SELECT * FROM ledger WHERE tenant = ? ORDER BY seq";
/// By the index over these, as far as it is there.
const PLACES: &str = "\
    SELECT stream, stream_version, seq, last_seq FROM ledger WHERE tenant = ? \
    ORDER BY stream, stream_version";

impl Scan for SqliteLedger {
    fn commits<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<Stored, LedgerError>> {
        let rows = sqlx::query(COMMITS).bind(tenant.as_str()).fetch(&self.readers);
        rows.map_err(read_error).map_ok(|row| Decoder::new(tenant).look(&row)).boxed()
    }

    fn places<'a>(&'a self, tenant: &'a Tenant) -> BoxStream<'a, Result<StreamPlace, LedgerError>> {
        let rows = sqlx::query(PLACES).bind(tenant.as_str()).fetch(&self.readers);
        rows.map(|row| row.and_then(|row| stream_place(&row)).map_err(read_error)).boxed()
    }
}

fn stream_place(row: &SqliteRow) -> Result<StreamPlace, sqlx::Error> {
    Ok(StreamPlace {
        stream: row.try_get("stream")?,
        version: row.try_get("stream_version")?,
        seq: row.try_get("seq")?,
        last_seq: row.try_get("last_seq")?,
    })
}
