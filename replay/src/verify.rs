//! Verification of a live ledger, by the rules for exported lines.

use stella_domain::ids::Tenant;
use stella_ledger::{
    port::{Ledger, LedgerError},
    uri::Storage,
};
use stella_verify::{
    LedgerJudge, LedgerReport, Reason, Trust,
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

/// Hand the lines that an export of the whole ledger would have to `take`, some at a time, until it
/// has enough, or the ledger ends.
async fn each_lines<E: From<LedgerError>>(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    mut take: impl FnMut(&[u8]) -> Result<bool, E>,
) -> Result<(), E> {
    let (mut text, mut from_seq, mut limit) = (String::new(), 0, COMMITS_AT_ONCE);
    loop {
        let commits = match ledger.read(tenant, from_seq, limit).await {
            // Somewhere in the page: what comes before it is handed out, one by one.
            Err(LedgerError::Damaged { .. } | LedgerError::Malformed { .. }) if limit > 1 => {
                limit = 1;
                continue;
            }
            read => read?,
        };
        let Some(last) = commits.last() else { return Ok(()) };
        from_seq = last.head().next_seq;
        for (i, commit) in commits.iter().enumerate() {
            commit.write_ndjson(&mut text);
            if text.len() >= VERIFIED_AT_ONCE || i + 1 == commits.len() {
                if !take(text.as_bytes())? {
                    return Ok(());
                }
                text.clear();
                tokio::task::consume_budget().await;
            }
        }
    }
}

/// Verify the chain of a whole live ledger as it stands when its end is reached.
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
    each_lines(ledger, tenant, |lines| {
        let is_first = verifier.next_seq().is_none();
        verifier.read_with(lines, None, |_, _| {})?;
        // Not the verifier's own business: a window may begin anywhere, a ledger may not.
        if let Some(span) = verifier.report().span.filter(|span| is_first && span.first_seq > 0) {
            let reason = Reason::Seq { expected: 0, found: span.first_seq };
            let broken = Broken { file: None, line: 1, seq: Some(0), reason };
            return Err(LiveError::from(VerifyError::Broken(Box::new(broken))));
        }
        progress(verifier.progress());
        Ok(true)
    })
    .await?;
    Ok(verifier.report())
}

/// Judge a whole live ledger by the newest checkpoint that is stored beside it.
///
/// # Errors
/// [`LedgerError`] when the storage does not answer; what does not hold gives a verdict.
pub async fn judge_ledger(
    storage: &Storage,
    tenant: &Tenant,
    trust: &Trust,
    progress: &mut dyn FnMut(Progress),
) -> Result<LedgerReport, LedgerError> {
    // Before the events, which only become more.
    let newest = storage.checkpoints.newest_note(tenant).await?;
    let mut judge = LedgerJudge::new(newest.as_ref().map(|newest| &*newest.note), trust);
    if judge.wants_more() {
        let read = each_lines(&*storage.ledger, tenant, |lines| {
            judge.read(lines);
            progress(judge.progress());
            Ok::<_, LedgerError>(judge.wants_more())
        });
        match read.await {
            Ok(()) => {}
            Err(error @ LedgerError::Unavailable(_)) => return Err(error),
            // It was read commit by commit up to there.
            Err(error) => judge.damaged(Some(judge.next_seq()), error.to_string()),
        }
    }
    Ok(judge.report())
}
