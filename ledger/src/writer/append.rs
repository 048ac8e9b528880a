//! Appending a batch until each commit's fate is known. An outcome is never guessed: what the
//! storage did not say is read back and compared by hash, then sent again as the same bytes.

use std::{sync::Arc, time::Duration};

use stella_domain::chain::Commit;
use tokio::time::Instant;

use crate::port::{AppendError, AppendFailure, Ledger, LedgerError};

/// How long an append may take before its callers are told that its outcome is unknown.
pub(super) const RESOLVE_FOR: Duration = Duration::from_secs(8);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Appended {
    /// Leading commits that are durable.
    pub(super) landed: usize,
    /// What happened to the next one; `None` when all landed.
    pub(super) failure: Option<Failure>,
}

/// Why a batch stopped.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Another writer's commit stands at its place.
    Conflict,
    /// Nothing more was written.
    Unavailable(String),
    /// The next commit may be in the ledger.
    Unknown(String),
}

/// Append `commits` and settle what the storage left open.
pub(super) async fn append_resolved(ledger: &dyn Ledger, commits: &[Arc<Commit>]) -> Appended {
    let deadline = Instant::now() + RESOLVE_FOR;
    let mut landed = 0;
    let mut pause = FIRST_PAUSE;
    // Once a send has ended without an answer, the commit may be there, however later sends end.
    let mut in_doubt = false;
    while landed < commits.len() {
        let Err(AppendError { landed: more, cause }) = ledger.append(&commits[landed..]).await
        else {
            return Appended { landed: commits.len(), failure: None };
        };
        if more > 0 {
            in_doubt = false;
        }
        landed += more;
        let reason = match cause {
            AppendFailure::Conflict => String::new(),
            AppendFailure::Unavailable(reason) => reason,
            AppendFailure::Unknown(reason) => {
                in_doubt = true;
                reason
            }
        };
        match stands_at(ledger, &commits[landed]).await {
            Ok(Standing::Ours) => {
                landed += 1;
                in_doubt = false;
                continue;
            }
            Ok(Standing::Others) => return Appended { landed, failure: Some(Failure::Conflict) },
            Ok(Standing::Nothing) | Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            let failure =
                if in_doubt { Failure::Unknown(reason) } else { Failure::Unavailable(reason) };
            return Appended { landed, failure: Some(failure) };
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Appended { landed, failure: None }
}

enum Standing {
    Ours,
    Others,
    Nothing,
}

/// Who holds the place of `commit`.
async fn stands_at(ledger: &dyn Ledger, commit: &Commit) -> Result<Standing, LedgerError> {
    let tenant = &commit.ledger.tenant;
    if let Some(found) = ledger.read(tenant, commit.seq, 1).await?.first() {
        let ours = found.seq == commit.seq && found.head().hash == commit.head().hash;
        return Ok(if ours { Standing::Ours } else { Standing::Others });
    }
    // The seq is free, yet the stream version may be taken by a commit at an earlier seq.
    let stream = ledger.read_streams(tenant, std::slice::from_ref(&commit.stream)).await?;
    let taken = stream
        .last()
        .is_some_and(|last| last.stream_version + last.events.len() as u64 > commit.stream_version);
    Ok(if taken { Standing::Others } else { Standing::Nothing })
}
