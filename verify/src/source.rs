//! Where a bundle's files come from: a directory, or a zstd-compressed tar.
//!
//! An archive is never unpacked: each file is read where it stands, in memory that does not grow
//! with it. Names other than the five of a bundle are not looked at.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::{manifest::names, verdict::Fault};

/// What a zstd frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// How far back a zstd frame may refer: the limit that the `zstd` program has, too.
const ZSTD_WINDOW_BYTES: u64 = 128 * 1024 * 1024;
/// Entries that an archive may have; a bundle has five.
const ENTRIES: usize = 1_000;

/// A bundle on this machine.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    archive: bool,
}

/// Why a bundle could not be looked at; no verdict on what it holds.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The operating system does not let us.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Neither a directory nor a zstd-compressed file.
    #[error("{} is no bundle: a bundle is a directory or a .tar.zst", path.display())]
    NotABundle {
        /// What was given.
        path: PathBuf,
    },
}

/// Why a file of a bundle could not be read.
pub(crate) enum Unread {
    /// That says something about the bundle.
    Fault(Fault),
    /// That says nothing about the bundle.
    Io(BundleError),
}

/// Why [`Bundle::read_events`] ended.
enum Stopped {
    Caller(io::Error),
    Unread(Unread),
}

impl From<Unread> for Stopped {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl Bundle {
    /// The bundle at `path`. What it holds is looked at when it is verified.
    ///
    /// # Errors
    /// [`BundleError`] when nothing there can be a bundle.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BundleError> {
        let path = path.as_ref().to_owned();
        let io = |source| BundleError::Io { path: path.clone(), source };
        let archive = !std::fs::metadata(&path).map_err(io)?.is_dir();
        if archive {
            let mut magic = [0; 4];
            let read = File::open(&path).and_then(|mut file| file.read_exact(&mut magic));
            match read {
                Ok(()) if magic == ZSTD_MAGIC => {}
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(io(error));
                }
                Ok(()) | Err(_) => return Err(BundleError::NotABundle { path }),
            }
        }
        Ok(Self { path, archive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Let `read` read the bundle's `events.ndjson`, unverified as it is.
    ///
    /// # Errors
    /// What `read` answers, or why it could not be read.
    pub fn read_events<T>(
        &self,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> io::Result<T> {
        let read = |file: &mut dyn Read| read(file).map_err(Stopped::Caller);
        self.with_file(names::EVENTS, read).map_err(|stopped| match stopped {
            Stopped::Caller(error) => error,
            Stopped::Unread(Unread::Io(error)) => io::Error::other(error),
            Stopped::Unread(Unread::Fault(fault)) => io::Error::other(fault),
        })
    }

    /// Whether each of the five files is there, as a regular file and once.
    pub(crate) fn check_files(&self) -> Result<(), Unread> {
        let mut found: Vec<&str> = vec![];
        if self.archive {
            self.each_entry(|name, _| {
                if found.contains(&name) {
                    return Err(Unread::Fault(Fault::FileTwice { name }));
                }
                found.push(name);
                Ok(false)
            })?;
        } else {
            for name in names::ALL {
                match std::fs::symlink_metadata(self.path.join(name)) {
                    Ok(meta) if meta.is_file() => found.push(name),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(self.io(error)),
                }
            }
        }
        match names::ALL.into_iter().find(|name| !found.contains(name)) {
            Some(name) => Err(Unread::Fault(Fault::NoFile { name })),
            None => Ok(()),
        }
    }

    /// Let `read` read the file `name`.
    pub(crate) fn with_file<T, E: From<Unread>>(
        &self,
        name: &'static str,
        read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.archive {
            let file = File::open(self.path.join(name)).map_err(|error| self.io(error))?;
            return read(&mut { file });
        }
        let (mut read, mut outcome) = (Some(read), None);
        self.each_entry(|found, entry| {
            if found == name
                && let Some(read) = read.take()
            {
                outcome = Some(read(entry));
            }
            Ok(outcome.is_some())
        })?;
        outcome.unwrap_or_else(|| Err(Unread::Fault(Fault::NoFile { name }).into()))
    }

    /// The first `limit` bytes of the file `name`.
    pub(crate) fn read(&self, name: &'static str, limit: usize) -> Result<Vec<u8>, Unread> {
        self.with_file(name, |file| {
            let mut bytes = vec![];
            file.take(limit as u64).read_to_end(&mut bytes).map_err(|e| self.unread(e))?;
            Ok(bytes)
        })
    }

    /// Hand each of the five files of the archive to `visit`, until it says that it has enough.
    fn each_entry(
        &self,
        mut visit: impl FnMut(&'static str, &mut dyn Read) -> Result<bool, Unread>,
    ) -> Result<(), Unread> {
        let file = File::open(&self.path).map_err(|error| self.io(error))?;
        let seen = Rc::new(RefCell::new(Seen::default()));
        let tracked = Tracked { inner: BufReader::new(file), seen: Rc::clone(&seen) };
        let frame = StreamingDecoder::new_with_max_window_size(tracked, ZSTD_WINDOW_BYTES);
        let damaged = |what: String| self.damaged(&seen, what);
        let frame = frame.map_err(|error| damaged(error.to_string()))?;
        let mut archive = tar::Archive::new(Damaged { inner: frame, seen: Rc::clone(&seen) });
        let entries = archive.entries().map_err(|error| damaged(error.to_string()))?;
        for (count, entry) in entries.raw(true).enumerate() {
            let mut entry = entry.map_err(|error| damaged(error.to_string()))?;
            let kind = entry.header().entry_type();
            if count == ENTRIES
                || !(kind.is_file() || kind.is_dir() || kind.is_hard_link() || kind.is_symlink())
            {
                // An extension header would give the entry after it another name or size, which
                // not every reader sees.
                return Err(Unread::Fault(Fault::Archive(
                    "it is not a plain ustar archive".into(),
                )));
            }
            let path = entry.path_bytes().into_owned();
            let known = names::ALL.into_iter().find(|name| name.as_bytes() == path);
            if let Some(name) = known.filter(|_| kind.is_file())
                && visit(name, &mut entry)?
            {
                return Ok(());
            }
        }
        let Damaged { inner: frame, .. } = archive.into_inner();
        self.check_end(frame, &seen)
    }

    /// What a reader of the tar does not come to, which stops at the tar's own end: that the frame is
    /// whole, and all that there is.
    fn check_end(&self, mut frame: Frame, seen: &RefCell<Seen>) -> Result<(), Unread> {
        let damaged = |error: io::Error| self.damaged(seen, error.to_string());
        io::copy(&mut frame, &mut io::sink()).map_err(damaged)?;
        let (mut file, decoder) = frame.into_parts();
        let stored = decoder.get_checksum_from_data();
        if stored.is_some() && stored != decoder.get_calculated_checksum() {
            return Err(Unread::Fault(Fault::Archive("its content has another checksum".into())));
        }
        if file.inner.fill_buf().map_err(|error| self.io(error))?.is_empty() {
            return Ok(());
        }
        Err(Unread::Fault(Fault::Archive("something follows the zstd frame".into())))
    }

    /// What an error while a file was read says.
    pub(crate) fn unread(&self, error: io::Error) -> Unread {
        match error.downcast::<ArchiveError>() {
            Ok(ArchiveError { ended: true, .. }) => Unread::Fault(Fault::ArchiveEnds),
            Ok(ArchiveError { what, .. }) => Unread::Fault(Fault::Archive(what)),
            Err(error) => self.io(error),
        }
    }

    fn damaged(&self, seen: &RefCell<Seen>, what: String) -> Unread {
        let mut seen = seen.borrow_mut();
        match seen.failed.take() {
            Some(error) => self.io(error),
            None if seen.ended => Unread::Fault(Fault::ArchiveEnds),
            None => Unread::Fault(Fault::Archive(what)),
        }
    }

    fn io(&self, source: io::Error) -> Unread {
        Unread::Io(BundleError::Io { path: self.path.clone(), source })
    }
}

/// What was noticed of the compressed file: neither decoder hands it on as it was.
#[derive(Default)]
struct Seen {
    ended: bool,
    failed: Option<io::Error>,
}

/// The decompressed content of an archive.
type Frame = StreamingDecoder<Tracked<BufReader<File>>, FrameDecoder>;

struct Tracked<R> {
    inner: R,
    seen: Rc<RefCell<Seen>>,
}

impl<R: Read> Read for Tracked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        let mut seen = self.seen.borrow_mut();
        match read {
            Ok(0) if !buffer.is_empty() => seen.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let again = io::Error::from(error.kind());
                seen.failed = Some(error);
                return Err(again);
            }
        }
        read
    }
}

/// An archive that cannot be decompressed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct ArchiveError {
    ended: bool,
    what: String,
}

/// Turns errors of the decoder into what they say about the archive.
struct Damaged<R> {
    inner: R,
    seen: Rc<RefCell<Seen>>,
}

impl<R: Read> Read for Damaged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let mut seen = self.seen.borrow_mut();
            match seen.failed.take() {
                Some(failed) => failed,
                None => {
                    io::Error::other(ArchiveError { ended: seen.ended, what: error.to_string() })
                }
            }
        })
    }
}
