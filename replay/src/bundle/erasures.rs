//! The `DataErased` events that explain what is missing from a window.
//!
//! They stand in the ledger's own stream, so the runs' events are not read to find them.

use std::ops::Range;

use stella_domain::{checkpoint::Checkpoint, hash::Hash32, ids::Tenant};
use stella_ledger::{checkpoints::proofs::Proofs, erasure::Erasures, port::Ledger};

use super::ProveError;

/// Bytes that the lines of `erasures.ndjson` may have together: a server makes them in memory.
pub const ERASURES_BYTES: usize = 64 * 1024 * 1024;
/// More than an inclusion proof has in hex, and what stands around it.
const PROOF_BYTES: usize = 64 * 67 + 32;

/// An event that erased payloads.
pub(super) struct Erasing {
    pub(super) seq: u64,
    hash: Hash32,
    /// Its line of the export.
    line: String,
}

/// The events that name a seq of `range`, by seq. Some of what they name may be there still: they
/// are recorded first.
pub(super) async fn naming(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    range: Range<u64>,
) -> Result<Vec<Erasing>, ProveError> {
    let (mut found, mut bytes) = (vec![], 0);
    // What erases comes after what it erases.
    let mut recorded = Erasures::after(ledger, tenant, range.start).await?;
    while !range.is_empty() {
        let page = recorded.next().await?;
        if page.is_empty() {
            break;
        }
        for recorded in &page {
            let commit = &recorded.commit;
            let mut lines = String::new();
            for (seq, erased) in recorded.erasures() {
                if !erased.seqs.iter().any(|seq| range.contains(seq)) {
                    continue;
                }
                if lines.is_empty() {
                    commit.write_ndjson(&mut lines);
                }
                // The cast is exact: a commit has at most a thousand events.
                let i = (seq - commit.seq) as usize;
                let line = lines.lines().nth(i).unwrap_or_default().to_owned();
                bytes += line.len() + PROOF_BYTES;
                if bytes > ERASURES_BYTES {
                    return Err(ProveError::TooManyErasures);
                }
                found.push(Erasing { seq, hash: commit.events[i].hash, line });
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
