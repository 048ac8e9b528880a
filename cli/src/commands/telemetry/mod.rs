//! `telemetry`: what monitoring wants to know, out of the ledger.

mod export;
mod verify;

use clap::Subcommand;
use stella_replay::telemetry::{Files, Manifest, otlp::Signal};

use crate::{
    failure::Failure,
    output::{Table, details, time},
};

/// Logs, counters and traces as they follow from the ledger, in the form of OpenTelemetry.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch telemetry export --from 2026-11-28 --to 2026-11-29 --out tonight
  stella orch telemetry verify tonight")]
pub(crate) enum Telemetry {
    /// Write those of a closed time window as NDJSON, with a manifest of hashes.
    Export(Box<export::Export>),
    /// Check that what was written is unchanged.
    Verify(verify::Verify),
}

impl Telemetry {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Export(command) => command.run().await,
            Self::Verify(command) => command.run(),
        }
    }
}

fn manifest_text(manifest: &Manifest) -> String {
    let seqs =
        manifest.first_seq.map(|first| format!("{first} to {}", first + manifest.events - 1));
    let mut text = details(&[
        ("ledger", manifest.ledger.to_string()),
        ("from", time(manifest.window.from)),
        ("to", time(manifest.window.to)),
        ("events", manifest.events.to_string()),
        ("seq", seqs.unwrap_or_default()),
        ("payloads", if manifest.payloads { "in the logs" } else { "left out" }.to_owned()),
        ("manifest", format!("SHA-256 {}", manifest.sha256())),
    ]);
    let mut files = Table::new(&["FILE", "LINES#", "RECORDS#", "BYTES#", "SHA-256"]);
    for signal in Signal::ALL {
        let facts = manifest.files.of(signal);
        files.row([
            Files::name(signal).to_owned(),
            facts.lines.to_string(),
            facts.records.to_string(),
            facts.bytes.to_string(),
            facts.sha256.to_string(),
        ]);
    }
    text.push('\n');
    text.push_str(&files.text(""));
    text
}
