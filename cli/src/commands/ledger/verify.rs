//! `ledger verify`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use stella_artifacts::ArtifactUri;
use stella_domain::ids::Tenant;
use stella_ledger::uri::LedgerUri;
use stella_replay::verify::{LiveError, verify_ledger};
use stella_verify::{
    Bundle,
    ndjson::{Progress as Verified, Report, VerifyError, verify_files},
};

use super::{
    artifacts, report_details,
    verify_bundle::{self, TrustArgs},
    verify_receipt, verify_whole,
};
use crate::{
    commands::storage::{ledger_failure, open_existing},
    exit::Exit,
    failure::Failure,
    output::{OutputArgs, Progress},
};

/// Check a bundle, the receipt of a run, an export or a stored ledger, with no trust in any server.
///
/// Of a bundle, with --key, it is shown whether its window is complete and unchanged, by a signed
/// checkpoint; each verdict has its own exit code (`stella --help`). Of a receipt, likewise, that the
/// run's events stand in the ledger, in this order and unchanged. Of a stored ledger, that it is the one
/// whose newest checkpoint was signed, from its first event on. Of an export alone, or without --key, it is shown
/// that these events are an unbroken piece of one ledger, unchanged since they were recorded: exit
/// code 4 if not. That nothing is missing before the first or after the last, or that the whole was
/// not written anew, shows only when you compare the hashes with what you know from elsewhere.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["files", "ledger", "receipt"]).required(true))]
#[command(after_help = "\
Examples:
  stella orch ledger verify november.tar.zst --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
  stella orch ledger verify october november --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4@0-20000
  stella orch ledger verify november --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 --since october.checkpoint -o json
  stella orch ledger verify november --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 --artifacts /mnt/artifacts
  stella orch ledger verify --receipt receipt.json --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
  stella orch ledger verify events.ndjson
  stella orch ledger verify 2026-09.ndjson 2026-10.ndjson 2026-11.ndjson
  stella orch ledger verify --ledger sqlite:stella-data/ledger.db
  stella orch ledger verify --ledger mongodb://auditor@db.example/stella --tenant acme --key stella.example/acme+a3438e79+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 --since october.checkpoint")]
pub(crate) struct Verify {
    /// Bundles (a directory or a .tar.zst each), or exports, that continue each other, in this
    /// order.
    #[arg(value_name = "BUNDLE")]
    files: Vec<PathBuf>,
    /// A ledger where it is stored, from its beginning: sqlite:PATH, or mongodb://….
    #[arg(long, value_name = "URI", conflicts_with = "files")]
    ledger: Option<LedgerUri>,
    /// The receipt of a run, as `run receipt` writes it.
    #[arg(long, value_name = "FILE", requires = "keys",
        conflicts_with_all = ["files", "ledger", "since", "artifacts"])]
    receipt: Option<PathBuf>,
    /// Whose, with --ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    trust: TrustArgs,
    /// Check the artifacts and logs too that the events name, in a copy of the server's artifact
    /// store: a folder or s3://BUCKET[/PREFIX]. Each has to be there, with its digest.
    #[arg(long, value_name = "PLACE")]
    artifacts: Option<ArtifactUri>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        if let Some(receipt) = &self.receipt {
            return verify_receipt::run(receipt, self.trust, self.output);
        }
        // The place itself first: verifying may take long.
        let store = self.artifacts.as_ref().map(artifacts::open).transpose()?;
        if let (Some(uri), true) = (&self.ledger, self.trust.is_given()) {
            let judged = verify_whole::run(uri, &self.tenant, self.trust, self.output).await;
            let is_bad = |failure: &Failure| failure.exit != Exit::VerifiedWithErasures;
            let (Some(store), false) = (store, judged.as_ref().is_err_and(is_bad)) else {
                return judged;
            };
            let ledger = open_existing(uri).await?;
            artifacts::of_ledger(store, &*ledger, &self.tenant, self.output).await?;
            return judged;
        }
        if self.trust.is_given() {
            let reports = verify_bundle::run(&self.files, self.trust, self.output).await;
            let is_good = |failure: &Failure| failure.exit == Exit::VerifiedWithErasures;
            return match (reports, store) {
                (Err(failure), _) if !is_good(&failure) => Err(failure),
                (reports, Some(store)) => {
                    let bundles = self.files.iter().map(Bundle::open).collect::<Result<_, _>>();
                    let bundles = bundles.map_err(|error| Failure::usage(error.to_string()))?;
                    artifacts::of_bundles(store, bundles, self.output).await?;
                    reports
                }
                (reports, None) => reports,
            };
        }
        if let Some(bundle) = self.files.iter().find(|file| Bundle::open(file).is_ok()) {
            let what = format!("{} is a bundle, and no key was given", bundle.display());
            return Err(Failure::usage(what).try_this(
                "pin the ledger's verifier key, which you have from elsewhere than the bundle: \
                 --key VKEY",
            ));
        }
        let report = match &self.ledger {
            Some(uri) => stored(uri, &self.tenant).await?,
            None => exported(self.files.clone()).await?,
        };
        self.output.print(&report, |report| {
            let details = report_details(report);
            format!(
                "the chain holds; nothing was proven against a checkpoint: give --key, with a bundle or \
                 a stored ledger, for that\n{details}"
            )
        })?;
        match (store, &self.ledger) {
            (None, _) => Ok(()),
            (Some(store), Some(uri)) => {
                artifacts::of_ledger(store, &*open_existing(uri).await?, &self.tenant, self.output)
                    .await
            }
            (Some(store), None) => artifacts::of_exports(store, self.files, self.output).await,
        }
    }
}

/// Verify exports that continue each other.
async fn exported(files: Vec<PathBuf>) -> Result<Report, Failure> {
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
