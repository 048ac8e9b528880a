//! Lines by themselves: from the bytes alone, whether this is an unbroken piece of one ledger in the
//! format of `docs/ledger-format.md`, sections 1 to 4, by the steps of section 6.
//!
//! A line is checked in two steps. [`Line::check`] needs nothing but the line and does the
//! expensive work, for many lines at once; `Chain::follow` is cheap and needs the lines in order.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer};
use stella_domain::{hash::Hash32, time::Timestamp};

use crate::{
    chain::Chain,
    line::{Computed, Line, hash_of},
    piece::{Pieces, each_line},
    reason::Reason,
};

/// Lines between two calls of a progress callback.
const PROGRESS_EVERY: u64 = 8_192;
/// Seqs of erased payloads that a report lists; it counts all of them.
pub const LISTED_ERASURES: usize = 1_000;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Events, all of which hold.
    pub events: u64,
    /// Events whose payload was erased: only its hash is left. Each needs a `DataErased`.
    pub erased: u64,
    /// The seqs of the first [`LISTED_ERASURES`] of them.
    pub erased_seqs: Vec<u64>,
    /// Bytes of all lines.
    pub bytes: u64,
    /// What the events span; `None` when there are none.
    pub span: Option<Span>,
    /// How long verifying took; in milliseconds when serialised.
    #[serde(rename = "elapsedMs", serialize_with = "as_ms")]
    pub elapsed: Duration,
}

/// The piece of a ledger that a verified run of events is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// `<origin>/<tenant>`.
    pub ledger: String,
    /// `seq` of the first event.
    pub first_seq: u64,
    /// `seq` of the last event.
    pub last_seq: u64,
    /// `recordedAt` of the first event.
    pub first_recorded_at: Timestamp,
    /// `recordedAt` of the last event.
    pub last_recorded_at: Timestamp,
    /// What the first event links to: the hash of the event before it, zeros at seq 0.
    pub prev: Hash32,
    /// Hash of the last event.
    pub head: Hash32,
}

fn as_ms<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// The first place at which the events do not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file; `None` where there is none.
    pub file: Option<PathBuf>,
    /// Line within the file, from 1.
    pub line: u64,
    /// The seq that this line should have; `None` on the first line.
    pub seq: Option<u64>,
    /// What is wrong.
    pub reason: Reason,
}

impl std::error::Error for Broken {}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}, ", file.display())?;
        }
        write!(f, "line {}", self.line)?;
        if let Some(seq) = self.seq {
            write!(f, " (seq {seq})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The events do not hold.
    #[error(transparent)]
    Broken(Box<Broken>),
    /// A file could not be read.
    #[error("{}: {source}", file.as_deref().unwrap_or(Path::new("the events")).display())]
    Io {
        /// The file; `None` where there is none.
        file: Option<PathBuf>,
        /// What the operating system says.
        source: io::Error,
    },
}

/// How far verification came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Events verified.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// Verify NDJSON files that continue each other, in this order.
///
/// # Errors
/// [`VerifyError`] names the first file and line that does not hold.
pub fn verify_files(
    files: &[impl AsRef<Path>],
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let mut verifier = Verifier::new();
    for file in files {
        verifier.read_file(file.as_ref(), |verifier, _| {
            if verifier.events.is_multiple_of(PROGRESS_EVERY) {
                progress(verifier.progress());
            }
        })?;
    }
    progress(verifier.progress());
    Ok(verifier.report())
}

/// Verify NDJSON from any reader.
///
/// # Errors
/// [`VerifyError`] names the first line that does not hold.
pub fn verify_reader(reader: impl Read) -> Result<Report, VerifyError> {
    let mut verifier = Verifier::new();
    verifier.read_with(reader, None, |_, _| {})?;
    Ok(verifier.report())
}

/// Verifies line after line, in constant memory: for callers that have the lines from elsewhere
/// than a file, or look at them on the way.
#[derive(Debug)]
pub struct Verifier {
    chain: Chain,
    span: Option<First>,
    events: u64,
    /// Events in the files before this one.
    in_files_before: u64,
    erased: u64,
    erased_seqs: Vec<u64>,
    bytes: u64,
    started: Instant,
}

/// What a report says about the first event.
#[derive(Debug)]
struct First {
    seq: u64,
    prev: Hash32,
    recorded_at: Timestamp,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// A verifier that has seen nothing yet.
    pub fn new() -> Self {
        Self {
            chain: Chain::default(),
            span: None,
            events: 0,
            in_files_before: 0,
            erased: 0,
            erased_seqs: vec![],
            bytes: 0,
            started: Instant::now(),
        }
    }

    fn line(&mut self, line: &Line<'_>, computed: &Computed) -> Result<(), Reason> {
        line.check_against(computed)?;
        self.chain.follow(line)?;
        if self.span.is_none() {
            let prev = hash_of("prev", line.prev)?;
            self.span = Some(First { seq: line.seq, prev, recorded_at: self.chain.recorded_at() });
        }
        self.events += 1;
        if line.is_erased() {
            self.erased += 1;
            if self.erased_seqs.len() < LISTED_ERASURES {
                self.erased_seqs.push(line.seq);
            }
        }
        Ok(())
    }

    /// Verify every line of `reader`, and let `visit` see each. `file` is for messages.
    ///
    /// # Errors
    /// [`VerifyError`] names the first line that does not hold.
    pub fn read_with(
        &mut self,
        reader: impl Read,
        file: Option<&Path>,
        mut visit: impl FnMut(&Self, &Line<'_>),
    ) -> Result<(), VerifyError> {
        let mut pieces = Pieces::new(reader);
        let unread = |source| VerifyError::Io { file: file.map(Path::to_owned), source };
        while let Some(piece) = pieces.next().map_err(unread)? {
            let read = each_line(&piece, |line, computed, bytes| {
                self.line(line, computed)?;
                self.bytes += bytes as u64;
                visit(self, line);
                Ok(())
            });
            read.map_err(|reason| {
                let line = self.events - self.in_files_before + 1;
                broken(file, line, self.chain.next_seq(), reason)
            })?;
            pieces.reuse(piece);
        }
        Ok(())
    }

    /// Verify every line of `file`, which continues the files before it.
    ///
    /// # Errors
    /// [`VerifyError`] names the first line that does not hold.
    pub fn read_file(
        &mut self,
        file: &Path,
        visit: impl FnMut(&Self, &Line<'_>),
    ) -> Result<(), VerifyError> {
        let opened = File::open(file)
            .map_err(|source| VerifyError::Io { file: Some(file.to_owned()), source })?;
        self.in_files_before = self.events;
        self.read_with(opened, Some(file), visit)
    }

    /// The seq that the next line should have; `None` before the first.
    pub fn next_seq(&self) -> Option<u64> {
        self.chain.next_seq()
    }

    /// How far it came.
    pub fn progress(&self) -> Progress {
        Progress { events: self.events, bytes: self.bytes }
    }

    /// What was verified so far.
    pub fn report(&self) -> Report {
        let span = self.span.as_ref().map(|first| Span {
            ledger: self.chain.ledger().to_owned(),
            first_seq: first.seq,
            last_seq: first.seq + self.events - 1,
            first_recorded_at: first.recorded_at,
            last_recorded_at: self.chain.recorded_at(),
            prev: first.prev,
            head: self.chain.head(),
        });
        let Self { events, erased, bytes, started, .. } = *self;
        let erased_seqs = self.erased_seqs.clone();
        Report { events, erased, erased_seqs, bytes, span, elapsed: started.elapsed() }
    }
}

fn broken(file: Option<&Path>, line: u64, seq: Option<u64>, reason: Reason) -> VerifyError {
    let file = file.map(Path::to_owned);
    VerifyError::Broken(Box::new(Broken { file, line, seq, reason }))
}
