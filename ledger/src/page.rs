//! Commits on their way in from a storage: checked against their hashes many at a time, which takes a
//! fraction of the time that one after the other does.

use stella_domain::{
    chain::{Commit, StoredPayload},
    ids::Tenant,
};

use crate::port::LedgerError;

/// Data and payloads that one page has at most, but for its last commit, so that large commits do not
/// fill the memory.
pub(crate) const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Commits checked in one go, before other tasks of this thread get their turn.
const CHECKED_AT_ONCE: usize = 64;

/// What was read so far.
pub(crate) struct Page<'t> {
    tenant: &'t Tenant,
    commits: Vec<Commit>,
    checked: usize,
    /// Bytes of data and payloads that still fit.
    room: usize,
}

impl<'t> Page<'t> {
    /// Full after so many bytes of data and payloads.
    pub(crate) fn new(tenant: &'t Tenant, bytes: usize) -> Self {
        Self { tenant, commits: vec![], checked: 0, room: bytes }
    }

    /// Whether no further commit is to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.room == 0
    }

    /// Take the next one in. The first that does not hold is the one that is told of.
    pub(crate) async fn push(
        &mut self,
        decoded: Result<Commit, LedgerError>,
    ) -> Result<(), LedgerError> {
        match decoded {
            Ok(commit) => {
                self.room = self.room.saturating_sub(bytes_of(&commit));
                self.commits.push(commit);
            }
            Err(error) => {
                self.check()?;
                return Err(error);
            }
        }
        if self.commits.len() - self.checked >= CHECKED_AT_ONCE {
            self.check()?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// All that was read, checked.
    pub(crate) fn finish(mut self) -> Result<Vec<Commit>, LedgerError> {
        self.check()?;
        Ok(self.commits)
    }

    fn check(&mut self) -> Result<(), LedgerError> {
        let tenant = self.tenant;
        Commit::verify_each(&self.commits[self.checked..])
            .map_err(|source| LedgerError::Damaged { tenant: tenant.clone(), source })?;
        self.checked = self.commits.len();
        Ok(())
    }
}

fn bytes_of(commit: &Commit) -> usize {
    let payload = |payload: &StoredPayload| payload.json().map_or(0, |json| json.as_str().len());
    commit.events.iter().map(|event| event.data.as_str().len() + payload(&event.payload)).sum()
}
