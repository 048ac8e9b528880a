//! The receipt of a run: its events, the proof that each is in a signed tree, and the checkpoint.
//! `docs/ledger-format.md`, section 11, to the byte.

use std::fmt::Write as _;

use stella_domain::ids::{RunId, StreamId, Tenant};

use super::{
    ProofError,
    proofs::{Noted, Proofs},
};
use crate::port::Ledger;

/// Bytes that a receipt may have.
pub const RECEIPT_BYTES: usize = 32 * 1024 * 1024;

/// Why there is no receipt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReceiptError {
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
    /// No checkpoint holds all of its events yet.
    #[error(
        "no checkpoint holds event {last_seq} of this run yet: they are signed every few seconds; \
         `stella orch ledger checkpoint --sign-now` signs one"
    )]
    NotSigned {
        /// The run's last event.
        last_seq: u64,
    },
    /// The run is too large for one document.
    #[error(
        "the receipt of this run would have more than {RECEIPT_BYTES} bytes: export the time \
         window of the run instead, whose bundle proves the same"
    )]
    TooLarge,
    /// No proof could be made.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The receipt of all that has happened to a run so far.
///
/// # Errors
/// [`ReceiptError`].
pub async fn receipt(
    ledger: &dyn Ledger,
    proofs: &Proofs,
    tenant: &Tenant,
    run_id: &RunId,
) -> Result<String, ReceiptError> {
    let stream = [StreamId::Run(run_id.clone())];
    let commits = ledger.read_streams(tenant, &stream).await.map_err(ProofError::from)?;
    let Some(last) = commits.last() else {
        return Err(ReceiptError::UnknownRun(run_id.clone()));
    };
    let last_seq = last.last_seq();
    let covering = proofs.oldest_checkpoint_covering(tenant, last_seq + 1).await?;
    let Some(Noted { checkpoint, note }) = covering else {
        return Err(ReceiptError::NotSigned { last_seq });
    };
    let mut text = String::from("{\"checkpoint\":");
    // A string: serialising it cannot fail, and its escapes are the canonical ones.
    text.push_str(&serde_json::to_string(&note).unwrap_or_default());
    // Filled once payloads can be erased.
    text.push_str(",\"erasures\":[],\"events\":[");
    let (mut lines, mut comma) = (String::new(), "");
    for commit in &commits {
        lines.clear();
        commit.write_ndjson(&mut lines);
        for ((seq, event), line) in (commit.seq..).zip(&commit.events).zip(lines.lines()) {
            let proof = proofs.inclusion(&checkpoint, seq, &event.hash).await?;
            // Hashes in hex, with quotes, and commas between them.
            if text.len() + line.len() + 67 * proof.len() > RECEIPT_BYTES {
                return Err(ReceiptError::TooLarge);
            }
            let hashes: Vec<String> = proof.iter().map(|hash| format!("\"{hash}\"")).collect();
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{{\"event\":{line},\"proof\":[{}]}}", hashes.join(","));
            comma = ",";
        }
    }
    let _ = writeln!(
        text,
        "],\"format\":1,\"ledger\":\"{}\",\"runId\":\"{run_id}\",\"treeSize\":{}}}",
        checkpoint.ledger, checkpoint.size
    );
    Ok(text)
}
