//! `ledger verify`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use stella_domain::ids::Tenant;
use stella_ledger::uri::LedgerUri;
use stella_replay::verify::{LiveError, verify_ledger};
use stella_verify::ndjson::{Progress as Verified, Report, VerifyError, verify_files};

use super::report_details;
use crate::{
    commands::storage::{ledger_failure, open_existing},
    failure::Failure,
    output::{OutputArgs, Progress},
};

/// Check an export, or a ledger where it is stored, with no trust in any server; exit code 4 when
/// it does not hold, naming the first line that does not.
///
/// Shown is that these events are an unbroken piece of one ledger, unchanged since they were
/// recorded. That nothing is missing before the first or after the last shows when you compare
/// their seq and the head's hash with what you know from elsewhere.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["files", "ledger"]).required(true))]
#[command(after_help = "\
Examples:
  stella orch ledger verify events.ndjson
  stella orch ledger verify 2026-09.ndjson 2026-10.ndjson 2026-11.ndjson
  stella orch ledger verify events.ndjson -o json
  stella orch ledger verify --ledger sqlite:stella-data/ledger.db")]
pub(crate) struct Verify {
    /// Exports that continue each other, in this order.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A ledger where it is stored, from its beginning: sqlite:PATH, or mongodb://….
    #[arg(long, value_name = "URI", conflicts_with = "files")]
    ledger: Option<LedgerUri>,
    /// Whose, with --ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let report = match &self.ledger {
            Some(uri) => stored(uri, &self.tenant).await?,
            None => exported(self.files).await?,
        };
        self.output.print(&report, |report| format!("the chain holds\n{}", report_details(report)))
    }
}

/// Verify exports that continue each other.
pub(crate) async fn exported(files: Vec<PathBuf>) -> Result<Report, Failure> {
    let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let total = files.iter().map(size).sum();
    let verified = tokio::task::spawn_blocking(move || {
        let progress = Progress::bytes("verifying", total);
        verify_files(&files, &mut |at: Verified| progress.set(at.bytes, total))
    });
    match verified.await {
        Ok(verified) => verified.map_err(verify_failure),
        Err(error) => Err(Failure::failed(format!("verifying was interrupted: {error}"))),
    }
}

async fn stored(uri: &LedgerUri, tenant: &Tenant) -> Result<Report, Failure> {
    let ledger = open_existing(uri).await?;
    let total = ledger.head(tenant).await.map_err(ledger_failure)?.next_seq;
    if total == 0 {
        let what = format!("{uri} holds no ledger of tenant {tenant}");
        return Err(Failure::failed(what).try_this("name the right one with --tenant"));
    }
    let progress = Progress::events("verifying", total);
    verify_ledger(&*ledger, tenant, &mut |at: Verified| progress.set(at.events, total))
        .await
        .map_err(|error| match error {
            LiveError::Verify(error) => verify_failure(error),
            LiveError::Ledger(error) => ledger_failure(error),
        })
}

/// Why there is no report.
pub(crate) fn verify_failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::Broken(broken) => {
            Failure::not_verified(format!("the chain does not hold: {broken}"))
                .try_this("keep this file as it is, and take the export anew to compare the two")
        }
        VerifyError::Io { file, source } => {
            let file = file.as_deref().unwrap_or(Path::new("the events")).display();
            Failure::usage(format!("cannot read {file}: {source}"))
        }
    }
}
