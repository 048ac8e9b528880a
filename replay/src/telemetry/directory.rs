//! Telemetry of a window as files: one a signal, and a manifest that says what they hold.
//!
//! Each line of a file is an export request of OTLP/HTTP, so that any collector takes it. The directory
//! appears when it is whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use stella_domain::{chain::Commit, ids::LedgerId, time::Timestamp};
use stella_ledger::recorded::{Recorded, UndecodableEvent};
use stella_verify::{
    Digesting,
    manifest::{FileDigest, WindowTimes},
    ndjson::{Verifier, VerifyError},
};
use tempfile::TempDir;

use super::{
    Mapper,
    manifest::{FileFacts, Files, MANIFEST, Manifest, TELEMETRY_FORMAT},
    otlp::{Batch, Metric, Signal},
    source::Commits,
};

/// A line is written when it has so many records, or bytes.
const LINE_RECORDS: usize = 1_000;
const LINE_BYTES: usize = 1024 * 1024;
/// Counters are written each minute in which something happened.
const METRICS_EVERY_MS: u64 = 60_000;

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Nothing is overwritten.
    #[error("{} exists already: telemetry is not overwritten; name another place", path.display())]
    Exists {
        /// Where it was to be.
        path: PathBuf,
    },
    /// The operating system does not let us.
    #[error("cannot write telemetry to {}: {source}", path.display())]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What came are not the ledger's events.
    #[error(transparent)]
    Events(#[from] VerifyError),
    /// An event that this build does not know.
    #[error("{0}; use the release that recorded it, or a later one")]
    Undecodable(#[from] UndecodableEvent),
    /// A name in a line that is none.
    #[error("event {seq} cannot be read: {reason}")]
    Unreadable {
        /// The event.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// The events are of another ledger.
    #[error("the events are of ledger {found}, and those of {expected} were to come")]
    OtherLedger {
        /// Whose events were to come.
        expected: String,
        /// Whose came.
        found: String,
    },
}

/// Telemetry that is being written. Dropping it removes what was written.
pub struct TelemetryWriter {
    path: PathBuf,
    dir: TempDir,
    ledger: Arc<LedgerId>,
    window: WindowTimes,
    payloads: bool,
    verifier: Verifier,
    commits: Commits,
    /// Begun with the first event.
    mapper: Option<Mapper>,
    /// When counters were written last.
    measured_at: Timestamp,
    /// When the newest event was recorded.
    at: Timestamp,
    logs: SignalFile,
    metrics: SignalFile,
    traces: SignalFile,
}

impl TelemetryWriter {
    /// Begin telemetry of the window [from, to) of a ledger, to be at `path`. `payloads`: logs carry what
    /// people and plugins wrote.
    ///
    /// # Errors
    /// [`TelemetryError::Exists`], [`TelemetryError::Io`].
    pub fn create(
        path: PathBuf,
        ledger: LedgerId,
        window: WindowTimes,
        payloads: bool,
    ) -> Result<Self, TelemetryError> {
        check_free(&path)?;
        let io = |source| TelemetryError::Io { path: path.clone(), source };
        let dir = tempfile::Builder::new()
            .prefix(".telemetry-")
            .suffix(".part")
            // As any new directory: what the process's umask lets pass.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent(&path))
            .map_err(io)?;
        let file = |signal| SignalFile::create(dir.path(), signal, &ledger).map_err(io);
        let [logs, metrics, traces] = [Signal::Logs, Signal::Metrics, Signal::Traces].map(file);
        let (logs, metrics, traces) = (logs?, metrics?, traces?);
        let ledger = Arc::new(ledger);
        Ok(Self {
            path,
            dir,
            window,
            payloads,
            verifier: Verifier::new(),
            commits: Commits::new(Arc::clone(&ledger)),
            ledger,
            mapper: None,
            measured_at: window.from,
            at: window.from,
            logs,
            metrics,
            traces,
        })
    }

    /// Add whole lines of the window's export, in order; they are verified.
    ///
    /// # Errors
    /// [`TelemetryError`]; it is to be given up then.
    pub fn events(&mut self, lines: &[u8]) -> Result<(), TelemetryError> {
        let (mut whole, mut wrong) = (vec![], None);
        let commits = &mut self.commits;
        self.verifier.read_with(lines, None, |_, line| match commits.take(line) {
            Ok(commit) => whole.extend(commit),
            Err(error) => wrong = wrong.take().or(Some(error)),
        })?;
        wrong.map_or(Ok(()), Err)?;
        whole.into_iter().try_for_each(|commit| self.commit(commit))
    }

    /// How many events came so far.
    pub fn taken(&self) -> u64 {
        self.verifier.progress().events
    }

    /// Complete it, and give it its name.
    ///
    /// # Errors
    /// [`TelemetryError`]; there is nothing then.
    pub fn finish(mut self) -> Result<Manifest, TelemetryError> {
        if let Some(commit) = self.commits.end() {
            self.commit(commit)?;
        }
        self.measure(self.window.to)?;
        let Self { path, dir, verifier, ledger, window, payloads, logs, metrics, traces, .. } =
            self;
        let io = |source| TelemetryError::Io { path: path.clone(), source };
        let report = verifier.report();
        let manifest = Manifest {
            events: report.events,
            files: Files {
                logs: logs.finish().map_err(io)?,
                metrics: metrics.finish().map_err(io)?,
                traces: traces.finish().map_err(io)?,
            },
            first_seq: report.span.as_ref().map(|span| span.first_seq),
            format: TELEMETRY_FORMAT,
            head: report.span.as_ref().map(|span| span.head),
            ledger: LedgerId::clone(&ledger),
            payloads,
            prev: report.span.as_ref().map(|span| span.prev),
            window,
        };
        let mut file = File::create(dir.path().join(MANIFEST)).map_err(io)?;
        file.write_all(manifest.to_text().as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        File::open(dir.path()).and_then(|dir| dir.sync_all()).map_err(io)?;
        check_free(&path)?;
        // Where something came meanwhile, only an empty directory would give way.
        fs::rename(dir.path(), &path).map_err(io)?;
        // What it would remove has another name now.
        let _ = dir.keep();
        File::open(parent(&path)).and_then(|parent| parent.sync_all()).map_err(io)?;
        Ok(manifest)
    }

    fn commit(&mut self, commit: Commit) -> Result<(), TelemetryError> {
        let at = commit.recorded_at;
        if self.mapper.is_none() {
            self.measured_at = at;
        }
        if at.ms_since(self.measured_at) >= METRICS_EVERY_MS && self.at > self.measured_at {
            self.measure(self.at)?;
        }
        let (ledger, payloads) = (Arc::clone(&self.ledger), self.payloads);
        // What a window has no beginning for began with its first event.
        let begin = self.window.from.max(at);
        let mapper = self.mapper.get_or_insert_with(|| Mapper::new(ledger, begin, payloads));
        let told = mapper.told(&Recorded::decode(commit)?);
        self.at = at;
        let (logs, traces) = (&mut self.logs, &mut self.traces);
        let written = told.logs.iter().try_for_each(|record| logs.push(record));
        written
            .and_then(|()| told.spans.iter().try_for_each(|span| traces.push(span)))
            .map_err(|source| TelemetryError::Io { path: self.path.clone(), source })
    }

    /// Write the counters as they are.
    fn measure(&mut self, at: Timestamp) -> Result<(), TelemetryError> {
        let metrics =
            self.mapper.as_ref().map_or_else(Vec::<Metric>::new, |mapper| mapper.metrics(at));
        self.measured_at = at;
        let file = &mut self.metrics;
        let written = metrics.iter().try_for_each(|metric| file.push(metric));
        // A time, a line.
        written
            .and_then(|()| file.line())
            .map_err(|source| TelemetryError::Io { path: self.path.clone(), source })
    }
}

/// That nothing is there, but the directory that it shall be in.
///
/// # Errors
/// [`TelemetryError::Exists`], [`TelemetryError::Io`].
pub fn check_free(path: &Path) -> Result<(), TelemetryError> {
    let io = |source| TelemetryError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(_) => Err(TelemetryError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(parent(path)).map(drop).map_err(io)
        }
        Err(source) => Err(io(source)),
    }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The file of a signal.
struct SignalFile {
    out: Digesting<BufWriter<File>>,
    batch: Batch,
    lines: u64,
    records: u64,
}

impl SignalFile {
    fn create(dir: &Path, signal: Signal, ledger: &LedgerId) -> io::Result<Self> {
        let file = File::create(dir.join(Files::name(signal)))?;
        let out = Digesting::new(BufWriter::with_capacity(1 << 18, file));
        Ok(Self { out, batch: Batch::new(signal, ledger), lines: 0, records: 0 })
    }

    fn push(&mut self, record: &impl serde::Serialize) -> io::Result<()> {
        self.batch.push(record);
        if self.batch.records() >= LINE_RECORDS || self.batch.bytes() >= LINE_BYTES {
            self.line()?;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<()> {
        let Some((text, records)) = self.batch.take() else { return Ok(()) };
        self.lines += 1;
        self.records += records as u64;
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    fn finish(mut self) -> io::Result<FileFacts> {
        self.line()?;
        let (out, FileDigest { blake3, bytes, sha256 }) = self.out.finish();
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(FileFacts { blake3, bytes, lines: self.lines, records: self.records, sha256 })
    }
}
