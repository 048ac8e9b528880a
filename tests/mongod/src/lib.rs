//! A real MongoDB replica set of one for tests, benchmarks and trials.
//!
//! Callers that honour `MONGODB_URI` look at it first; this crate only provisions and runs:
//!
//! ```no_run
//! # async fn example() -> Result<(), stella_mongod::Error> {
//! let mut mongod = stella_mongod::Mongod::start(stella_mongod::Options::default()).await?;
//! let client = mongodb::Client::with_uri_str(mongod.uri()).await;
//! mongod.kill().await?; // As a power cut would.
//! mongod.restart().await?; // Same port, same data.
//! mongod.stop().await
//! # }
//! ```
//!
//! No server outlives its owner: `Drop` kills it, and where util-linux's `setpriv` is installed the
//! kernel kills it even when the owner was killed itself.

mod binary;
mod error;
mod port;
mod process;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::{ClientOptions, ServerAddress},
};
use tempfile::TempDir;

use crate::process::{POLL_INTERVAL, Process};
pub use crate::{binary::binary, error::Error};

/// Name of the replica set.
pub const REPLICA_SET: &str = "rs0";

/// Generous: recovery after a kill, on a machine busy with other tests.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const START_TRIES: u32 = 5;
/// MongoDB's exit code for "address in use" (`EXIT_NET_ERROR`, `src/mongo/util/exit_code.h`).
const EXIT_NET_ERROR: i32 = 48;

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data and the log live; kept afterwards. `None`: a temporary directory.
    pub dir: Option<PathBuf>,
    /// Loopback port; `None`: a free one. The replica set's configuration in `dir` names the port,
    /// so a directory used before needs the port used before.
    pub port: Option<u16>,
    /// Size of the WiredTiger cache in GB (at least 0.25). Small by default: tests share a machine.
    pub cache_gb: f64,
    /// More arguments for mongod, such as `--auth --keyFile …` or `--setParameter …`.
    pub args: Vec<OsString>,
    /// The mongod to run; `None`: what [`binary`] finds.
    pub binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { dir: None, port: None, cache_gb: 0.25, args: Vec::new(), binary: None }
    }
}

/// A mongod that is, or was, the writable primary of its own replica set. Dropping it kills it.
#[derive(Debug)]
pub struct Mongod {
    // Declared, hence dropped, before the directory it writes to.
    process: Process,
    program: PathBuf,
    args: Vec<OsString>,
    port: u16,
    dir: PathBuf,
    _temporary: Option<TempDir>,
}

impl Mongod {
    /// Start a server, initiate its replica set if the directory is new, and wait until it is the
    /// writable primary (at most 60 s).
    ///
    /// # Errors
    /// Those of [`binary`]; [`Error::MissingLibrary`], [`Error::Died`], [`Error::NotReady`] and
    /// [`Error::Initiate`] with what the server said.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let program = match &options.binary {
            Some(program) => program.clone(),
            None => binary().await?,
        };
        let mut tries_left = START_TRIES;
        loop {
            tries_left -= 1;
            match Self::start_once(program.clone(), &options).await {
                // Another process took the port between the look and the bind: take another one.
                Err(Error::Died { status, .. })
                    if status.code() == Some(EXIT_NET_ERROR)
                        && options.port.is_none()
                        && tries_left > 0 => {}
                outcome => return outcome,
            }
        }
    }

    async fn start_once(program: PathBuf, options: &Options) -> Result<Self, Error> {
        let port = match options.port {
            Some(port) => port,
            None => port::free()?,
        };
        let (dir, temporary) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("stella-mongod-")
                    .tempdir()
                    .map_err(Error::io("create a directory in", std::env::temp_dir()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let data = dir.join("data");
        let is_new = !data.join("WiredTiger").exists();
        fs::create_dir_all(&data).map_err(Error::io("create", &data))?;

        let args = arguments(port, &data, options);
        let process = Process::start(&program, &args, &log_path(&dir))?;
        let mut mongod = Self { process, program, args, port, dir, _temporary: temporary };
        let deadline = Instant::now() + READY_LIMIT;
        mongod.until_listening(deadline).await?;
        if is_new {
            mongod.initiate().await?;
        }
        mongod.until_primary(deadline).await?;
        Ok(mongod)
    }

    /// Connection string. It names the replica set, so that a driver finds its way back after
    /// [`Mongod::restart`].
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet={REPLICA_SET}", self.port)
    }

    /// Loopback port that it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the running, or last, server.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Directory of data and log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// File that takes all that the server prints, appended to over restarts.
    pub fn log_path(&self) -> PathBuf {
        log_path(&self.dir)
    }

    /// End the server as a crash would (SIGKILL). Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Immortal`] if it is still there after 30 s.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.process.kill().await
    }

    /// Shut the server down in order (SIGTERM; SIGKILL after 30 s). Safe to repeat.
    ///
    /// # Errors
    /// As [`Mongod::kill`].
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.process.stop(STOP_LIMIT).await
    }

    /// Start the server again on the same port and data, and wait until it is the writable primary.
    /// One that still runs is killed.
    ///
    /// # Errors
    /// As [`Mongod::start`], except that the port cannot change: a port taken by another process in
    /// the meantime is [`Error::Died`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.process.kill().await?;
        self.process = Process::start(&self.program, &self.args, &self.log_path())?;
        let deadline = Instant::now() + READY_LIMIT;
        self.until_listening(deadline).await?;
        self.until_primary(deadline).await
    }

    /// Reads the log instead of trying to connect: a server of somebody else would answer, too.
    async fn until_listening(&mut self, deadline: Instant) -> Result<(), Error> {
        while !self.process.output()?.contains("\"Waiting for connections\"") {
            self.pause(deadline, "it to listen").await?;
        }
        Ok(())
    }

    async fn until_primary(&mut self, deadline: Instant) -> Result<(), Error> {
        let client = self.client()?;
        // An error is no answer yet: elections and recovery close connections.
        while !client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .await
            .is_ok_and(|hello: Document| hello.get_bool("isWritablePrimary") == Ok(true))
        {
            self.pause(deadline, "it to become the writable primary").await?;
        }
        client.shutdown().immediate(true).await;
        Ok(())
    }

    /// Between two looks at a condition: fails if the server died or the time is over.
    async fn pause(&mut self, deadline: Instant, awaited: &'static str) -> Result<(), Error> {
        let port = self.port;
        if let Some(status) = self.process.ended()? {
            let log = self.process.log_tail();
            return Err(Error::from_loader(&log).unwrap_or(Error::Died { port, status, log }));
        }
        if Instant::now() >= deadline {
            let (limit_secs, log) = (READY_LIMIT.as_secs(), self.process.log_tail());
            return Err(Error::NotReady { port, limit_secs, awaited, log });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        Ok(())
    }

    async fn initiate(&self) -> Result<(), Error> {
        let client = self.client()?;
        let host = format!("127.0.0.1:{}", self.port);
        let config = doc! { "_id": REPLICA_SET, "members": [{ "_id": 0, "host": host }] };
        let admin = client.database("admin");
        let outcome = admin.run_command(doc! { "replSetInitiate": config }).await;
        client.shutdown().immediate(true).await;
        outcome.map_err(|source| Error::Initiate { port: self.port, source })?;
        Ok(())
    }

    /// Connected to this server whatever its role, unlike [`Mongod::uri`].
    fn client(&self) -> Result<Client, Error> {
        let address = ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: Some(self.port) };
        let options = ClientOptions::builder()
            .hosts(vec![address])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_secs(5))
            .build();
        Client::with_options(options).map_err(|source| Error::Initiate { port: self.port, source })
    }
}

fn arguments(port: u16, data: &Path, options: &Options) -> Vec<OsString> {
    let (port, cache_gb) = (port.to_string(), options.cache_gb.to_string());
    let fixed = [
        "--replSet",
        REPLICA_SET,
        "--bind_ip",
        "127.0.0.1",
        "--nounixsocket",
        // A lone member has nobody to hand over to; the default makes every stop take 15 s.
        "--setParameter",
        "shutdownTimeoutMillisForSignaledShutdown=100",
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        "--port",
        &port,
        "--wiredTigerCacheSizeGB",
        &cache_gb,
        "--dbpath",
    ];
    let mut args: Vec<OsString> = fixed.iter().map(OsString::from).collect();
    args.push(data.into());
    args.extend(options.args.iter().cloned());
    args
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("mongod.log")
}
