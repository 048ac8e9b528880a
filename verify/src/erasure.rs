//! Events that come with their inclusion proof, and those of them that explain erased payloads.

use serde::Deserialize;
use stella_domain::{
    checkpoint::Checkpoint,
    hash::Hash32,
    ids::{RunId, StreamId},
    merkle::{MerkleError, verify_inclusion},
    seqs::Seqs,
};

use crate::{
    line::{self, Line, hash_of},
    reason::Reason,
    scan::Scanner,
};

/// Bytes that an event with its proof may have.
pub(crate) const PROVEN_BYTES: usize = line::LINE_BYTES + 8_192;
/// Hashes that a proof may have: those of the largest tree there can be.
const PROOF: usize = 64;

pub(crate) const BEGIN: &str = "{\"event\":";
pub(crate) const BEGINS: &str = "an event with its proof begins with {\"event\":";

/// `{"event":…,"proof":[…]}`.
pub(crate) struct Proven<'a> {
    pub(crate) event: Line<'a>,
    pub(crate) proof: Vec<Hash32>,
}

/// Data of `DataErased`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataErased {
    #[expect(dead_code, reason = "has to be there, and to be a run's id")]
    run_id: RunId,
    seqs: Vec<u64>,
}

/// Why an event explains no erased payload.
pub(crate) enum Unexplaining {
    Line(Reason),
    Rule(&'static str),
    Proof(MerkleError),
}

impl From<Reason> for Unexplaining {
    fn from(reason: Reason) -> Self {
        Self::Line(reason)
    }
}

/// Erased payloads, and the events that explain them one after the other (section 10.5, step 8).
pub(crate) struct Erasures<'a> {
    checkpoint: &'a Checkpoint,
    stream: String,
    ledger: String,
    unexplained: &'a mut Seqs,
    last_seq: Option<u64>,
}

impl<'a> Erasures<'a> {
    /// Explain `erased`: what is named is taken out.
    pub(crate) fn new(checkpoint: &'a Checkpoint, erased: &'a mut Seqs) -> Self {
        Self {
            checkpoint,
            stream: StreamId::Ledger(checkpoint.ledger.tenant.clone()).to_string(),
            ledger: checkpoint.ledger.to_string(),
            unexplained: erased,
            last_seq: None,
        }
    }

    pub(crate) fn check(&mut self, event: &Line<'_>, proof: &[Hash32]) -> Result<(), Unexplaining> {
        let rule = |rule| Err(Unexplaining::Rule(rule));
        event.check_names()?;
        let hash = event.check()?;
        if event.ledger != self.ledger || event.stream != self.stream {
            return rule("it is not of this ledger's own stream");
        }
        if !is_erasure(event) {
            return rule("it is not a DataErased of schema 1");
        }
        if self.last_seq.is_some_and(|last| last >= event.seq) {
            return rule("the events do not stand in the order of their seq");
        }
        self.last_seq = Some(event.seq);
        let named = named(event).map_err(Unexplaining::Rule)?;
        let Checkpoint { size, root, .. } = self.checkpoint;
        verify_inclusion(&hash, event.seq, *size, root, proof).map_err(Unexplaining::Proof)?;
        for seq in &named {
            self.unexplained.remove(*seq);
        }
        Ok(())
    }
}

/// Whether it says that payloads were erased.
pub(crate) fn is_erasure(event: &Line<'_>) -> bool {
    event.event_type == "DataErased" && event.schema == 1
}

/// The seqs that such an event names.
pub(crate) fn named(event: &Line<'_>) -> Result<Vec<u64>, &'static str> {
    if event.is_erased() {
        return Err("the reason of an erasure was itself erased");
    }
    let Ok(data) = serde_json::from_str::<DataErased>(event.data) else {
        return Err("its data is not {\"runId\":…,\"seqs\":[…]}");
    };
    let ascending = data.seqs.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || data.seqs.last().is_none_or(|last| *last >= event.seq) {
        return Err("it names no seqs, or not in ascending order, or none before its own");
    }
    Ok(data.seqs)
}

impl<'a> Proven<'a> {
    /// The one that stands where `scan` is.
    pub(crate) fn cut_at(scan: &mut Scanner<'a>) -> Result<Self, Reason> {
        scan.expect(BEGIN, BEGINS)?;
        let start = scan.at();
        let event = Line::cut_at(scan)?;
        if scan.since(start).len() > line::LINE_BYTES {
            return Err(Reason::LineTooLong { limit: line::LINE_BYTES });
        }
        let proof = proof(scan, PROOF)?;
        Ok(Self { event, proof })
    }
}

/// The rest of such an object, behind its event; of a proof no more than so many hashes.
pub(crate) fn proof(scan: &mut Scanner<'_>, most: usize) -> Result<Vec<Hash32>, Reason> {
    scan.expect(",\"proof\":[", "the member `proof` follows the event")?;
    let mut proof = vec![];
    if !scan.eat("]") {
        while proof.len() < most {
            scan.expect("\"", "a hash stands here")?;
            proof.push(hash_of("proof", scan.digits_of()?)?);
            scan.expect("\"", "a hash has 64 digits")?;
            if scan.eat("]") {
                break;
            }
            scan.expect(",", "a comma or the proof's end stands here")?;
        }
    }
    scan.expect("}", "an event with its proof ends with }")?;
    Ok(proof)
}
