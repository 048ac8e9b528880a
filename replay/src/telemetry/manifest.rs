//! What a directory of telemetry says that it holds, and whether it does.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use stella_domain::{hash::Hash32, ids::LedgerId};
use stella_verify::{
    Digesting,
    manifest::{FileDigest, WindowTimes},
};

use super::otlp::{self, Signal};

/// The version of the form that this release writes and reads.
pub const TELEMETRY_FORMAT: u64 = 1;
/// The manifest's name.
pub(super) const MANIFEST: &str = "manifest.json";
/// Bytes that a manifest may have.
const MANIFEST_BYTES: u64 = 64 * 1024;
/// Bytes that a line may have: twice what a batch is closed at, and its largest record.
const LINE_BYTES: u64 = 8 * 1024 * 1024;

/// `manifest.json`. Members stand in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Events of the window.
    pub events: u64,
    /// The other files.
    pub files: Files,
    /// `seq` of the window's first event; `None` if it is empty.
    pub first_seq: Option<u64>,
    /// [`TELEMETRY_FORMAT`].
    pub format: u64,
    /// `hash` of the window's last event.
    pub head: Option<Hash32>,
    /// Which ledger.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub ledger: LedgerId,
    /// Whether logs carry what people and plugins wrote.
    pub payloads: bool,
    /// `hash` of the event before the window's first; zeros if there is none.
    pub prev: Option<Hash32>,
    /// The window's times.
    pub window: WindowTimes,
}

/// The files beside the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Events.
    #[serde(rename = "logs.ndjson")]
    pub logs: FileFacts,
    /// Counters.
    #[serde(rename = "metrics.ndjson")]
    pub metrics: FileFacts,
    /// Runs and attempts.
    #[serde(rename = "traces.ndjson")]
    pub traces: FileFacts,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Plain BLAKE3.
    pub blake3: Hash32,
    /// How many bytes.
    pub bytes: u64,
    /// How many lines: export requests.
    pub lines: u64,
    /// How many records in them: log records, metrics, spans.
    pub records: u64,
    /// SHA-256.
    pub sha256: Hash32,
}

impl Files {
    /// The file's name.
    pub fn name(signal: Signal) -> &'static str {
        match signal {
            Signal::Logs => "logs.ndjson",
            Signal::Metrics => "metrics.ndjson",
            Signal::Traces => "traces.ndjson",
        }
    }

    /// What is said of the file.
    pub fn of(&self, signal: Signal) -> &FileFacts {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Metrics => &self.metrics,
            Signal::Traces => &self.traces,
        }
    }
}

impl Manifest {
    /// As it stands in `manifest.json`.
    pub fn to_text(&self) -> String {
        // Plain structs of text and numbers: serialising them cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// SHA-256 of `manifest.json`: who keeps it notices when the whole directory is exchanged.
    pub fn sha256(&self) -> Hash32 {
        FileDigest::of(self.to_text().as_bytes()).sha256
    }
}

/// Why a directory is not what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The manifest is none.
    #[error("{}: not a manifest of telemetry: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that the manifest does not name.
    #[error("{} is not in the manifest: it was added later", path.display())]
    Extra {
        /// Which.
        path: PathBuf,
    },
    /// A file is not as the manifest says.
    #[error("{}: {what} {found}, and the manifest says {expected}: it was changed after it was written", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// As found.
        found: String,
        /// As written.
        expected: String,
    },
    /// A line that no export wrote.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Check a directory of telemetry: every file is what the manifest says, to the byte.
///
/// # Errors
/// [`CheckError`] names the first thing that is not as it should be.
pub fn check(dir: &Path) -> Result<Manifest, CheckError> {
    let manifest = read_manifest(&dir.join(MANIFEST))?;
    let io = |source| CheckError::Io { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let known = Signal::ALL.iter().any(|signal| name == Files::name(*signal));
        if !known && name != MANIFEST {
            return Err(CheckError::Extra { path: entry.path() });
        }
    }
    for signal in Signal::ALL {
        check_file(&dir.join(Files::name(signal)), signal, manifest.files.of(signal))?;
    }
    Ok(manifest)
}

fn read_manifest(path: &Path) -> Result<Manifest, CheckError> {
    let io = |source| CheckError::Io { path: path.to_owned(), source };
    let wrong = |reason| CheckError::Manifest { path: path.to_owned(), reason };
    let mut text = String::new();
    File::open(path).map_err(io)?.take(MANIFEST_BYTES).read_to_string(&mut text).map_err(io)?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if manifest.format != TELEMETRY_FORMAT {
        let found = manifest.format;
        return Err(wrong(format!("format {found}; this release knows {TELEMETRY_FORMAT}")));
    }
    if manifest.to_text() != text {
        return Err(wrong("it is not written as this program writes it".to_owned()));
    }
    Ok(manifest)
}

fn check_file(path: &Path, signal: Signal, expected: &FileFacts) -> Result<(), CheckError> {
    let io = |source| CheckError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(Digesting::new(File::open(path).map_err(io)?));
    let (mut lines, mut records, mut text) = (0, 0, vec![]);
    loop {
        text.clear();
        (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut text).map_err(io)?;
        if text.is_empty() {
            break;
        }
        lines += 1;
        let wrong = |reason| CheckError::Line { path: path.to_owned(), line: lines, reason };
        records += otlp::records_of(signal, &text).map_err(wrong)?;
    }
    let (_, FileDigest { blake3, bytes, sha256 }) = reader.into_inner().finish();
    let found = FileFacts { blake3, bytes, lines, records, sha256 };
    let differs = |what, found: String, expected: String| {
        let path = path.to_owned();
        (found != expected).then_some(CheckError::Changed { path, what, found, expected })
    };
    let number =
        |what, found: u64, expected: u64| differs(what, found.to_string(), expected.to_string());
    let changed = number("bytes", found.bytes, expected.bytes)
        .or_else(|| differs("BLAKE3", found.blake3.to_string(), expected.blake3.to_string()))
        .or_else(|| differs("SHA-256", found.sha256.to_string(), expected.sha256.to_string()))
        .or_else(|| number("lines", found.lines, expected.lines))
        .or_else(|| number("records", found.records, expected.records));
    changed.map_or(Ok(()), Err)
}

fn as_text<S: Serializer>(ledger: &LedgerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ledger)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LedgerId, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}
