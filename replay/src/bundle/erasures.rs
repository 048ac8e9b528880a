//! The `DataErased` events that explain what is missing from a window.
//!
//! They stand in the ledger's own stream, so the runs' events are not read to find them.

use std::ops::Range;

use serde::Deserialize;
use stella_domain::{
    checkpoint::Checkpoint,
    hash::Hash32,
    ids::{StreamId, Tenant},
};
use stella_ledger::{
    checkpoints::proofs::Proofs,
    port::{Ledger, LedgerError},
};

use super::ProveError;

/// Bytes that the lines of `erasures.ndjson` may have together: a server makes them in memory.
pub const ERASURES_BYTES: usize = 64 * 1024 * 1024;
/// The event's type.
const DATA_ERASED: &str = "DataErased";
/// Commits of the ledger's own stream that are read at a time.
const COMMITS_AT_ONCE: usize = 256;
/// More than an inclusion proof has in hex, and what stands around it.
const PROOF_BYTES: usize = 64 * 67 + 32;

/// An event that erased payloads.
pub(super) struct Erasing {
    pub(super) seq: u64,
    hash: Hash32,
    /// Its line of the export.
    line: String,
}

/// What its data says; other members are for others.
#[derive(Deserialize)]
struct Erased {
    seqs: Vec<u64>,
}

/// The events that name a seq of `range`, by seq. Some of what they name may be there still: they
/// are recorded first.
pub(super) async fn naming(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    range: Range<u64>,
) -> Result<Vec<Erasing>, ProveError> {
    let (mut found, mut bytes, mut version) = (vec![], 0, 1);
    let stream = StreamId::Ledger(tenant.clone());
    while !range.is_empty() {
        let commits = ledger.read_stream(tenant, &stream, version, COMMITS_AT_ONCE).await?;
        let Some(last) = commits.last() else { break };
        version = last.stream_version + last.events.len() as u64;
        // Only what was recorded before can be erased.
        for commit in commits.iter().filter(|commit| commit.last_seq() > range.start) {
            let mut lines = String::new();
            for (i, event) in commit.events.iter().enumerate() {
                if event.event_type != DATA_ERASED {
                    continue;
                }
                let seq = commit.seq + i as u64;
                let unreadable = |error: serde_json::Error| LedgerError::Malformed {
                    id: format!("{tenant}, seq {seq}"),
                    reason: format!("the data of {DATA_ERASED}: {error}"),
                };
                let erased: Erased =
                    serde_json::from_str(event.data.as_str()).map_err(unreadable)?;
                if !erased.seqs.iter().any(|seq| range.contains(seq)) {
                    continue;
                }
                if lines.is_empty() {
                    commit.write_ndjson(&mut lines);
                }
                let line = lines.lines().nth(i).unwrap_or_default().to_owned();
                bytes += line.len() + PROOF_BYTES;
                if bytes > ERASURES_BYTES {
                    return Err(ProveError::TooManyErasures);
                }
                found.push(Erasing { seq, hash: event.hash, line });
            }
        }
    }
    Ok(found)
}

/// The text of `erasures.ndjson`.
pub(super) async fn proven(
    erasing: &[Erasing],
    proofs: &Proofs,
    of: &Checkpoint,
) -> Result<String, ProveError> {
    let mut text = String::new();
    for Erasing { seq, hash, line } in erasing {
        let proof = proofs.inclusion(of, *seq, hash).await?;
        let hashes: Vec<String> = proof.iter().map(|hash| format!("\"{hash}\"")).collect();
        text.push_str(&format!("{{\"event\":{line},\"proof\":[{}]}}\n", hashes.join(",")));
    }
    Ok(text)
}
