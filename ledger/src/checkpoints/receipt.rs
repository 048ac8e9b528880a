//! The receipt of a run: its events, the proof that each is in a signed tree, and the checkpoint.
//! `docs/ledger-format.md`, section 11, to the byte.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use stella_domain::{
    chain::{Commit, StoredPayload},
    checkpoint::Checkpoint,
    event::DataErased,
    ids::{RunId, StreamId, Tenant},
};

use super::{
    ProofError,
    cosigners::Quorum,
    proofs::{Noted, Proofs},
};
use crate::{
    erasure,
    port::{Ledger, LedgerError},
    recorded::Recorded,
};

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
        "no checkpoint holds event {last_seq} yet, which this receipt needs: they are signed every \
         few seconds; `stella orch ledger checkpoint --sign-now` signs one"
    )]
    NotSigned {
        /// The last event that the receipt needs: the run's, or its erasure.
        last_seq: u64,
    },
    /// None that does is cosigned as was asked.
    #[error(
        "no checkpoint that holds event {last_seq}, which this receipt needs, has the cosignatures \
         of {needed} witnesses yet: once they answer, `stella orch ledger seal` has one made"
    )]
    NotCosigned {
        /// The last event that the receipt needs.
        last_seq: u64,
        /// How many witnesses were asked for.
        needed: usize,
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
    quorum: &Quorum,
) -> Result<String, ReceiptError> {
    let stream = [StreamId::Run(run_id.clone())];
    let commits = ledger.read_streams(tenant, &stream).await.map_err(ProofError::from)?;
    let Some(last) = commits.last() else {
        return Err(ReceiptError::UnknownRun(run_id.clone()));
    };
    let erasures = erasures(ledger, tenant, run_id, &commits).await.map_err(ProofError::from)?;
    let explaining = erasures.iter().flat_map(|(_, seqs)| seqs.iter().copied());
    let last_seq = explaining.fold(last.last_seq(), u64::max);
    let covering = proofs.oldest_checkpoint_covering(tenant, last_seq + 1, quorum).await?;
    let Some(Noted { checkpoint, note }) = covering else {
        let nobody = Quorum::default();
        let any = proofs.oldest_checkpoint_covering(tenant, last_seq + 1, &nobody).await?;
        return Err(match any {
            None => ReceiptError::NotSigned { last_seq },
            Some(_) => ReceiptError::NotCosigned { last_seq, needed: quorum.needed },
        });
    };
    let mut receipt = Receipt { text: String::from("{\"checkpoint\":"), proofs, checkpoint };
    // A string: serialising it cannot fail, and its escapes are the canonical ones.
    receipt.text.push_str(&serde_json::to_string(&note).unwrap_or_default());
    receipt.text.push_str(",\"erasures\":[");
    for (recorded, explaining) in &erasures {
        receipt.add(&recorded.commit, |seq| explaining.contains(&seq)).await?;
    }
    receipt.text.push_str("],\"events\":[");
    for commit in &commits {
        receipt.add(commit, |_| true).await?;
    }
    let Receipt { mut text, checkpoint, .. } = receipt;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "],\"format\":1,\"ledger\":\"{}\",\"runId\":\"{run_id}\",\"treeSize\":{}}}",
        checkpoint.ledger, checkpoint.size
    );
    Ok(text)
}

/// The erasures that explain what is erased of these commits of a run: commits, each with the
/// seqs of those of its events that do.
async fn erasures(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    run_id: &RunId,
    commits: &[Commit],
) -> Result<Vec<(Arc<Recorded>, Vec<u64>)>, LedgerError> {
    let events = commits.iter().flat_map(|commit| (commit.seq..).zip(&commit.events));
    let erased: HashSet<u64> = events
        .filter(|(_, event)| matches!(event.payload, StoredPayload::Erased(_)))
        .map(|(seq, _)| seq)
        .collect();
    if erased.is_empty() {
        return Ok(vec![]);
    }
    let explains = |data: &DataErased| {
        data.run_id == *run_id && data.seqs.iter().any(|seq| erased.contains(seq))
    };
    let last_seq = commits.last().map_or(0, Commit::last_seq);
    let found = erasure::of_run(ledger, tenant, run_id, last_seq).await?;
    let with_seqs = found.into_iter().map(|recorded| {
        let explaining = recorded.erasures().filter(|(_, data)| explains(data));
        let seqs = explaining.map(|(seq, _)| seq).collect();
        (recorded, seqs)
    });
    Ok(with_seqs.collect())
}

/// A receipt in the making.
struct Receipt<'a> {
    text: String,
    proofs: &'a Proofs,
    checkpoint: Checkpoint,
}

impl Receipt<'_> {
    /// Add the events of `commit` with these seqs, each with its proof.
    async fn add(
        &mut self,
        commit: &Commit,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<(), ReceiptError> {
        let mut lines = String::new();
        commit.write_ndjson(&mut lines);
        for ((seq, event), line) in (commit.seq..).zip(&commit.events).zip(lines.lines()) {
            if !wanted(seq) {
                continue;
            }
            let proof = self.proofs.inclusion(&self.checkpoint, seq, &event.hash).await?;
            // Hashes in hex, with quotes, and commas between them.
            if self.text.len() + line.len() + 67 * proof.len() > RECEIPT_BYTES {
                return Err(ReceiptError::TooLarge);
            }
            let hashes: Vec<String> = proof.iter().map(|hash| format!("\"{hash}\"")).collect();
            let comma = if self.text.ends_with('[') { "" } else { "," };
            // Writing to a String cannot fail.
            let _ =
                write!(self.text, "{comma}{{\"event\":{line},\"proof\":[{}]}}", hashes.join(","));
        }
        Ok(())
    }
}
