//! Looking over a SQLite file that somebody damaged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "common/histories.rs"]
#[allow(dead_code)] // Shared with the tests of the signer.
mod histories;
#[path = "common/looked_over.rs"]
mod looked_over;

use std::{path::PathBuf, sync::Arc};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use stella_ledger::{fsck::scan::Scan, sqlite::SqliteLedger, uri::Storage};
use tempfile::TempDir;

use crate::looked_over::{
    Damage, Place, commits_that_overlap_are_found, everything_wrong_is_found,
    payloads_and_erasures_fit,
};

struct Damaged {
    dir: TempDir,
    storage: Storage,
    scan: Arc<dyn Scan>,
}

impl Damaged {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = async || SqliteLedger::open(file(&dir)).await.unwrap();
        let (storage, scan) = (Storage::of(open().await), Arc::new(open().await));
        Self { dir, storage, scan }
    }

    /// Past the triggers.
    async fn run(&self, sql: String) {
        let guards = ["ledger_no", "tiles_no", "checkpoints_no"].map(|guard| {
            format!("DROP TRIGGER IF EXISTS {guard}_update; DROP TRIGGER IF EXISTS {guard}_delete;")
        });
        let options = SqliteConnectOptions::new().filename(file(&self.dir));
        let mut connection = options.connect().await.unwrap();
        let sql = AssertSqlSafe(format!("{}{sql}", guards.concat()));
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("ledger.db")
}

impl Place for Damaged {
    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn scan(&self) -> &Arc<dyn Scan> {
        &self.scan
    }

    async fn damage(&self, damage: Damage) {
        self.run(match damage {
            Damage::Data(seq) => format!(
                r#"UPDATE ledger SET events = replace(events, '"n":', '"n":1') WHERE seq = {seq}"#
            ),
            Damage::Actors => "UPDATE ledger SET actor = 'user:other'".to_owned(),
            Damage::Order => "DROP TRIGGER ledger_in_order".to_owned(),
            Damage::Removed(seq) => format!("DELETE FROM ledger WHERE seq = {seq}"),
            Damage::Prev(seq) => {
                format!("UPDATE ledger SET prev = zeroblob(32) WHERE seq = {seq}")
            }
            Damage::Time(seq) => format!("UPDATE ledger SET recorded_at = 1 WHERE seq = {seq}"),
            Damage::Origin(seq) => {
                format!("UPDATE ledger SET origin = 'other.example' WHERE seq = {seq}")
            }
            Damage::LastSeq(seq) => {
                format!("UPDATE ledger SET last_seq = last_seq + 1 WHERE seq = {seq}")
            }
            Damage::Unreadable(seq) => {
                format!("UPDATE ledger SET events = 'x' WHERE seq = {seq}")
            }
            Damage::Tile(index, Some(root)) => {
                format!("UPDATE tiles SET root = x'{root}' WHERE level = 0 AND position = {index}")
            }
            Damage::Tile(index, None) => {
                format!("DELETE FROM tiles WHERE level = 0 AND position = {index}")
            }
            Damage::Note(size, note) => {
                format!("UPDATE checkpoints SET note = '{note}' WHERE size = {size}")
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_file_is_found() {
    everything_wrong_is_found(Damaged::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_overlap_in_a_file_are_found() {
    commits_that_overlap_are_found(Damaged::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_takes_no_writes_is_not_sound() {
    let place = Damaged::new().await;
    place.run("DROP INDEX ledger_stream".to_owned()).await;
    let tenant = histories::id().tenant;
    let (storage, scan) = (place.storage(), place.scan());
    let report =
        stella_ledger::fsck::fsck(storage, scan, &tenant, None, &mut |_| {}).await.unwrap();
    assert!(!report.is_sound());
    assert!(report.findings.iter().any(|finding| finding.code == "INDEX_MISSING"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_gone_from_a_file_was_erased() {
    payloads_and_erasures_fit(Damaged::new).await;
}
