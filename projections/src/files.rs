//! The files of a projection directory, and how SQLite is told to keep them.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use stella_domain::ids::Tenant;

use crate::error::ProjectionError;

/// Connections that read one tenant's file at a time.
const READERS: u32 = 4;
/// After this long without use a connection, which is a thread, is closed: most tenants are quiet.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Where one tenant's files are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The read models and the position.
    pub(crate) live: PathBuf,
    /// The read models while they are rebuilt.
    pub(crate) rebuild: PathBuf,
    /// The read models of a check.
    pub(crate) check: PathBuf,
    /// Digests recorded on the way; it outlives rebuilds.
    pub(crate) digests: PathBuf,
}

impl Files {
    pub(crate) fn of(dir: &Path, tenant: &Tenant) -> Self {
        // A tenant's grammar has neither dots nor slashes: no two of these can meet.
        let file = |suffix: &str| dir.join(format!("{tenant}{suffix}"));
        Self {
            live: file(".db"),
            rebuild: file(".rebuild.db"),
            check: file(".check.db"),
            digests: file(".digests.db"),
        }
    }
}

/// Make the directory, and hold it until the answer is dropped: two processes that write the same
/// read models, or swap them under each other, would damage them.
pub(crate) fn claim(dir: &Path) -> Result<File, ProjectionError> {
    std::fs::create_dir_all(dir).map_err(ProjectionError::file(dir))?;
    let path = dir.join("projections.lock");
    let file = File::create(&path).map_err(ProjectionError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ProjectionError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ProjectionError::File { path, source }),
    }
}

/// Remove a database with what SQLite keeps beside it.
pub(crate) fn remove(path: &Path) -> Result<(), ProjectionError> {
    remove_suffixed(path, &["", "-wal", "-shm", "-journal"])
}

fn remove_suffixed(path: &Path, suffixes: &[&str]) -> Result<(), ProjectionError> {
    for suffix in suffixes {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(ProjectionError::File { path, source: e });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Put the closed database `new` in the place of the closed database `old`, durably.
pub(crate) fn replace(old: &Path, new: &Path) -> Result<(), ProjectionError> {
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(new).map_err(ProjectionError::file(new))?;
    // A write-ahead log left from the old database must never be replayed into the new one.
    remove_suffixed(old, &["-wal", "-shm", "-journal"])?;
    std::fs::rename(new, old).map_err(ProjectionError::file(new))?;
    let dir = old.parent().unwrap_or(Path::new("."));
    sync(dir).map_err(ProjectionError::file(dir))
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10))
        // Upserts of many rows keep a journal of their own: not in files made for each.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn pool(options: SqliteConnectOptions, connections: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(IDLE_AFTER)
        // A connection to a file does not go stale.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Writes while others read. A power failure may cost the newest batches, which are then folded
/// again.
pub(crate) fn live(path: &Path) -> SqlitePool {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", "-8192");
    pool(options, 1)
}

/// Fills a file that nobody reads yet and that is thrown away after a crash.
pub(crate) fn bulk(path: &Path) -> SqlitePool {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-65536");
    pool(options, 1)
}

/// Reads.
pub(crate) fn readers(path: &Path) -> SqlitePool {
    pool(options(path).pragma("query_only", "ON").pragma("cache_size", "-4096"), READERS)
}
