//! `ledger fsck`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use stella_domain::checkpoint::{Keyring, PinnedKey};
use stella_ledger::fsck::{LISTED, Problem, Report, fsck};

use super::init::{FindingView, findings_table, views};
use crate::{
    commands::storage::{StorageArgs, connect_existing, ledger_failure},
    exit::Exit,
    failure::Failure,
    output::{OutputArgs, Progress, Table, details},
};

/// Look a stored ledger over: everything that is wrong with it, not only the first thing.
///
/// Needs no server and changes nothing that is recorded. Reads every commit: whether its content and what stands
/// around it give its hash, whether it follows the one before, whether anything is missing in
/// the ledger or in a stream; compares tiles and checkpoints with the events; and says what weakens
/// the storage, such as a missing index or a user who may do too much. Exit code 4 if something is
/// not as it was recorded or signed, or if the storage takes no writes as it is. While a server
/// writes, its newest events may be missed, nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch ledger fsck
  stella orch ledger fsck --ledger 'mongodb://127.0.0.1:27017/stella?replicaSet=rs0' -o json
  stella orch ledger fsck --data-dir /var/lib/stella --key 'stella.local/main+c0138297+AVFafrEGlqv49YpmR2Z5tc4Hrbp+VLfuILZP/B6FbQWV'")]
pub(crate) struct Fsck {
    #[command(flatten)]
    storage: StorageArgs,
    /// A verifier key of the ledger, VKEY or VKEY@FROM-TO: then the signatures of its checkpoints
    /// are checked too; once for each key.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<PinnedKey>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The report as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    sound: bool,
    ledger: Option<String>,
    events: u64,
    commits: u64,
    streams: u64,
    tiles: u64,
    checkpoints: u64,
    signatures_checked: bool,
    findings: Vec<FindingView>,
    counts: BTreeMap<&'static str, u64>,
    problems: Vec<Problem>,
}

impl Fsck {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (uri, tenant) = (self.storage.uri(), &self.storage.tenant);
        let storage = connect_existing(&uri).await?;
        let scan = uri.scan().await.map_err(ledger_failure)?;
        // Only to draw the bar: where the end cannot be read, that will be found.
        let total = storage.ledger.head(tenant).await.map_or(0, |head| head.next_seq);
        let progress = Progress::events("looking over", total);
        let signatures_checked = !self.keys.is_empty();
        let keys = signatures_checked.then_some(Keyring(self.keys));
        let mut show = |next_seq: u64| progress.set(next_seq, total.max(next_seq));
        let report = fsck(&storage, &scan, tenant, keys.as_ref(), &mut show).await;
        let report = report.map_err(ledger_failure)?;
        drop(progress);
        if report.commits == 0 && report.is_sound() {
            return Err(Failure::failed(format!("{uri} holds no ledger of tenant {tenant}"))
                .try_this("name the right one with --tenant"));
        }
        let sound = report.is_sound();
        self.output.print(&view(report, signatures_checked), text)?;
        if sound { Ok(()) } else { Err(Failure::silent(Exit::NotVerified)) }
    }
}

fn view(report: Report, signatures_checked: bool) -> View {
    let sound = report.is_sound();
    let Report { ledger, events, commits, streams, tiles, checkpoints, findings, problems, counts } =
        report;
    let findings = views(findings);
    View {
        sound,
        ledger,
        events,
        commits,
        streams,
        tiles,
        checkpoints,
        signatures_checked,
        findings,
        counts,
        problems,
    }
}

fn text(view: &View) -> String {
    let signatures = match view.signatures_checked {
        true => "checked",
        false => "not checked: give --key for that",
    };
    let found: u64 = view.counts.values().sum();
    let mut text = details(&[
        ("ledger", view.ledger.clone().unwrap_or_else(|| "-".to_owned())),
        ("events", format!("{} in {} commits", view.events, view.commits)),
        ("streams", view.streams.to_string()),
        ("tiles", view.tiles.to_string()),
        ("checkpoints", view.checkpoints.to_string()),
        ("signatures", signatures.to_owned()),
        ("problems", found.to_string()),
    ]);
    if found > 0 {
        let mut table = Table::new(&["PROBLEM", "SEQ#", "WHAT IS WRONG"]);
        for Problem { code, seq, message } in &view.problems {
            let seq = seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            table.row([(*code).to_owned(), seq, message.clone()]);
        }
        text = format!("{}\n\n{}", text.trim_end(), table.text(""));
    }
    if found > LISTED as u64 {
        let counts: Vec<String> =
            view.counts.iter().map(|(code, n)| format!("{code}: {n}")).collect();
        text = format!("{}\nthe first {LISTED}; in all {}", text.trim_end(), counts.join(", "));
    }
    if !view.findings.is_empty() {
        text = format!("{}\n\n{}", text.trim_end(), findings_table(&view.findings).text(""));
    }
    text
}
