//! `ledger`: the record itself.

mod artifacts;
mod checkpoint;
mod copy;
mod erase;
mod export;
mod fsck;
mod head;
mod init;
mod key;
mod record;
mod verify;
mod verify_bundle;
mod verify_receipt;
mod verify_whole;

use clap::Subcommand;
use stella_api::types::LedgerHead;
use stella_verify::ndjson::Report;

pub(crate) use self::{
    export::{Asked, Window, WindowArgs, download, export_bundle, pins, write_failure},
    key::witness_name,
    verify::verify_failure,
    verify_bundle::{judge, verdict},
};
use crate::{
    failure::Failure,
    output::{details, elapsed, time},
};

/// The record: its head, exports, verification.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch ledger head
  stella orch ledger export --from 2026-11-01 --to 2026-12-01 --out november
  stella orch ledger verify november")]
pub(crate) enum Ledger {
    /// Where the ledger ends.
    Head(head::Head),
    /// A signed checkpoint of it.
    Checkpoint(checkpoint::Checkpoint),
    /// The keys that sign checkpoints.
    #[command(subcommand)]
    Key(key::Key),
    /// Record `LedgerSealed`, which closes every time window before it.
    Seal(record::Seal),
    /// Record that a wrong clock is known, so that writing goes on.
    AcceptClockFault(record::AcceptClockFault),
    /// Erase the payloads of a run that has ended.
    Erase(erase::Erase),
    /// Write a closed time window as a bundle that proves it, or as NDJSON.
    Export(export::Export),
    /// Check an export, or a ledger, with no trust in any server.
    Verify(verify::Verify),
    /// Copy ledgers from one storage to another, unchanged.
    Copy(copy::Copy),
    /// Look a stored ledger over: everything that is wrong with it.
    Fsck(fsck::Fsck),
    /// Set up a storage for ledgers, and say what weakens it.
    Init(init::Init),
}

impl Ledger {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Head(command) => command.run().await,
            Self::Checkpoint(command) => command.run().await,
            Self::Key(command) => command.run().await,
            Self::Seal(command) => command.run().await,
            Self::AcceptClockFault(command) => command.run().await,
            Self::Erase(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Verify(command) => command.run().await,
            Self::Copy(command) => command.run().await,
            Self::Fsck(command) => command.run().await,
            Self::Init(command) => command.run().await,
        }
    }
}

fn head_details(head: &LedgerHead) -> String {
    details(&[
        ("ledger", head.ledger.clone()),
        ("events", head.size.to_string()),
        ("newest", time(head.recorded_at)),
        ("hash", head.hash.clone()),
    ])
}

/// What was verified, for people.
pub(crate) fn report_details(report: &Report) -> String {
    details(&report_rows(report))
}

fn report_rows(report: &Report) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("events", format!("{} verified in {}", report.events, elapsed(report.elapsed))),
        ("bytes", report.bytes.to_string()),
    ];
    if report.erased > 0 {
        rows.push(("erased", format!("{} payloads, only their hashes are left", report.erased)));
        rows.push(("of seq", seqs(&report.erased_seqs, report.erased)));
    }
    if let Some(span) = &report.span {
        rows.extend([
            ("ledger", span.ledger.clone()),
            ("seq", format!("{} to {}", span.first_seq, span.last_seq)),
            (
                "recorded",
                format!("{} to {}", time(span.first_recorded_at), time(span.last_recorded_at)),
            ),
            ("links to", span.prev.to_string()),
            ("head", span.head.to_string()),
        ]);
    }
    rows
}

/// The first of many seqs.
fn seqs(listed: &[u64], all: u64) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = listed.iter().take(SHOWN).map(u64::to_string).collect();
    let more = if all > shown.len() as u64 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
