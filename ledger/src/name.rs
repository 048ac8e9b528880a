//! A ledger's name, `<origin>/<tenant>`, which every event's header carries: no event of another
//! name may come into a chain.

use stella_domain::{chain::Commit, ids::LedgerId};

use crate::port::{Ledger, LedgerError};

/// Check that what `ledger` holds for the tenant of `name` has this name, by its last commit.
///
/// # Errors
/// [`LedgerError::OtherName`] when it has another, and those of reading.
pub async fn check_name(ledger: &dyn Ledger, name: &LedgerId) -> Result<(), LedgerError> {
    let head = ledger.head(&name.tenant).await?;
    let Some(last) = head.next_seq.checked_sub(1) else { return Ok(()) };
    let last = ledger.read(&name.tenant, last, 1).await?;
    last.iter().try_for_each(|commit| check_commit(commit, name))
}

/// Check that `commit` belongs to the ledger of this name.
pub(crate) fn check_commit(commit: &Commit, name: &LedgerId) -> Result<(), LedgerError> {
    if *commit.ledger == *name {
        return Ok(());
    }
    let (stored, configured) = ((*commit.ledger).clone(), name.clone());
    Err(LedgerError::OtherName { stored, configured })
}
