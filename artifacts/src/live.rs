//! The logs of steps that run: a file of this node each, until its step ends and it becomes an
//! artifact. Files that an earlier process left are taken up again.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lru::LruCache;
use stella_domain::{
    artifact::{self, Artifact},
    hash::ArtifactHasher,
    ids::{FencingToken, LedgerId, RunId},
    limits::LOG_BYTES,
};

use crate::store::{ArtifactError, ArtifactStore};

/// Attempts that have ended of which is still known what they wrote: their end may be decided again.
const CLOSED: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// Why something was not added to a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What comes before it is not there.
    #[error("the log has {expected} bytes here: what follows begins there")]
    Gap {
        /// Where the next byte has to begin.
        expected: u64,
    },
    /// The attempt is ending, or has.
    #[error("the attempt is over: nothing is added to its log any more")]
    Closed,
    /// It would be too large.
    #[error("a log has at most {LOG_BYTES} bytes: leave out what is in the middle")]
    TooLarge,
    /// The file cannot be written.
    #[error("the log cannot be written: {0}")]
    File(#[from] io::Error),
}

/// Part of a log that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePart {
    /// The bytes from where they were asked for.
    pub bytes: Vec<u8>,
    /// How many there are in all, so far.
    pub size: u64,
}

/// The logs of the attempts that are under way.
pub struct LiveLogs {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    open: HashMap<FencingToken, Arc<Live>>,
    closed: LruCache<FencingToken, Artifact>,
}

struct Live {
    path: PathBuf,
    /// Held while bytes are written, which may take as long as the disk does.
    file: Mutex<File>,
    written: Mutex<Written>,
}

/// What of the file counts.
#[derive(Clone, Default)]
struct Written {
    hasher: ArtifactHasher,
    size: u64,
    closed: bool,
}

impl Written {
    fn artifact(&self) -> Option<Artifact> {
        (self.size > 0).then(|| Artifact {
            digest: self.hasher.finish().into(),
            media_type: artifact::LOG.into(),
            name: None,
            size: self.size,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every holder leaves plain data whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveLogs {
    /// The logs in `folder`, which is made unless it is there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut open = HashMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // What is called otherwise is none of ours, and stays.
            let Some(token) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            open.insert(token, Arc::new(Live::left(entry.path())?));
        }
        let state = Mutex::new(State { open, closed: LruCache::new(CLOSED) });
        Ok(Self { folder: folder.to_owned(), state })
    }

    /// Where they are. Files in it that have other names than logs stay.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Add what an attempt wrote, from byte `offset` of its log on. What is known already is not
    /// added twice, so that this can be repeated. Answers how many bytes the log has then.
    ///
    /// It waits for the disk.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn append(&self, token: &FencingToken, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        let live = {
            let mut state = lock(&self.state);
            if state.closed.contains(token) {
                return Err(LogError::Closed);
            }
            match state.open.get(token) {
                Some(live) => Arc::clone(live),
                None if offset > 0 => return Err(LogError::Gap { expected: 0 }),
                None => {
                    let live = Arc::new(Live::new(self.folder.join(token.to_string()))?);
                    state.open.insert(token.clone(), Arc::clone(&live));
                    live
                }
            }
        };
        live.append(offset, bytes)
    }

    /// What an attempt that is under way wrote, from `offset` on, at most `max` bytes; `None` when
    /// nothing is known of it here.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(
        &self,
        token: &FencingToken,
        offset: u64,
        max: usize,
    ) -> io::Result<Option<LivePart>> {
        let Some(live) = lock(&self.state).open.get(token).cloned() else { return Ok(None) };
        let size = lock(&live.written).size;
        let bytes = live.bytes(offset, size.min(offset.saturating_add(max as u64)))?;
        Ok(Some(LivePart { bytes, size }))
    }

    /// How much an attempt that is under way wrote so far.
    pub fn size(&self, token: &FencingToken) -> Option<u64> {
        let live = lock(&self.state).open.get(token).cloned()?;
        let size = lock(&live.written).size;
        Some(size)
    }

    /// Nothing is added to this attempt's log from here on. Gives what was written; safe to repeat.
    pub fn close(&self, token: &FencingToken) -> Option<Artifact> {
        let mut state = lock(&self.state);
        if let Some(closed) = state.closed.get(token) {
            return Some(closed.clone());
        }
        let live = Arc::clone(state.open.get(token)?);
        drop(state);
        let mut written = lock(&live.written);
        written.closed = true;
        written.artifact()
    }

    /// [`close`](Self::close), and put what was written into `store`.
    ///
    /// # Errors
    /// [`ArtifactError`]; it is closed and can be tried again.
    pub async fn settle(
        self: &Arc<Self>,
        token: &FencingToken,
        store: &ArtifactStore,
        ledger: &LedgerId,
    ) -> Result<Option<Artifact>, ArtifactError> {
        let Some(artifact) = self.close(token) else { return Ok(None) };
        let Some(live) = lock(&self.state).open.get(token).cloned() else {
            // Settled before.
            return Ok(Some(artifact));
        };
        let size = artifact.size;
        let bytes = tokio::task::spawn_blocking(move || live.bytes(0, size));
        let bytes = Bytes::from(bytes.await.map_err(io::Error::other)??);
        store.put(ledger, &token.run_id, &artifact, bytes).await?;
        Ok(Some(artifact))
    }

    /// The attempt's end is recorded, and its log is in the store: the file is needed no more.
    pub fn forget(&self, token: &FencingToken) {
        let mut state = lock(&self.state);
        let Some(live) = state.open.remove(token) else { return };
        let written = lock(&live.written).clone();
        if let Some(artifact) = written.artifact() {
            state.closed.put(token.clone(), artifact);
        }
        drop(state);
        if let Err(error) = fs::remove_file(&live.path) {
            tracing::warn!(%error, path = %live.path.display(), "a log that was settled remains");
        }
    }

    /// Remove what a run's attempts wrote, which has ended.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn erase(&self, run_id: &RunId) -> io::Result<()> {
        let mut state = lock(&self.state);
        let of_run = |token: &FencingToken| token.run_id == *run_id;
        let closed: Vec<_> = state.closed.iter().map(|(token, _)| token.clone()).collect();
        for token in closed.iter().filter(|token| of_run(token)) {
            state.closed.pop(token);
        }
        let open: Vec<_> = state.open.keys().filter(|token| of_run(token)).cloned().collect();
        // One that stays is known still: it is to be tried again.
        open.iter().try_for_each(|token| match state.open.get(token) {
            Some(live) => {
                match fs::remove_file(&live.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                state.open.remove(token);
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// Settle and forget the logs of attempts that are over.
    ///
    /// # Errors
    /// [`ArtifactError`] of the first that cannot be settled; the others are tried the next time.
    pub async fn sweep(
        self: &Arc<Self>,
        store: &ArtifactStore,
        ledger: &LedgerId,
        is_under_way: impl Fn(&FencingToken) -> bool,
    ) -> Result<(), ArtifactError> {
        let tokens: Vec<_> = lock(&self.state).open.keys().cloned().collect();
        for token in tokens.iter().filter(|token| !is_under_way(token)) {
            self.settle(token, store, ledger).await?;
            self.forget(token);
        }
        Ok(())
    }
}

impl Live {
    fn new(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        Ok(Self { path, file: Mutex::new(file), written: Mutex::default() })
    }

    /// A file that an earlier process left.
    fn left(path: PathBuf) -> io::Result<Self> {
        let live = Self::new(path)?;
        let mut written = Written::default();
        let mut chunk = vec![0; 64 * 1024];
        {
            let mut file = lock(&live.file);
            while let n @ 1.. = file.read(&mut chunk)? {
                written.hasher.update(&chunk[..n]);
                written.size += n as u64;
            }
        }
        *lock(&live.written) = written;
        Ok(live)
    }

    fn append(&self, offset: u64, bytes: &[u8]) -> Result<u64, LogError> {
        let mut file = lock(&self.file);
        let Written { size, closed, .. } = *lock(&self.written);
        if closed {
            return Err(LogError::Closed);
        }
        let known = size.checked_sub(offset).ok_or(LogError::Gap { expected: size })?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let news = &bytes[known..];
        if news.is_empty() {
            return Ok(size);
        }
        if size + news.len() as u64 > LOG_BYTES as u64 {
            return Err(LogError::TooLarge);
        }
        // What a write that failed half-way left does not count.
        file.set_len(size)?;
        file.write_all(news)?;
        file.sync_data()?;
        let mut written = lock(&self.written);
        if written.closed {
            return Err(LogError::Closed);
        }
        written.hasher.update(news);
        written.size += news.len() as u64;
        Ok(written.size)
    }

    fn bytes(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or_default()];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        // A handle of its own: whoever writes need not be waited for.
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
