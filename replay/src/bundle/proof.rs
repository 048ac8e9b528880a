//! Everything of a bundle but the events: checkpoint, range proof, neighbours, erasures.

use stella_domain::{
    checkpoint::Checkpoint,
    hash::Hash32,
    ids::{LedgerId, Tenant},
    merkle::RangeProof,
};
use stella_ledger::{
    checkpoints::{
        ProofError,
        cosigners::Quorum,
        proofs::{Noted, Proofs},
    },
    port::{Ledger, LedgerError},
};

use super::erasures;
use crate::export::Window;

/// What speaks for a window, for whoever has its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Which ledger.
    pub ledger: LedgerId,
    /// The window, and the events in it.
    pub window: Window,
    /// `hash` of the event before the first; zeros if there is none.
    pub prev: Hash32,
    /// `hash` of the window's last event; [`prev`](Self::prev) if it is empty.
    pub last_hash: Hash32,
    /// Tree size of the checkpoint.
    pub tree_size: u64,
    /// Proves the window's events and both neighbours in that tree.
    pub range: RangeProof,
    /// That the checkpoint extends an older one, if that was asked for.
    pub extends: Option<Extends>,
    /// The text of `checkpoint`.
    pub checkpoint: String,
    /// The text of `boundary.ndjson`.
    pub boundary: String,
    /// The text of `erasures.ndjson`, if payloads of the window are erased.
    pub erasures: String,
}

/// Proof that a checkpoint extends an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extends {
    /// Size of the older one's tree.
    pub size: u64,
    /// The root that the ledger's first `size` events lead to now: compare it with the older one's.
    pub root: Hash32,
    /// RFC 6962, section 2.1.2.
    pub proof: Vec<Hash32>,
}

/// Why there is no proof of a window.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProveError {
    /// No checkpoint reaches far enough yet.
    #[error(
        "no checkpoint of at least {size} events was signed yet, which the proof of this window \
         needs: they are signed every few seconds; `stella orch ledger checkpoint --sign-now` signs \
         one"
    )]
    NotSigned {
        /// How many events it has to hold.
        size: u64,
    },
    /// None that does is cosigned as was asked.
    #[error(
        "no checkpoint of at least {size} events, which the proof of this window needs, has the \
         cosignatures of {needed} witnesses yet: once they answer, `stella orch ledger seal` has one \
         made"
    )]
    NotCosigned {
        /// How many events it has to hold.
        size: u64,
        /// How many witnesses were asked for.
        needed: usize,
    },
    /// The older checkpoint holds more than the ledger.
    #[error(
        "the ledger has {events} events, and the older checkpoint {since}: it is of another ledger, \
         or the ledger's end was cut off. Keep the checkpoint, it is the evidence"
    )]
    SinceBeyond {
        /// Size of the older checkpoint.
        since: u64,
        /// How many events there are.
        events: u64,
    },
    /// Too many erasures concern the window.
    #[error(
        "the events that erased payloads of this window have more than {} bytes: export shorter \
         windows, which continue each other",
        erasures::ERASURES_BYTES
    )]
    TooManyErasures,
    /// No proof could be made.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl From<LedgerError> for ProveError {
    fn from(error: LedgerError) -> Self {
        Self::Proof(error.into())
    }
}

/// Make the proof of a window, from the oldest checkpoint that can give it: the same each time,
/// erasures aside; of those only that are cosigned as asked. With `since`, the size of an older
/// checkpoint, also that this one extends it.
///
/// # Errors
/// [`ProveError`]. After [`ProveError::NotSigned`] and [`ProveError::NotCosigned`] it is worth trying again once more is signed.
pub async fn prove(
    ledger: &dyn Ledger,
    proofs: &Proofs,
    tenant: &Tenant,
    window: Window,
    since: Option<u64>,
    quorum: &Quorum,
) -> Result<Proof, ProveError> {
    let Window { first_seq, end_seq, .. } = window;
    if let Some(since) = since {
        let events = ledger.head(tenant).await?.next_seq;
        if since > events {
            return Err(ProveError::SinceBeyond { since, events });
        }
    }
    let erasing = erasures::naming(ledger, tenant, first_seq..end_seq).await?;
    let after_erasures = erasing.last().map_or(0, |event| event.seq + 1);
    let size = (end_seq + 1).max(after_erasures).max(since.unwrap_or(0));
    let covering = proofs.oldest_checkpoint_covering(tenant, size, quorum).await?;
    let Some(Noted { checkpoint: of, note }) = covering else {
        let any = proofs.oldest_checkpoint_covering(tenant, size, &Quorum::default()).await?;
        return Err(match any {
            None => ProveError::NotSigned { size },
            Some(_) => ProveError::NotCosigned { size, needed: quorum.needed },
        });
    };

    let proven = first_seq.saturating_sub(1)..end_seq + 1;
    let range = proofs.range_proof(&of, proven.clone()).await?;
    let mut boundary = String::new();
    let mut prev = Hash32::ZERO;
    if first_seq > 0 {
        let left = neighbour(ledger, proofs, &of, proven.start).await?;
        prev = left.hash;
        left.write(&mut boundary, "left");
    }
    let right = neighbour(ledger, proofs, &of, end_seq).await?;
    right.write(&mut boundary, "right");
    let extends = match since {
        Some(size) => {
            let (root, proof) = proofs.consistency(&of, size).await?;
            Some(Extends { size, root, proof })
        }
        None => None,
    };
    Ok(Proof {
        window,
        prev,
        last_hash: right.prev,
        tree_size: of.size,
        range,
        extends,
        checkpoint: note,
        boundary,
        erasures: erasures::proven(&erasing, proofs, &of).await?,
        ledger: of.ledger,
    })
}

/// The event before or after a window.
struct Neighbour {
    hash: Hash32,
    prev: Hash32,
    header: String,
}

impl Neighbour {
    fn write(&self, out: &mut String, side: &str) {
        let Self { hash, header, .. } = self;
        out.push_str(&format!("{{\"hash\":\"{hash}\",\"header\":{header},\"side\":\"{side}\"}}\n"));
    }
}

/// The event at `seq`, as it was signed.
async fn neighbour(
    ledger: &dyn Ledger,
    proofs: &Proofs,
    of: &Checkpoint,
    seq: u64,
) -> Result<Neighbour, ProveError> {
    let tenant = &of.ledger.tenant;
    let commits = ledger.read(tenant, seq, 1).await?;
    // A tree that reaches so far, and no such event: what is missing was signed.
    let missing = || ProofError::Contradiction { ledger: of.ledger.clone(), size: of.size };
    let commit = commits.first().ok_or_else(missing)?;
    let at = seq.checked_sub(commit.seq).and_then(|at| usize::try_from(at).ok());
    let at = at.filter(|at| *at < commit.events.len()).ok_or_else(missing)?;
    let hash = commit.events[at].hash;
    // What is handed out leads to the root that was signed.
    proofs.inclusion(of, seq, &hash).await?;
    let prev = at.checked_sub(1).map_or(commit.prev, |before| commit.events[before].hash);
    Ok(Neighbour { hash, prev, header: commit.header(at) })
}
