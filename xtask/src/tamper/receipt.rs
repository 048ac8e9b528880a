//! Receipts of runs, and what somebody did to them.

use stella_domain::merkle::inclusion_proof;

use super::{
    bundle::{checkpoint, key, rehashed},
    case::{Case, pinned},
    good::{ACME, ERASED, Expected, SIZE, TAMPERED, UNTRUSTED, VERIFIED, ledger, tampered},
    ledger::Ledger,
};
use crate::Failure;

/// The run that the receipts are of, and its events.
const RUN: &str = "01KAR5T0000000000000000001";
const EVENTS: std::ops::Range<usize> = 8..13;

/// A receipt, as what it is made of.
#[derive(Clone)]
struct Receipt {
    checkpoint: String,
    erasures: Vec<String>,
    events: Vec<String>,
    format: u64,
    run_id: &'static str,
    size: usize,
}

impl Receipt {
    /// Of these events, under the checkpoint of `size`.
    fn of(ledger: &Ledger, events: std::ops::Range<usize>, size: usize) -> Result<Self, Failure> {
        let proven = |seq: usize| -> Result<String, Failure> {
            let proof = inclusion_proof(&ledger.hashes[..size], seq as u64, size as u64)?;
            let (event, proof) = (&ledger.lines[seq], serde_json::to_string(&proof)?);
            Ok(format!(r#"{{"event":{event},"proof":{proof}}}"#))
        };
        let is_erased = ledger.lines[events.clone()].iter().any(|line| {
            line.ends_with(r#""payload":null,"salt":null}"#)
                && line.contains(r#""type":"RunCreated""#)
        });
        let erasing = ledger.erasures.iter().filter(|_| is_erased);
        Ok(Self {
            checkpoint: checkpoint(ledger, size).sign(&key(1)),
            erasures: erasing.map(|seq| proven(*seq)).collect::<Result<_, _>>()?,
            events: events.map(proven).collect::<Result<_, _>>()?,
            format: 1,
            run_id: RUN,
            size,
        })
    }

    fn text(&self) -> Result<String, Failure> {
        let Self { checkpoint, erasures, events, format, run_id, size } = self;
        let checkpoint = serde_json::to_string(checkpoint)?;
        let (erasures, events) = (erasures.join(","), events.join(","));
        Ok(format!(
            "{{\"checkpoint\":{checkpoint},\"erasures\":[{erasures}],\"events\":[{events}],\
             \"format\":{format},\"ledger\":\"{ACME}\",\"runId\":\"{run_id}\",\
             \"treeSize\":{size}}}\n"
        ))
    }

    fn edit(&mut self, at: usize, from: &str, to: &str) {
        let event = &mut self.events[at];
        assert!(event.contains(from), "nothing to edit: {from} in {event}");
        *event = event.replacen(from, to, 1);
    }
}

pub(super) fn cases() -> Result<Vec<Case>, Failure> {
    let whole = Receipt::of(&ledger()?, EVENTS, SIZE)?;
    let blanked = Ledger::of(ACME, "as told", &ERASED, &ERASED)?;
    let erased = Receipt::of(&blanked, EVENTS, SIZE)?;
    let unlogged = Ledger::of(ACME, "as told", &ERASED, &[0])?;
    let rewritten = Receipt::of(&Ledger::of(ACME, "another tale", &[], &ERASED)?, EVENTS, SIZE)?;
    let case = |name, expected: Expected, edit: &dyn Fn(&mut Receipt)| {
        let mut receipt = whole.clone();
        edit(&mut receipt);
        Case::receipt(name, expected, receipt.text()?)
    };
    let signed_by_another = checkpoint(&ledger()?, SIZE).sign(&key(2));
    let other_key = format!("{}@0-5", pinned()?);
    let edited_with_its_hash = |receipt: &mut Receipt| {
        receipt.edit(2, "30000", "30001");
        let event = &receipt.events[2];
        let (start, end) =
            (event.find(':').unwrap_or(0) + 1, event.find(",\"proof\"").unwrap_or(0));
        receipt.events[2] = event.replace(&event[start..end], &rehashed(&event[start..end]));
    };
    Ok(vec![
        case("good_receipt", VERIFIED, &|_| {})?,
        Case::receipt("good_receipt_erased", ("VERIFIED_WITH_ERASURES", None), erased.text()?)?,
        Case::receipt(
            "good_receipt_of_a_run_under_way",
            VERIFIED,
            Receipt::of(&ledger()?, 8..11, 11)?.text()?,
        )?,
        case("receipt_edited_data", TAMPERED, &|r| r.edit(2, "30000", "30001"))?,
        case("receipt_edited_data_with_its_hash", tampered(10), &edited_with_its_hash)?,
        case("receipt_edited_payload", TAMPERED, &|r| r.edit(0, "as told", "as TOLD"))?,
        case("receipt_without_its_first_event", tampered(9), &|r| drop(r.events.remove(0)))?,
        case("receipt_without_an_event", tampered(11), &|r| drop(r.events.remove(2)))?,
        case("receipt_without_events", TAMPERED, &|r| r.events.clear())?,
        case("receipt_events_swapped", tampered(11), &|r| r.events.swap(2, 3))?,
        case("receipt_event_twice", tampered(10), &|r| r.events.insert(2, r.events[2].clone()))?,
        case("receipt_of_another_run", tampered(8), &|r| r.run_id = "01KAR5T0000000000000000002")?,
        case("receipt_of_a_later_format", UNTRUSTED, &|r| r.format = 2)?,
        case("receipt_of_another_size", TAMPERED, &|r| r.size = SIZE - 1)?,
        case("receipt_of_another_tree", tampered(8), &|r| {
            r.checkpoint.clone_from(&rewritten.checkpoint);
        })?,
        case("receipt_unsigned", TAMPERED, &|r| {
            let end = r.checkpoint.find('—').unwrap_or(0);
            r.checkpoint.truncate(end);
        })?,
        case("receipt_signed_by_another", UNTRUSTED, &|r| {
            r.checkpoint.clone_from(&signed_by_another);
        })?,
        case("receipt_under_another_key", UNTRUSTED, &|_| {})?.keys(&[other_key]),
        Case::receipt("receipt_unlogged_erasure", tampered(8), {
            Receipt::of(&unlogged, EVENTS, SIZE)?.text()?
        })?,
        Case::receipt("receipt_without_its_erasure", tampered(8), {
            Receipt { erasures: vec![], ..erased }.text()?
        })?,
        Case::receipt("receipt_cut", TAMPERED, &whole.text()?.as_bytes()[..2_000])?,
        Case::receipt("receipt_with_white_space", TAMPERED, whole.text()?.replacen(':', ": ", 1))?,
        Case::receipt("receipt_with_more_behind", TAMPERED, whole.text()? + "{}\n")?,
    ])
}
