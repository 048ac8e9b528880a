//! `ledger verify --receipt`: the receipt of a run.

use std::{fs::File, io::Read as _, path::Path};

use stella_verify::{RECEIPT_BYTES, ReceiptReport, verify_receipt};

use super::verify_bundle::{TrustArgs, ends_with, signed};
use crate::{
    failure::Failure,
    output::{OutputArgs, details, elapsed},
};

/// Verify a receipt, and end with the exit code of the verdict.
pub(super) fn run(path: &Path, trust: TrustArgs, output: OutputArgs) -> Result<(), Failure> {
    let trust = trust.read()?;
    let mut bytes = vec![];
    // One byte more than a receipt may have, so that it shows.
    let read = File::open(path)
        .and_then(|file| file.take(RECEIPT_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let report = verify_receipt(&bytes, &trust);
    output.print(&report, |report| text(report, path))?;
    ends_with(report.verdict, report.seq, report.reason.as_deref())
}

fn text(report: &ReceiptReport, path: &Path) -> String {
    let mut rows = vec![("reason", report.reason.clone().unwrap_or_default())];
    if let Some(step) = report.step {
        rows.push(("step", format!("{step} of docs/ledger-format.md, section 11.1")));
    }
    if let Some(claim) = &report.claim {
        rows.extend([
            ("ledger", claim.ledger.clone()),
            ("run", claim.run_id.clone()),
            ("events", format!("{}, looked at in {}", claim.events, elapsed(report.elapsed))),
        ]);
    }
    if let Some(run) = &report.run {
        let last = match run.ended {
            true => format!("{}: these are all events of the run", run.last_type),
            false => format!("{}: the run was under way, there may be more", run.last_type),
        };
        let erased = if run.erased == 0 { String::new() } else { run.erased.to_string() };
        rows.extend([
            ("seq", format!("{} to {}", run.first_seq, run.last_seq)),
            ("last", last),
            ("erased", erased),
        ]);
    }
    rows.extend(report.checkpoint.iter().flat_map(signed));
    let claimed =
        if report.verdict.is_good() { "" } else { " (what follows is claimed, not shown)" };
    format!("{}: {}{claimed}\n{}", path.display(), report.verdict.as_str(), details(&rows))
}
