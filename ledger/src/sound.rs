//! Refusing to write while the set-up of a storage is not what the ledger rests on.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::port::{AppendError, AppendFailure, Finding, LedgerError};

/// Looks at the set-up now and then only: in between, the unique key of tenant and seq alone keeps
/// writers apart.
pub(crate) struct Sound {
    every: Duration,
    /// When nothing was last found that refuses writing; `None` if something was, and at first.
    seen_at: Mutex<Option<Instant>>,
}

impl Sound {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, seen_at: Mutex::default() }
    }

    /// Look at `findings` if it is time to.
    pub(crate) async fn check(
        &self,
        findings: impl Future<Output = Result<Vec<Finding>, LedgerError>>,
    ) -> Result<(), AppendError> {
        let recently = |at: Instant| at.elapsed() < self.every;
        if self.seen_at.lock().await.is_some_and(recently) {
            return Ok(());
        }
        let refused = |reason| AppendError { landed: 0, cause: AppendFailure::Unavailable(reason) };
        let findings = findings.await.map_err(|error| refused(error.to_string()))?;
        let blocking = findings.into_iter().find(|finding| finding.blocks_writes);
        *self.seen_at.lock().await = blocking.is_none().then(Instant::now);
        blocking.map_or(Ok(()), |finding| {
            Err(refused(format!("{}: {}", finding.code, finding.message)))
        })
    }
}
