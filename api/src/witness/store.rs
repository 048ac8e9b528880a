//! What a witness remembers: for each log a file with the last note that it cosigned, and what was
//! refused because it shows another history.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stella_domain::{
    checkpoint::{LogKey, NOTE_BYTES, WitnessKey},
    witness::{Seen, Submission, WitnessRefusal, log_id},
};
use stella_ledger::checkpoints::kept::replace;

use super::WitnessError;

/// Files of evidence. Whoever can reach the witness can have one written for each checkpoint that
/// a log has signed; then the disk would be theirs.
const EVIDENCE_FILES: usize = 1_000;

/// The directory of one witness, which one process has at a time.
pub(super) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, WitnessError> {
        let wrong = |reason: String| WitnessError::DataDir { path: dir.to_owned(), reason };
        for part in [dir.to_owned(), dir.join("evidence")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&part);
            made.map_err(|error| wrong(format!("cannot be made: {error}")))?;
        }
        let lock = File::create(dir.join("lock"))
            .map_err(|error| wrong(format!("cannot be written to: {error}")))?;
        lock.try_lock().map_err(|_| {
            wrong(
                "another witness runs on it: stop that one, or give --data-dir another".to_owned(),
            )
        })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The key, where no other file was named.
    pub(super) fn key_file(&self) -> PathBuf {
        self.dir.join("witness-key")
    }

    /// The last tree that was cosigned for a log.
    pub(super) fn seen(
        &self,
        origin: &str,
        own: &WitnessKey,
        keys: &[LogKey],
    ) -> Result<Seen, WitnessError> {
        let path = self.log_file(origin);
        let wrong = |reason: String| {
            let reason = format!(
                "it should hold the last checkpoint of {origin} that was cosigned here, but \
                 {reason}. Put it back as it was; a witness that has forgotten could cosign \
                 another history"
            );
            WitnessError::DataDir { path: path.clone(), reason }
        };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::default()),
            Err(error) => return Err(wrong(error.to_string())),
            // With the own cosignature it is a line longer than what was submitted.
            Ok(file) if file.len() > 2 * NOTE_BYTES as u64 => {
                return Err(wrong("it is too large".to_owned()));
            }
            Ok(_) => {}
        }
        let note = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        Seen::of_kept(&note, origin, own, keys).map_err(|error| wrong(error.to_string()))
    }

    /// Remember `note` as the last one cosigned for a log, durably.
    pub(super) async fn keep(&self, origin: &str, note: String) -> io::Result<()> {
        let path = self.log_file(origin);
        // Syncing blocks for as long as the disk takes.
        blocking(move || replace(&path, &note)).await
    }

    /// Keep what was refused beside what was cosigned; answers the file, which is within the data
    /// directory.
    pub(super) async fn keep_evidence(
        &self,
        kind: &str,
        origin: &str,
        submission: &Submission,
        refusal: &WitnessRefusal,
    ) -> io::Result<String> {
        // One file for one note, however often it is submitted.
        let (log, note) = (log_id(origin), log_id(&submission.note));
        let name = format!("evidence/{kind}-{}-{}.txt", &log[..16], &note[..16]);
        let (dir, path, kept) = (self.dir.clone(), self.dir.join(&name), self.log_file(origin));
        let refused = submission.to_text();
        let why = refusal.to_string();
        blocking(move || {
            if path.exists() {
                return Ok(());
            }
            if fs::read_dir(dir.join("evidence"))?.count() >= EVIDENCE_FILES {
                let full = format!("there are {EVIDENCE_FILES} files of evidence already");
                return Err(io::Error::other(full));
            }
            let cosigned = match fs::read_to_string(kept) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => "(none)\n".to_owned(),
                read => read?,
            };
            let text = format!(
                "{why}\n\n=== cosigned by this witness ===\n{cosigned}\n\
                 === submitted, and refused ===\n{refused}"
            );
            replace(&path, &text)
        })
        .await?;
        Ok(name)
    }

    fn log_file(&self, origin: &str) -> PathBuf {
        self.dir.join("logs").join(log_id(origin))
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
