//! `ledger verify` with keys: bundles.

use std::path::{Path, PathBuf};

use clap::Args;
use stella_domain::checkpoint::{PinnedKey, WitnessKey};
use stella_verify::{
    Bundle, Report, Reports, Signed, Trust, Verdict, Witness, manifest,
    ndjson::Progress as Verified, verify_bundles,
};

use super::seqs;
use crate::{
    exit::Exit,
    failure::Failure,
    input,
    output::{OutputArgs, Progress, details, elapsed, time},
};

/// What the auditor brings along.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// A verifier key of the ledger, and the tree sizes that it may sign if it was rotated; once for
    /// each key.
    #[arg(long = "key", value_name = "VKEY[@FROM-TO]")]
    keys: Vec<PinnedKey>,
    /// An older checkpoint that you kept: the bundle has to extend it.
    #[arg(long, value_name = "CHECKPOINT", requires = "keys")]
    since: Option<PathBuf>,
    /// A witness's verifier key; once for each witness.
    #[arg(long = "witness", value_name = "VKEY", requires = "keys")]
    witnesses: Vec<WitnessKey>,
    /// How many of the witnesses must have cosigned; all of them unless said otherwise.
    #[arg(long, value_name = "K", requires = "witnesses")]
    witnesses_needed: Option<usize>,
}

impl TrustArgs {
    pub(crate) fn is_given(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn read(self) -> Result<Trust, Failure> {
        let needed = self.witnesses_needed.unwrap_or(self.witnesses.len());
        if needed > self.witnesses.len() {
            let what = format!(
                "--witnesses-needed {needed}, but only {} --witness are given",
                self.witnesses.len()
            );
            return Err(Failure::usage(what));
        }
        let trust = Trust::new(self.keys).witnesses(self.witnesses, needed);
        Ok(match &self.since {
            Some(path) => trust.since(input::text(path)?),
            None => trust,
        })
    }
}

/// Verify bundles, and end with the exit code of the verdict.
pub(crate) async fn run(
    paths: &[PathBuf],
    trust: TrustArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let reports = judge(paths, trust.read()?).await?;
    output.print(&reports, |reports| text(reports, paths))?;
    verdict(&reports)
}

/// What bundles that continue each other are worth.
pub(crate) async fn judge(paths: &[PathBuf], trust: Trust) -> Result<Reports, Failure> {
    let bundles = paths.iter().map(Bundle::open).collect::<Result<Vec<_>, _>>();
    let bundles = bundles.map_err(|error| {
        Failure::usage(error.to_string())
            .try_this("leave out --key to check the chain of an export without proofs")
    })?;
    // Of archives it shows when they are read.
    let size = |path: &PathBuf| std::fs::metadata(path.join(manifest::names::EVENTS));
    let total = paths.iter().filter_map(|path| size(path).ok()).map(|meta| meta.len()).sum();
    // A thread that nobody has to wait for: a caller who is interrupted does not.
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let progress = Progress::bytes("verifying", total);
        let show = &mut |at: Verified| progress.set(at.bytes, total.max(at.bytes));
        // Nobody listens any more if that fails.
        let _ = tell.send(verify_bundles(&bundles, &trust, show));
    });
    match told.await {
        Ok(reports) => reports.map_err(|error| Failure::usage(error.to_string())),
        Err(error) => Err(Failure::failed(format!("verifying was interrupted: {error}"))),
    }
}

/// The exit code of a verdict.
pub(crate) fn verdict(reports: &Reports) -> Result<(), Failure> {
    ends_with(reports.verdict, reports.seq, reports.reason.as_deref())
}

/// How the command ends with a verdict, which was printed.
pub(super) fn ends_with(
    verdict: Verdict,
    seq: Option<u64>,
    reason: Option<&str>,
) -> Result<(), Failure> {
    let exit = match verdict {
        Verdict::Verified => return Ok(()),
        Verdict::VerifiedWithErasures => return Err(Failure::silent(Exit::VerifiedWithErasures)),
        Verdict::Incomplete => Exit::Incomplete,
        Verdict::Tampered => Exit::Tampered,
        Verdict::Untrusted => Exit::Untrusted,
    };
    let seq = seq.map(|seq| format!(", seq {seq}")).unwrap_or_default();
    let what = format!("{}{seq}: {}", verdict.as_str(), reason.unwrap_or_default());
    Err(Failure::new(exit, what).try_this(advice(verdict)))
}

fn advice(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified | Verdict::VerifiedWithErasures => "",
        Verdict::Incomplete => {
            "ask for what is missing: a bundle of the whole window, made after the window closed, or the \
             newer copy of a stored ledger"
        }
        Verdict::Tampered => {
            "keep this as it is, and compare it with another: one that the server makes anew, or a \
             backup of a stored ledger"
        }
        Verdict::Untrusted => {
            "compare the key with the one that you were given; after a rotation pin both, each with \
             its range"
        }
    }
}

fn text(reports: &Reports, paths: &[PathBuf]) -> String {
    let one = |(report, path): (&Report, &PathBuf)| bundle_text(report, path);
    let text: Vec<String> = reports.bundles.iter().zip(paths).map(one).collect();
    let all = match reports.bundles.len() {
        0 | 1 => String::new(),
        _ => format!("\nall together: {}\n", reports.verdict.as_str()),
    };
    format!("{}{all}", text.join("\n"))
}

pub(super) fn bundle_text(report: &Report, path: &Path) -> String {
    let mut rows = vec![("reason", report.reason.clone().unwrap_or_default())];
    if let Some(step) = report.step {
        rows.push(("step", format!("{step} of docs/ledger-format.md, section 10.5")));
    }
    if let Some(claim) = &report.claim {
        let last = claim.last_seq.map_or("none".to_owned(), |last| last.to_string());
        rows.extend([
            ("ledger", claim.ledger.clone()),
            ("from", time(claim.window.from)),
            ("to", time(claim.window.to)),
            ("events", format!("{}, looked at in {}", claim.events, elapsed(report.elapsed))),
            ("seq", format!("{} to {last}", claim.first_seq)),
            ("links to", claim.prev.to_string()),
            ("head", claim.last_hash.to_string()),
        ]);
        if !report.erased_seqs.is_empty() {
            rows.push(("erased", seqs(&report.erased_seqs, claim.erased)));
        }
    }
    rows.extend(report.checkpoint.iter().flat_map(signed));
    let claimed =
        if report.verdict.is_good() { "" } else { " (what follows is claimed, not shown)" };
    format!("{}: {}{claimed}\n{}", path.display(), report.verdict.as_str(), details(&rows))
}

/// Who speaks for a checkpoint, as rows.
pub(super) fn signed(checkpoint: &Signed) -> [(&'static str, String); 4] {
    let witness = |w: &Witness| format!("{} at {}", w.name, time(w.time));
    let witnesses: Vec<String> = checkpoint.witnesses.iter().map(witness).collect();
    [
        ("tree size", checkpoint.tree_size.to_string()),
        ("root", checkpoint.root.to_string()),
        ("signed by", checkpoint.signed_by.clone()),
        ("witnesses", witnesses.join(", ")),
    ]
}
