//! Export of a time window as NDJSON, in memory that does not grow with the window.
//!
//! A window [from, to) is one contiguous run of seq and cuts no commit; it is closed once an event
//! at or after `to` exists, and its export is then the same bytes for ever, erasures aside.
//! Source: `docs/ledger-format.md`, section 4.

use std::{collections::VecDeque, sync::Arc};

use futures::{Stream, stream};
use serde::Serialize;
use stella_domain::{
    chain::{ChainError, Commit, Head},
    ids::Tenant,
    time::Timestamp,
};
use stella_ledger::port::{Ledger, LedgerError};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Bytes at which a chunk is handed on; it may be larger by one commit.
const CHUNK_BYTES: usize = 256 * 1024;
/// Commits read at a time. They are in memory together, with at most 4 MiB each.
const COMMITS_AT_ONCE: usize = 64;

/// A closed time window, resolved to the events in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Its events were recorded at this time or later.
    pub from: Timestamp,
    /// Its events were recorded before this time.
    pub to: Timestamp,
    /// `seq` of its first event.
    pub first_seq: u64,
    /// One past the `seq` of its last event; `first_seq` when the window is empty.
    pub end_seq: u64,
}

/// Why a window cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// It ends before it begins.
    #[error("the window is upside down: it begins at {from}, after its end at {to}; swap them")]
    FromAfterTo {
        /// As asked for.
        from: Timestamp,
        /// As asked for.
        to: Timestamp,
    },
    /// More events may still fall into it.
    #[error(
        "the window is still open: nothing was recorded at or after {to} yet, and its export could \
         change; seal the ledger after that time, or choose an earlier end"
    )]
    Open {
        /// As asked for.
        to: Timestamp,
    },
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger could not be read, or is damaged.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger ends within a closed window: it lost events.
    #[error(
        "the ledger ends at seq {at}, but the window goes on to seq {end_seq}: events were lost; \
         compare the ledger with its newest checkpoint"
    )]
    Shrunk {
        /// The seq that is missing.
        at: u64,
        /// Where the window ends.
        end_seq: u64,
    },
    /// The place to go on from is not in the window.
    #[error("seq {at} is not in the window, which is [{first_seq}, {end_seq})")]
    ResumeOutside {
        /// As asked for.
        at: u64,
        /// `seq` of the window's first event.
        first_seq: u64,
        /// One past the `seq` of its last.
        end_seq: u64,
    },
    /// The output could not be written.
    #[error("the export could not be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Whole lines of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// NDJSON, each line with its line feed.
    pub text: String,
    /// The seq after the last line: where to go on if the export breaks off after this chunk.
    pub next_seq: u64,
}

impl Window {
    /// Find the events of [`from`, `to`).
    ///
    /// # Errors
    /// [`WindowError`] when it is upside down or not closed yet.
    pub async fn resolve(
        ledger: &dyn Ledger,
        tenant: &Tenant,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Self, WindowError> {
        if from > to {
            return Err(WindowError::FromAfterTo { from, to });
        }
        let open = WindowError::Open { to };
        let end_seq = ledger.first_at_or_after(tenant, to).await?.ok_or(open)?;
        // There is an event at `to` or later, hence one at `from` or later.
        let first_seq = ledger.first_at_or_after(tenant, from).await?.unwrap_or(end_seq);
        Ok(Self { from, to, first_seq, end_seq })
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.end_seq - self.first_seq
    }

    fn check_resume(&self, at: u64) -> Result<(), ExportError> {
        let Self { first_seq, end_seq, .. } = *self;
        let inside = (first_seq..=end_seq).contains(&at);
        if inside { Ok(()) } else { Err(ExportError::ResumeOutside { at, first_seq, end_seq }) }
    }
}

/// The window's lines from `from_seq` on (its first seq, or where an earlier export broke off).
///
/// Ends after the first error.
pub fn chunks(
    ledger: Arc<dyn Ledger>,
    tenant: Tenant,
    window: Window,
    from_seq: u64,
) -> impl Stream<Item = Result<Chunk, ExportError>> + Send {
    let source = Source {
        ledger,
        tenant,
        end_seq: window.end_seq,
        next_seq: from_seq,
        head: None,
        commits: VecDeque::new(),
    };
    let start = window.check_resume(from_seq).map(|()| source);
    stream::try_unfold(Some(start), async |source| {
        let Some(source) = source else { return Ok(None) };
        let mut source = source?;
        let chunk = source.next_chunk().await?;
        Ok(chunk.map(|chunk| (chunk, Some(Ok(source)))))
    })
}

/// Write the window's lines from `from_seq` on, and tell `progress` the next seq after each chunk.
///
/// # Errors
/// [`ExportError`]; what was written ends with a whole line unless writing itself failed.
pub async fn write_window(
    ledger: Arc<dyn Ledger>,
    tenant: Tenant,
    window: Window,
    from_seq: u64,
    out: &mut (impl AsyncWrite + Unpin + Send),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), ExportError> {
    use futures::TryStreamExt as _;
    let mut chunks = std::pin::pin!(chunks(ledger, tenant, window, from_seq));
    while let Some(chunk) = chunks.try_next().await? {
        out.write_all(chunk.text.as_bytes()).await?;
        progress(chunk.next_seq);
    }
    out.flush().await?;
    Ok(())
}

/// A place within a window.
struct Source {
    ledger: Arc<dyn Ledger>,
    tenant: Tenant,
    end_seq: u64,
    next_seq: u64,
    /// Where the commit before ended; `None` before the first.
    head: Option<Head>,
    /// Read and not written yet.
    commits: VecDeque<Commit>,
}

impl Source {
    async fn next_chunk(&mut self) -> Result<Option<Chunk>, ExportError> {
        let mut text = String::new();
        while self.next_seq < self.end_seq && text.len() < CHUNK_BYTES {
            let Some(commit) = self.next_commit().await? else {
                return Err(ExportError::Shrunk { at: self.next_seq, end_seq: self.end_seq });
            };
            // Only the first commit can begin before the place: an export may go on within one.
            let skip = self.next_seq.saturating_sub(commit.seq);
            let start = text.len();
            commit.write_ndjson(&mut text);
            if skip > 0 {
                let lines = text[start..].split_inclusive('\n').take(skip as usize);
                let skipped: usize = lines.map(str::len).sum();
                text.drain(start..start + skipped);
            }
            self.next_seq = commit.last_seq() + 1;
        }
        Ok((!text.is_empty()).then_some(Chunk { text, next_seq: self.next_seq }))
    }

    /// The commit at the place, checked to follow the one before.
    async fn next_commit(&mut self) -> Result<Option<Commit>, ExportError> {
        if self.commits.is_empty() {
            let read = self.ledger.read(&self.tenant, self.next_seq, COMMITS_AT_ONCE).await?;
            self.commits = read.into();
        }
        let Some(commit) = self.commits.pop_front() else { return Ok(None) };
        let follows = match &self.head {
            Some(head) => commit.verify_follows(head),
            None if commit.seq <= self.next_seq => Ok(()),
            None => Err(ChainError::NotNext {
                seq: commit.seq,
                expected_seq: self.next_seq,
                reason: "the commit that should come first is missing",
            }),
        };
        follows.map_err(|source| LedgerError::Damaged { tenant: self.tenant.clone(), source })?;
        self.head = Some(commit.head());
        Ok(Some(commit))
    }
}
