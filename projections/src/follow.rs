//! Keeping read models up with their ledger.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use stella_ledger::feed::Feed;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{ProjectionError, tenant::TenantModels};

/// Commits in one transaction: enough to make it cheap, few enough to fold between other tasks.
const BATCH_COMMITS: usize = 1_024;
/// Of the time, one part in this many goes into transactions: the first event after a pause is
/// shown at once, under load each transaction carries what gathered meanwhile. A run that passes
/// through several states in that time is written once, and the load has the rest of the machine.
const SHARE: u32 = 5;
/// Transactions begin at least, and wait for each other at most, this long.
const LEAST_PACE: Duration = Duration::from_millis(4);
const MOST_PACE: Duration = Duration::from_millis(25);
/// Wait before trying again what failed for a passing reason.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Apply what is committed, until `shutdown`.
///
/// # Errors
/// What does not pass by itself. A ledger that does not answer, and a disk that does not take
/// writes, are tried again.
pub(crate) async fn follow(
    models: Arc<TenantModels>,
    feed: Arc<Feed>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ProjectionError> {
    let mut shutdown = pin!(shutdown);
    loop {
        // A batch is small: it is finished rather than cut off.
        let error = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Err(error) = follow_until_error(&models, &feed) => error,
        };
        if !passes(&error) {
            return Err(error);
        }
        tracing::warn!(tenant = %models.tenant, %error, "projections stand still, trying again");
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            () = sleep(RETRY_AFTER) => {}
        }
    }
}

fn passes(error: &ProjectionError) -> bool {
    error.is_transient() || matches!(error, ProjectionError::Storage { .. })
}

/// Safe to cancel: a batch that is dropped half way has had no effect.
async fn follow_until_error(
    models: &TenantModels,
    feed: &Arc<Feed>,
) -> Result<std::convert::Infallible, ProjectionError> {
    models.verify().await?;
    let mut follower = feed.follow(&models.tenant, models.head().next_seq);
    loop {
        let swept = async {
            match models.sweeping.at() {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let commits = tokio::select! {
            biased;
            () = swept => {
                sweep(models).await;
                continue;
            }
            commits = follower.next(BATCH_COMMITS) => commits?,
        };
        let begun = Instant::now();
        if !models.apply_if_next(&commits).await? {
            follower = feed.follow(&models.tenant, models.head().next_seq);
        }
        // Who is behind does not rest.
        if commits.len() < BATCH_COMMITS {
            let pace = (begun.elapsed() * SHARE).clamp(LEAST_PACE, MOST_PACE);
            sleep_until(begun + pace).await;
        }
    }
}

/// Batches wait meanwhile, reads go on until the files change places. One that fails holds nothing
/// back: it is tried again.
async fn sweep(models: &TenantModels) {
    let begun = Instant::now();
    let swept = models.sweep().await;
    models.sweeping.ended(begun, matches!(swept, Ok(true)));
    if let Err(error) = swept {
        tracing::warn!(tenant = %models.tenant, %error, "what was erased is still to be swept out");
    }
}
