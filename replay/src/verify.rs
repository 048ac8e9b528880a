//! Verification of a live ledger, by the rules for exported lines.

use stella_domain::ids::Tenant;
use stella_ledger::port::{Ledger, LedgerError};
use stella_verify::{
    Reason,
    ndjson::{Broken, Progress, Report, Verifier, VerifyError},
};

/// Commits read at a time.
const COMMITS_AT_ONCE: usize = 256;
/// Bytes of lines that are hashed side by side; more by one commit.
const VERIFIED_AT_ONCE: usize = 128 * 1024;

/// Why there is no report on a live ledger.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The events do not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The ledger could not be read, or is damaged.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Verify a whole live ledger as it stands when its end is reached.
///
/// Goes through the lines that an export would have, so that both are held to the same rules.
///
/// # Errors
/// [`LiveError`] names the first line (seq + 1) that does not hold.
pub async fn verify_ledger(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LiveError> {
    let mut verifier = Verifier::new();
    let mut text = String::new();
    loop {
        let from_seq = verifier.next_seq().unwrap_or(0);
        let commits = ledger.read(tenant, from_seq, COMMITS_AT_ONCE).await?;
        if commits.is_empty() {
            return Ok(verifier.report());
        }
        // Not the verifier's own business: a window may begin anywhere, a ledger may not.
        if let (None, Some(first)) = (verifier.next_seq(), commits.first())
            && first.seq > 0
        {
            let reason = Reason::Seq { expected: 0, found: first.seq };
            let broken = Broken { file: None, line: 1, seq: Some(0), reason };
            return Err(VerifyError::Broken(Box::new(broken)).into());
        }
        for commit in &commits {
            commit.write_ndjson(&mut text);
            if text.len() >= VERIFIED_AT_ONCE {
                verifier.read_with(text.as_bytes(), None, |_, _| {})?;
                text.clear();
                tokio::task::consume_budget().await;
            }
        }
        verifier.read_with(text.as_bytes(), None, |_, _| {})?;
        text.clear();
        progress(verifier.progress());
    }
}
