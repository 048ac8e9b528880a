//! The receipt of a run: whether its events stand in a signed tree, in this order and unchanged, by
//! the steps of `docs/ledger-format.md`, section 11.1. The first that fails gives the verdict.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stella_domain::{
    checkpoint::Checkpoint,
    hash::Hash32,
    ids::{IdError, LedgerId, RunId, StreamId},
    merkle::{MerkleError, verify_inclusion},
    seqs::Seqs,
};

use crate::{
    erasure::{self, Erasures, PROVEN_BYTES, Unexplaining},
    line::Line,
    reason::Reason,
    scan::{FormError, Scanner},
    signed,
    trust::Trust,
    verdict::{Fault, Signed, Verdict, as_ms},
};

/// Bytes that a receipt may have.
pub const RECEIPT_BYTES: usize = 32 * 1024 * 1024;
/// The version of the form that this release reads.
const FORMAT: u64 = 1;
/// In a receipt, an object, an array, an object and the event itself stand around what was let in.
const AROUND: u32 = 4;

/// What a verifier says about a receipt. Serialises to the JSON that the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptReport {
    /// What the receipt is worth.
    pub verdict: Verdict,
    /// The first seq concerned, where the step says one.
    pub seq: Option<u64>,
    /// The step of section 11.1 that failed.
    pub step: Option<u8>,
    /// Why.
    pub reason: Option<String>,
    /// What the receipt claims; proven only if the verdict is good. `None` if it cannot be read.
    pub claim: Option<RunClaim>,
    /// The checkpoint, if it was signed by a pinned key.
    pub checkpoint: Option<Signed>,
    /// What was shown of the run, once every step holds.
    pub run: Option<ProvenRun>,
    /// How long verifying took; in milliseconds when serialised.
    #[serde(rename = "elapsedMs", serialize_with = "as_ms")]
    pub elapsed: Duration,
}

/// What a receipt claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunClaim {
    /// `<origin>/<tenant>`.
    pub ledger: String,
    /// The run.
    pub run_id: String,
    /// How many events of it.
    pub events: usize,
}

/// What a receipt shows of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvenRun {
    /// `seq` of its first event.
    pub first_seq: u64,
    /// `seq` of its last event here.
    pub last_seq: u64,
    /// The type of that one.
    pub last_type: String,
    /// Whether that one ends a run: then these are all the events that it has.
    pub ended: bool,
    /// Events whose payload was erased.
    pub erased: u64,
}

/// What is wrong with a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields hold")]
pub enum ReceiptFault {
    #[error("it has more than {RECEIPT_BYTES} bytes")]
    TooLong,
    #[error("it is not UTF-8 that ends with a line feed")]
    NotText,
    #[error("not in canonical form {0}")]
    Form(#[from] FormError),
    #[error("it is of format {0}; this release knows format {FORMAT}: use a later one")]
    Newer(u64),
    #[error("not a receipt's members: {0}")]
    Members(Box<Reason>),
    #[error("`{member}`: {error}")]
    Id { member: &'static str, error: IdError },
    #[error(transparent)]
    Checkpoint(Box<Fault>),
    #[error("the receipt and its checkpoint differ in `{member}`")]
    OtherCheckpoint { member: &'static str },
    #[error("event {index} of the receipt: {reason}")]
    Event { index: usize, reason: Box<Reason> },
    #[error("event {index} of the receipt is of another {member}, {found}")]
    Other { index: usize, member: &'static str, found: String },
    #[error("it holds no event")]
    Empty,
    #[error("the first event (seq {seq}) is not the one that created the run")]
    First { seq: u64 },
    #[error("the event at seq {seq} does not follow the one before it: `{member}`")]
    Order { seq: u64, member: &'static str },
    #[error("the event at seq {seq}: {error}")]
    Proof { seq: u64, error: MerkleError },
    #[error("erasure {index} of the receipt: {reason}")]
    Erasure { index: usize, reason: String },
    #[error("the payload was erased, and no `DataErased` in the receipt names it")]
    Unexplained,
}

/// Why there are no further steps.
struct Stop {
    step: u8,
    verdict: Verdict,
    seq: Option<u64>,
    fault: ReceiptFault,
}

fn tampered(step: u8, fault: impl Into<ReceiptFault>) -> Stop {
    Stop { step, verdict: Verdict::Tampered, seq: None, fault: fault.into() }
}

fn tampered_at(seq: u64, step: u8, fault: impl Into<ReceiptFault>) -> Stop {
    Stop { seq: Some(seq), ..tampered(step, fault) }
}

/// Verify a receipt: the bytes of its file, and what the verifier brings along. An older checkpoint
/// plays no part: a receipt is not compared with one.
pub fn verify_receipt(bytes: &[u8], trust: &Trust) -> ReceiptReport {
    let started = Instant::now();
    let mut report = ReceiptReport {
        verdict: Verdict::Verified,
        seq: None,
        step: None,
        reason: None,
        claim: None,
        checkpoint: None,
        run: None,
        elapsed: Duration::ZERO,
    };
    match steps(bytes, trust, &mut report) {
        Ok(run) => {
            if run.erased > 0 {
                report.verdict = Verdict::VerifiedWithErasures;
            }
            report.run = Some(run);
        }
        Err(Stop { step, verdict, seq, fault }) => {
            (report.verdict, report.seq) = (verdict, seq);
            (report.step, report.reason) = (Some(step), Some(fault.to_string()));
        }
    }
    report.elapsed = started.elapsed();
    report
}

fn steps(bytes: &[u8], trust: &Trust, report: &mut ReceiptReport) -> Result<ProvenRun, Stop> {
    let receipt = Receipt::parse(bytes).map_err(|fault| {
        let newer = matches!(fault, ReceiptFault::Newer(_));
        let verdict = if newer { Verdict::Untrusted } else { Verdict::Tampered };
        Stop { verdict, ..tampered(1, fault) }
    })?;
    report.claim = Some(RunClaim {
        ledger: receipt.ledger.to_string(),
        run_id: receipt.run_id.to_string(),
        events: receipt.events.len(),
    });

    let signed = signed::check(receipt.checkpoint.as_bytes(), trust);
    let (checkpoint, signed) = signed.map_err(|unsigned| Stop {
        verdict: unsigned.verdict,
        ..tampered(2, ReceiptFault::Checkpoint(Box::new(unsigned.fault)))
    })?;
    report.checkpoint = Some(signed);
    if let Some(member) = signed::differs(&checkpoint, &receipt.ledger, receipt.tree_size) {
        return Err(tampered(2, ReceiptFault::OtherCheckpoint { member }));
    }

    let events = receipt.check_events()?;
    check_order(&events)?;
    for ((event, hash), Proven { proof, .. }) in events.iter().zip(&receipt.events) {
        let seq = event.seq;
        verify_inclusion(hash, seq, receipt.tree_size, &checkpoint.root, proof)
            .map_err(|error| tampered_at(seq, 5, ReceiptFault::Proof { seq, error }))?;
    }
    let erased = receipt.check_erasures(&events, &checkpoint)?;
    shown(&events, erased).ok_or_else(|| tampered(4, ReceiptFault::Empty))
}

/// An event that nobody looked at yet, and its proof.
struct Proven<'a> {
    event: &'a str,
    proof: Vec<Hash32>,
    /// Of both, as they stand there.
    bytes: usize,
}

/// A receipt, cut up.
struct Receipt<'a> {
    checkpoint: String,
    erasures: Vec<Proven<'a>>,
    events: Vec<Proven<'a>>,
    ledger: LedgerId,
    run_id: RunId,
    tree_size: u64,
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl<'a> Receipt<'a> {
    /// Step 1. A later format is told, whatever else the receipt holds.
    fn parse(bytes: &'a [u8]) -> Result<Self, ReceiptFault> {
        if bytes.len() > RECEIPT_BYTES {
            return Err(ReceiptFault::TooLong);
        }
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let text = text.ok_or(ReceiptFault::NotText)?;
        let mut whole = Scanner::around(text, AROUND);
        whole.object()?;
        whole.end("nothing follows the receipt but one line feed")?;
        if let Ok(Format { format }) = serde_json::from_str(text)
            && format != FORMAT
        {
            return Err(ReceiptFault::Newer(format));
        }
        let mut scan = Scanner::around(text, AROUND);
        let (checkpoint, erasures, events, ledger, run_id, tree_size) =
            Self::cut(&mut scan).map_err(|reason| ReceiptFault::Members(Box::new(reason)))?;
        let id = |member| move |error| ReceiptFault::Id { member, error };
        Ok(Self {
            // Canonical, so that it is a string; empty is no checkpoint.
            checkpoint: serde_json::from_str(&format!("\"{checkpoint}\"")).unwrap_or_default(),
            erasures,
            events,
            ledger: ledger.parse().map_err(id("ledger"))?,
            run_id: run_id.parse().map_err(id("runId"))?,
            tree_size,
        })
    }

    #[expect(clippy::type_complexity, reason = "the members, in their order")]
    fn cut(
        scan: &mut Scanner<'a>,
    ) -> Result<(&'a str, Vec<Proven<'a>>, Vec<Proven<'a>>, &'a str, &'a str, u64), Reason> {
        scan.expect("{\"checkpoint\":", "a receipt begins with {\"checkpoint\":")?;
        let checkpoint = scan.string()?;
        scan.expect(",\"erasures\":[", "the member `erasures` follows the checkpoint")?;
        let erasures = list(scan)?;
        scan.expect(",\"events\":[", "the member `events` follows the erasures")?;
        let events = list(scan)?;
        scan.expect(",\"format\":1,\"ledger\":", "`format` and `ledger` follow the events")?;
        let ledger = scan.string()?;
        scan.expect(",\"runId\":", "the member `runId` follows the ledger")?;
        let run_id = scan.string()?;
        scan.expect(",\"treeSize\":", "the member `treeSize` follows the run's id")?;
        let tree_size = scan.integer()?;
        scan.expect("}", "a receipt ends with }")?;
        scan.end("nothing follows the receipt but one line feed")?;
        Ok((checkpoint, erasures, events, ledger, run_id, tree_size))
    }

    /// Step 3; the events, and the hash of each.
    fn check_events(&self) -> Result<Vec<(Line<'a>, Hash32)>, Stop> {
        let ledger = self.ledger.to_string();
        let stream = StreamId::Run(self.run_id.clone()).to_string();
        let events = (1..).zip(&self.events).map(|(index, proven)| {
            let checked = Line::of_text(proven.event).and_then(|event| {
                event.check_names()?;
                Ok((event, event.check()?))
            });
            let (event, hash) = checked.map_err(|reason| {
                tampered(3, ReceiptFault::Event { index, reason: Box::new(reason) })
            })?;
            let same = [("ledger", event.ledger, &ledger), ("stream", event.stream, &stream)];
            match same.into_iter().find(|(_, found, expected)| found != expected) {
                None => Ok((event, hash)),
                Some((member, found, _)) => {
                    let found = found.to_owned();
                    Err(tampered_at(event.seq, 3, ReceiptFault::Other { index, member, found }))
                }
            }
        });
        events.collect()
    }

    /// Step 6; how many payloads were erased.
    fn check_erasures(
        &self,
        events: &[(Line<'_>, Hash32)],
        checkpoint: &Checkpoint,
    ) -> Result<u64, Stop> {
        let mut unexplained = Seqs::default();
        let erased = events.iter().filter(|(event, _)| event.is_erased());
        erased.for_each(|(event, _)| unexplained.insert(event.seq));
        let erased = unexplained.len();
        let mut erasures = Erasures::new(checkpoint, &mut unexplained);
        for (index, Proven { event, proof, bytes }) in (1..).zip(&self.erasures) {
            let wrong =
                |seq, reason| Stop { seq, ..tampered(6, ReceiptFault::Erasure { index, reason }) };
            if *bytes > PROVEN_BYTES {
                return Err(wrong(None, format!("it has more than {PROVEN_BYTES} bytes")));
            }
            let event = Line::of_text(event).map_err(|reason| wrong(None, reason.to_string()))?;
            erasures.check(&event, proof).map_err(|unexplaining| {
                let reason = match unexplaining {
                    Unexplaining::Line(reason) => reason.to_string(),
                    Unexplaining::Rule(rule) => rule.to_owned(),
                    Unexplaining::Proof(error) => error.to_string(),
                };
                wrong(Some(event.seq), reason)
            })?;
        }
        match unexplained.iter().next() {
            Some(seq) => Err(tampered_at(seq, 6, ReceiptFault::Unexplained)),
            None => Ok(erased),
        }
    }
}

/// Step 4.
fn check_order(events: &[(Line<'_>, Hash32)]) -> Result<(), Stop> {
    let (first, _) = events.first().ok_or_else(|| tampered(4, ReceiptFault::Empty))?;
    if first.stream_version != 1 || first.event_type != "RunCreated" {
        return Err(tampered_at(first.seq, 4, ReceiptFault::First { seq: first.seq }));
    }
    for two in events.windows(2) {
        let ((before, _), (after, _)) = (&two[0], &two[1]);
        // Times are of one form, so that the order of the texts is theirs.
        let rules = [
            (after.stream_version == before.stream_version + 1, "streamVersion"),
            (after.seq >= before.seq, "seq"),
            (after.recorded_at >= before.recorded_at, "recordedAt"),
        ];
        if let Some((_, member)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(tampered_at(after.seq, 4, ReceiptFault::Order { seq: after.seq, member }));
        }
    }
    Ok(())
}

fn shown(events: &[(Line<'_>, Hash32)], erased: u64) -> Option<ProvenRun> {
    let ((first, _), (last, _)) = (events.first()?, events.last()?);
    let ends = ["RunSucceeded", "RunFailed", "RunCancelled", "RunTimedOut"];
    Some(ProvenRun {
        first_seq: first.seq,
        last_seq: last.seq,
        last_type: last.event_type.to_owned(),
        ended: ends.contains(&last.event_type),
        erased,
    })
}

/// The events of a list whose bracket was passed.
fn list<'a>(scan: &mut Scanner<'a>) -> Result<Vec<Proven<'a>>, Reason> {
    let mut found = vec![];
    if !scan.eat("]") {
        loop {
            let begin = scan.at();
            scan.expect(erasure::BEGIN, erasure::BEGINS)?;
            let start = scan.at();
            scan.object()?;
            let event = scan.since(start);
            let proof = erasure::proof(scan, usize::MAX)?;
            found.push(Proven { event, proof, bytes: scan.at() - begin });
            if scan.eat("]") {
                break;
            }
            scan.expect(",", "a comma or the list's end stands here")?;
        }
    }
    Ok(found)
}
