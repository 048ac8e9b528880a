//! `ledger verify --ledger` with keys: a whole ledger where it is stored.

use stella_domain::ids::Tenant;
use stella_ledger::uri::LedgerUri;
use stella_replay::verify::judge_ledger;
use stella_verify::{LedgerReport, ndjson::Progress as Verified};

use super::{
    report_rows,
    verify_bundle::{TrustArgs, ends_with, signed},
};
use crate::{
    commands::storage::{connect_existing, ledger_failure},
    failure::Failure,
    output::{OutputArgs, Progress, details},
};

/// Judge the ledger, and end with the exit code of the verdict.
pub(super) async fn run(
    uri: &LedgerUri,
    tenant: &Tenant,
    trust: TrustArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let trust = trust.read()?;
    let storage = connect_existing(uri).await?;
    // Only to draw the bar: where the end cannot be read, that will be found.
    let head = storage.ledger.head(tenant).await.map(|head| head.next_seq);
    let newest = storage.checkpoints.newest_note(tenant).await;
    let total = *head.as_ref().unwrap_or(&0);
    if matches!((head, newest), (Ok(0), Ok(None))) {
        let what = format!("{uri} holds no ledger of tenant {tenant}");
        return Err(Failure::failed(what).try_this("name the right one with --tenant"));
    }
    let progress = Progress::events("verifying", total);
    let mut show = |at: Verified| progress.set(at.events, total.max(at.events));
    let report = judge_ledger(&storage, tenant, &trust, &mut show).await;
    let report = report.map_err(ledger_failure)?;
    drop(progress);
    output.print(&report, |report| text(report, uri))?;
    ends_with(report.verdict, report.seq, report.reason.as_deref())
}

fn text(report: &LedgerReport, uri: &LedgerUri) -> String {
    let mut rows = vec![("reason", report.reason.clone().unwrap_or_default())];
    rows.extend(report_rows(&report.read));
    rows.extend(report.checkpoint.iter().flat_map(signed));
    if report.verdict.is_good() {
        let unsigned = match report.unsigned {
            0 => "nothing: the checkpoint holds every event".to_owned(),
            n => format!("{n} events, which the chain alone links so far"),
        };
        rows.push(("after it", unsigned));
    }
    format!("{uri}: {}\n{}", report.verdict.as_str(), details(&rows))
}
