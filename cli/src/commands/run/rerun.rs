//! `run rerun`.

use clap::Args;
use stella_api::types::{
    BulkRerun, BulkRerunBody, LedgerHead, RERUN_CAP, RERUN_STATUSES, RerunBody, StartedRun,
};
use stella_domain::{
    aggregate::RunStatus,
    ids::{DagId, PluginName, PluginVersion, RunId},
    time::Timestamp,
};

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    input,
    output::{Table, details, note},
};

/// What chooses among many runs.
const CHOOSING: [&str; 10] = [
    "from",
    "to",
    "dag",
    "of_dag_version",
    "error_code",
    "plugin",
    "plugin_version",
    "status",
    "cap",
    "dry_run",
];

/// Run again what has ended: a run, or all that failed so in a window.
///
/// A rerun is the next attempt of the same run, with the same inputs and run token, on the active
/// version of its DAG. Asked for again, it starts nothing twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run rerun 0RQ9CWTXP9BPJR3KTYEG0MB9FF --reason 'disk was full'
  stella orch run rerun --dag nightly --error-code NO_SPACE --from 2026-11-28 --dry-run
  stella orch run rerun --plugin scan --plugin-version 1.3.0 --from 2026-11-28 --dry-run
  stella orch run rerun --dag nightly --error-code NO_SPACE --from 2026-11-28 --to 2026-11-29 --reason 'disk was full'")]
pub(crate) struct Rerun {
    /// The run; without it, what is asked for by --from and the others.
    #[arg(conflicts_with_all = CHOOSING)]
    run_id: Option<RunId>,
    /// Those created at or after this time.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    from: Option<Timestamp>,
    /// And before this one; now otherwise.
    #[arg(long, value_name = "TIME", value_parser = input::time, requires = "from")]
    to: Option<Timestamp>,
    /// Of this DAG.
    #[arg(long, requires = "from")]
    dag: Option<DagId>,
    /// Of this version.
    #[arg(long, value_name = "N", requires = "from", value_parser = clap::value_parser!(u32).range(1..))]
    of_dag_version: Option<u32>,
    /// Failed with this code.
    #[arg(long, value_name = "CODE", requires = "from")]
    error_code: Option<String>,
    /// Failed in a step of this plugin.
    #[arg(long, requires = "from")]
    plugin: Option<PluginName>,
    /// And of this version of it.
    #[arg(long, value_name = "VERSION", requires = "plugin")]
    plugin_version: Option<PluginVersion>,
    /// How they ended: failed, timedOut or cancelled.
    #[arg(long, requires = "from", default_value = "failed", value_parser = status)]
    status: RunStatus,
    /// Runs at most: with more it is refused.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(RERUN_CAP)), requires = "from")]
    cap: u32,
    /// List the runs, and start nothing.
    #[arg(long, requires = "from")]
    dry_run: bool,
    /// The version that reruns follow; the active one otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dag_version: Option<u32>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

fn status(text: &str) -> Result<RunStatus, String> {
    let found = RERUN_STATUSES.into_iter().find(|status| status.as_str() == text);
    let names = RERUN_STATUSES.map(RunStatus::as_str);
    found.ok_or_else(|| format!("write one of {}", names.join(", ")))
}

impl Rerun {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        if let Some(run_id) = &self.run_id {
            let body = RerunBody { dag_version: self.dag_version, reason: self.reason };
            let answer = client.post(&path("runs", run_id, ":rerun"), &[], &body).await?;
            return self.api.output.print(&answer.body, |run: &StartedRun| {
                let replayed = if run.replayed { " (it was started before)" } else { "" };
                details(&[
                    ("run", format!("{}{replayed}", run.run_id)),
                    ("attempt", run.attempt.to_string()),
                    ("status", run.status.as_str().to_owned()),
                    ("dag", format!("{} version {}", run.dag_id, run.dag_version)),
                    ("seq", run.seq.to_string()),
                ])
            });
        }
        let Some(from) = self.from else {
            return Err(Failure::usage("it is not said what to run again").try_this(
                "name a run, or choose among those that were created since --from: see `--help`",
            ));
        };
        let to = match self.to {
            Some(to) => to,
            // By the ledger's clock, which is also that of the runs: right after all there are.
            None => {
                let head: LedgerHead = client.get("/ledger/head", &[]).await?;
                Timestamp::from_micros(head.recorded_at.as_micros() + 1)
            }
        };
        if from >= to {
            let what = format!("--from {from} is not before {to}: no run was created in between");
            return Err(Failure::usage(what));
        }
        if self.to.is_none() && !self.dry_run {
            note(format_args!("to repeat this and start nothing twice, add --to {to}"));
        }
        let body = BulkRerunBody {
            from: from.to_string(),
            to: to.to_string(),
            status: Some(self.status),
            dag_id: self.dag,
            of_dag_version: self.of_dag_version,
            error_code: self.error_code,
            plugin: self.plugin,
            plugin_version: self.plugin_version,
            dag_version: self.dag_version,
            cap: self.cap,
            dry_run: self.dry_run,
            reason: self.reason,
        };
        let reruns: BulkRerun = client.post("/runs:rerun", &[], &body).await?.body;
        self.api.output.print(&reruns, table)?;
        match reruns.items.iter().filter(|item| item.refused.is_some()).count() {
            0 => Ok(()),
            n => Err(Failure::failed(format!("{n} of {} runs were refused", reruns.items.len()))
                .try_this("the table says why; what was not refused has been started")),
        }
    }
}

fn table(reruns: &BulkRerun) -> String {
    let mut table = Table::new(&["RUN", "DAG", "ERROR", "RERUN", ""]);
    for item in &reruns.items {
        let state = match (&item.refused, item.replayed) {
            (Some(why), _) => format!("refused: {why}"),
            (None, true) => "was started before".to_owned(),
            (None, false) => String::new(),
        };
        table.row([
            item.run_id.to_string(),
            item.dag_id.to_string(),
            item.error_code.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            item.rerun_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            state,
        ]);
    }
    table.text("no run of this window ended so")
}
