//! Looking a storage over: everything that is wrong with it, not only the first thing.
//!
//! One pass over the commits, in constant memory but for a bit for each event whose payload is gone: each
//! by itself, each after the one before, the Merkle tree that they lead to, the tiles and checkpoints that
//! are stored of it, and what became of payloads. Then one over their places in their streams.

mod chain;
mod erasures;
mod report;
pub mod scan;
mod tree;

use std::sync::Arc;

use futures::TryStreamExt as _;
use stella_domain::{checkpoint::Keyring, ids::Tenant};

pub use self::report::{LISTED, Problem, Report};
use self::{
    chain::Chain,
    erasures::Erasures,
    scan::{Scan, StreamPlace},
    tree::TreeCheck,
};
use crate::{port::LedgerError, uri::Storage};

/// Look over the ledger of `tenant`. With `keys`, the signatures of checkpoints are checked too.
///
/// # Errors
/// [`LedgerError`] when the storage cannot be read any further; what does not hold is no error.
pub async fn fsck(
    storage: &Storage,
    scan: &Arc<dyn Scan>,
    tenant: &Tenant,
    keys: Option<&Keyring>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, LedgerError> {
    let mut report = Report { findings: storage.ledger.findings().await?, ..Report::default() };
    let (mut chain, mut erasures) = (Chain::default(), Erasures::default());
    let mut tree = TreeCheck::begin(&storage.checkpoints, tenant, keys, &mut report).await?;
    let mut commits = scan.commits(tenant);
    while let Some(stored) = commits.try_next().await? {
        report.commits += 1;
        if let Some(commit) = chain.take(stored, &mut report) {
            erasures.take(&commit, &mut report);
            tree.take(&commit, &mut report).await?;
            report.events += commit.events.len() as u64;
            report.ledger.get_or_insert_with(|| commit.ledger.to_string());
            progress(commit.head().next_seq);
        } else {
            tree.interrupted(&mut report);
        }
        tokio::task::consume_budget().await;
    }
    tree.end(&mut report).await?;
    erasures.end(&mut report);
    // Without its index the places could only be sorted in memory, or not at all.
    if report.findings.iter().all(|finding| finding.code != "INDEX_MISSING") {
        let mut before: Option<StreamPlace> = None;
        let mut places = scan.places(tenant);
        while let Some(place) = places.try_next().await? {
            follows(before.as_ref(), &place, &mut report);
            before = Some(place);
        }
    }
    Ok(report)
}

/// Versions of a stream begin at 1 and have no gap.
fn follows(before: Option<&StreamPlace>, place: &StreamPlace, report: &mut Report) {
    let before = before.filter(|before| before.stream == place.stream);
    if before.is_none() {
        report.streams += 1;
    }
    let expected = before.map_or(1, |before| {
        before.version.saturating_add(before.last_seq.saturating_sub(before.seq)).saturating_add(1)
    });
    if place.version != expected {
        let StreamPlace { stream, version, seq, .. } = place;
        report.add(
            "STREAM_GAP",
            u64::try_from(*seq).ok(),
            format!(
                "the stream {stream} goes on with version {version} where {expected} comes next: \
             commits of it are missing, or stand twice"
            ),
        );
    }
}
