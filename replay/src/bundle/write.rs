//! Putting a bundle together, hashing as it is written.
//!
//! Everything is written beside the place where the bundle shall be, and gets its name at the end:
//! what broke off never looks whole. The manifest stands first in an archive and is known last, so
//! the files are written to a directory first in either case.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use stella_verify::{
    Digesting, Line, Reason,
    manifest::{
        BUNDLE_FORMAT, Consistency, FileDigest, Files, Manifest, ManifestError, WindowTimes, names,
    },
};
use tempfile::TempDir;

use super::{ARCHIVE_BYTES, Extends, Proof, archive};
use crate::export::Window;

/// What the name of an archive ends with.
const ARCHIVE_SUFFIX: &str = ".tar.zst";

/// Where a bundle shall be, and whether as a directory or as an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    path: PathBuf,
    archive: bool,
}

impl Destination {
    /// An archive if the name ends in `.tar.zst`, else a directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().map(|name| name.to_string_lossy());
        let archive = name.is_some_and(|name| name.ends_with(ARCHIVE_SUFFIX));
        Self { path, archive }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory, whatever its name.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), archive: false }
    }

    /// Whether it shall be an archive.
    pub fn is_archive(&self) -> bool {
        self.archive
    }

    /// That nothing is there, but the directory that it shall be in.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Io`].
    pub fn check_free(&self) -> Result<(), WriteError> {
        match fs::symlink_metadata(&self.path) {
            Ok(_) => Err(WriteError::Exists { path: self.path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(self.parent()).map(drop).map_err(|error| self.io(error))
            }
            Err(source) => Err(WriteError::Io { path: self.path.clone(), source }),
        }
    }

    /// The directory that it shall be in.
    fn parent(&self) -> &Path {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Nothing is overwritten.
    #[error("{} exists already: bundles are not overwritten; name another place", path.display())]
    Exists {
        /// Where the bundle was to be.
        path: PathBuf,
    },
    /// The operating system does not let us.
    #[error("cannot write the bundle to {}: {source}", path.display())]
    Io {
        /// Where the bundle was to be.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Too much for a tar.
    #[error(
        "the events have more than {ARCHIVE_BYTES} bytes, which do not fit into an archive: export \
         to a directory, or a shorter window"
    )]
    TooLargeForArchive,
    /// What came is not the event that should come.
    #[error("event {seq} should come, and did not: {reason}")]
    NotTheEvent {
        /// The one that should come.
        seq: u64,
        /// What came.
        reason: Box<Reason>,
    },
    /// There are other events than the window has.
    #[error("events {first_seq} to {end_seq} (not included) should have come, and {found} came")]
    OtherEvents {
        /// First of the window.
        first_seq: u64,
        /// One past its last.
        end_seq: u64,
        /// How many came.
        found: u64,
    },
    /// The proof contradicts itself.
    #[error("the proof of the window does not hold together: {0}")]
    Proof(#[from] ManifestError),
}

/// A bundle that is being written. Dropping it removes what was written.
pub struct BundleWriter {
    destination: Destination,
    dir: TempDir,
    events: Digesting<BufWriter<File>>,
    first_seq: u64,
    next_seq: u64,
    erased: u64,
    bytes: u64,
}

impl BundleWriter {
    /// Begin a bundle of events from `first_seq` on.
    ///
    /// # Errors
    /// [`WriteError::Exists`], [`WriteError::Io`].
    pub fn create(destination: Destination, first_seq: u64) -> Result<Self, WriteError> {
        destination.check_free()?;
        let io = |source| WriteError::Io { path: destination.path.clone(), source };
        let dir = tempfile::Builder::new()
            .prefix(".bundle-")
            .suffix(".part")
            // As any new directory: what the process's umask lets pass.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(destination.parent())
            .map_err(io)?;
        let events = File::create(dir.path().join(names::EVENTS)).map_err(io)?;
        let events = Digesting::new(BufWriter::with_capacity(1 << 18, events));
        Ok(Self { destination, dir, events, first_seq, next_seq: first_seq, erased: 0, bytes: 0 })
    }

    /// Add whole lines of the export, in order.
    ///
    /// # Errors
    /// [`WriteError`]; the bundle is to be given up then.
    pub fn events(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let seq = self.next_seq;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let wrong = |reason| WriteError::NotTheEvent { seq, reason: Box::new(reason) };
            let event = Line::read(line).map_err(wrong)?;
            if event.seq != seq {
                return Err(wrong(Reason::Seq { expected: seq, found: event.seq }));
            }
            self.erased += u64::from(event.is_erased());
            self.next_seq += 1;
        }
        self.bytes += lines.len() as u64;
        if self.destination.archive && self.bytes > ARCHIVE_BYTES {
            return Err(WriteError::TooLargeForArchive);
        }
        self.events.write_all(lines).map_err(|source| self.destination.io(source))
    }

    /// `seq` of the event that comes next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes of the events so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of the events so far lost their payload. If any did, the proof has to be one that
    /// was made after they were read: whatever was erased by then is explained in it.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// Complete the bundle, and give it its name. `progress` is shown how many bytes went into an
    /// archive, and answers whether to go on.
    ///
    /// # Errors
    /// [`WriteError`]; there is nothing then.
    pub fn finish(
        self,
        proof: &Proof,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Manifest, WriteError> {
        let Self { destination, dir, events, first_seq, next_seq, erased, .. } = self;
        let io = |source| destination.io(source);
        let window = proof.window;
        if (window.first_seq, window.end_seq) != (first_seq, next_seq) {
            let found = next_seq - first_seq;
            let (first_seq, end_seq) = (window.first_seq, window.end_seq);
            return Err(WriteError::OtherEvents { first_seq, end_seq, found });
        }
        let (events, digest) = events.finish();
        let events = events.into_inner().map_err(|error| io(error.into_error()))?;
        events.sync_all().map_err(io)?;
        let file = |name, text: &str| write_durably(dir.path(), name, text).map_err(io);
        // An event can be on record whose erasing has not begun: it explains nothing yet.
        let erasures = if erased > 0 { proof.erasures.as_str() } else { "" };
        let files = Files {
            boundary: file(names::BOUNDARY, &proof.boundary)?,
            checkpoint: file(names::CHECKPOINT, &proof.checkpoint)?,
            erasures: file(names::ERASURES, erasures)?,
            events: digest,
        };
        let text = manifest(proof, erased, files).to_text();
        let manifest = Manifest::parse(text.as_bytes())?;
        file(names::MANIFEST, &text)?;
        destination.place(dir, progress)?;
        Ok(manifest)
    }
}

impl Destination {
    /// Give the complete bundle in `dir` its form and name.
    fn place(&self, dir: TempDir, progress: &mut dyn FnMut(u64) -> bool) -> Result<(), WriteError> {
        let io = |source| self.io(source);
        if self.archive {
            let mut file = tempfile::Builder::new()
                .prefix(".bundle-")
                .suffix(".part")
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(self.parent())
                .map_err(io)?;
            archive::write(dir.path(), BufWriter::new(file.as_file_mut()), progress).map_err(io)?;
            file.as_file().sync_all().map_err(io)?;
            file.persist_noclobber(&self.path).map_err(|error| io(error.error))?;
        } else {
            File::open(dir.path()).and_then(|dir| dir.sync_all()).map_err(io)?;
            self.check_free()?;
            // Where something came meanwhile, only an empty directory would give way.
            fs::rename(dir.path(), &self.path).map_err(io)?;
            // What it would remove has another name now.
            let _ = dir.keep();
        }
        File::open(self.parent()).and_then(|parent| parent.sync_all()).map_err(io)
    }

    fn io(&self, source: io::Error) -> WriteError {
        match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists { path: self.path.clone() },
            _ => WriteError::Io { path: self.path.clone(), source },
        }
    }
}

fn write_durably(dir: &Path, name: &str, text: &str) -> io::Result<FileDigest> {
    let mut file = File::create(dir.join(name))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(FileDigest::of(text.as_bytes()))
}

fn manifest(proof: &Proof, erased: u64, files: Files) -> Manifest {
    let Window { from, to, first_seq, end_seq } = proof.window;
    let consistency =
        |extends: &Extends| Consistency { proof: extends.proof.clone(), size: extends.size };
    Manifest {
        consistency: proof.extends.as_ref().map(consistency),
        erased,
        events: end_seq - first_seq,
        files,
        first_seq,
        format: BUNDLE_FORMAT,
        last_hash: proof.last_hash,
        last_seq: (end_seq > first_seq).then(|| end_seq - 1),
        ledger: proof.ledger.clone(),
        left: proof.range.left.clone(),
        prev: proof.prev,
        right: proof.range.right.clone(),
        tree_size: proof.tree_size,
        window: WindowTimes { from, to },
    }
}
