//! Reading runs of events from a ledger, page by page.

use std::ops::Range;

use stella_domain::{chain::Commit, hash::Hash32, ids::Tenant};

use crate::port::{Ledger, LedgerError, READ_LIMIT};

/// Show `see` the hash of every event of `range`, in order, and answer how far it came: less than
/// `range.end` where the ledger ends earlier, or has a gap.
pub(super) async fn each_hash(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    range: Range<u64>,
    mut see: impl FnMut(&Hash32),
) -> Result<u64, LedgerError> {
    let mut at = range.start;
    let mut last: Option<Commit> = None;
    while at < range.end {
        // A commit has at least one event.
        let limit = usize::try_from(range.end - at).unwrap_or(READ_LIMIT).min(READ_LIMIT);
        let commits = ledger.read(tenant, at, limit).await?;
        let before = at;
        for commit in commits {
            if let Some(last) = &last {
                commit
                    .verify_follows(&last.head())
                    .map_err(|source| LedgerError::Damaged { tenant: tenant.clone(), source })?;
            } else if commit.seq > at {
                return Ok(at);
            }
            for (seq, event) in (commit.seq..range.end).zip(&commit.events) {
                // The first commit may begin before the range.
                if seq == at {
                    see(&event.hash);
                    at += 1;
                }
            }
            last = Some(commit);
        }
        if at == before {
            return Ok(at);
        }
    }
    Ok(at)
}
