//! The newest checkpoint, kept outside the database: what a ledger that was restored from an older
//! backup, or written anew, cannot argue with.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stella_domain::checkpoint::{Checkpoint, Keyring, NOTE_BYTES};

use super::{SignerError, proofs::Noted};

/// The files that each hold the newest note.
#[derive(Debug, Clone)]
pub struct Kept {
    paths: Vec<PathBuf>,
}

impl Kept {
    /// Kept in each of these files; their directories are made when they are missing.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// Whether nothing is kept yet.
    pub fn is_empty(&self) -> bool {
        self.paths.iter().all(|path| !path.exists())
    }

    /// The newest of the notes that are kept; `None` when there is no file yet.
    ///
    /// # Errors
    /// [`SignerError::Kept`] when a file is there that cannot be read, or whose note does not
    /// verify: somebody has to look at it. [`SignerError::Forked`] when two files contradict.
    pub fn load(&self, keyring: &Keyring) -> Result<Option<Noted>, SignerError> {
        let mut newest: Option<Noted> = None;
        for path in &self.paths {
            let Some(found) = read(path, keyring)? else { continue };
            match &newest {
                Some(known) if known.checkpoint.size == found.checkpoint.size => {
                    if known.checkpoint.root != found.checkpoint.root {
                        let Checkpoint { ledger, size, .. } = found.checkpoint;
                        let place = format!("in {}", path.display());
                        return Err(SignerError::Forked { ledger, size, place });
                    }
                }
                Some(known) if known.checkpoint.size > found.checkpoint.size => {}
                Some(_) | None => newest = Some(found),
            }
        }
        Ok(newest)
    }

    /// Keep `note` instead of what was kept before, durably, in every file.
    ///
    /// # Errors
    /// [`SignerError::Kept`]: some files may have it, each whole.
    pub async fn store(&self, note: &str) -> Result<(), SignerError> {
        let (paths, note) = (self.paths.clone(), note.to_owned());
        // Syncing blocks for as long as the disk takes.
        let written = tokio::task::spawn_blocking(move || {
            paths.iter().try_for_each(|path| {
                replace(path, &note).map_err(|error| kept_error(path, &error.to_string()))
            })
        });
        written.await.map_err(|error| kept_error(Path::new("(writing)"), &error.to_string()))?
    }
}

fn kept_error(path: &Path, reason: &str) -> SignerError {
    SignerError::Kept { path: path.to_owned(), reason: reason.to_owned() }
}

/// The note in this file, whatever it says; `None` when there is no file.
pub(super) fn read_note(path: &Path) -> Result<Option<String>, SignerError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(kept_error(path, &error.to_string())),
    };
    if size > NOTE_BYTES as u64 {
        return Err(kept_error(path, "it is too large for a checkpoint"));
    }
    fs::read_to_string(path).map(Some).map_err(|error| kept_error(path, &error.to_string()))
}

fn read(path: &Path, keyring: &Keyring) -> Result<Option<Noted>, SignerError> {
    let Some(note) = read_note(path)? else { return Ok(None) };
    let checkpoint = keyring.verify(&note).map_err(|error| {
        kept_error(
            path,
            &format!(
                "it is not a checkpoint that the key of this node stands for: {error}. Give this \
                 node the key that signed it with --signing-key; if that key is lost for good, \
                 put the file where auditors find it, and only then start without it"
            ),
        )
    })?;
    Ok(Some(Noted { checkpoint, note }))
}

/// Replace a file's text, durably; its directory is made when it is missing. Readers, also after a
/// power cut, see the old text or the new one.
///
/// # Errors
/// Those of the file system; the file is whole nevertheless.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_parent(path)
}

/// Make a file's name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
