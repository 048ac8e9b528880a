//! `run list`.

use clap::{Args, builder::PossibleValuesParser};
use stella_api::types::RunView;
use stella_domain::{aggregate::RunStatus, ids::DagId, time::Timestamp};

use super::failure_text;
use crate::{
    commands::ApiArgs,
    failure::Failure,
    input::{self, KeyValue},
    output::{Format, Table, duration, json, time},
};

/// Runs, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run list
  stella orch run list --status failed --dag nightly --from 2026-11-01
  stella orch run list --label team=data --limit 500 -o json | jq .runId")]
pub(crate) struct List {
    /// Only runs that stand so.
    #[arg(
        long,
        value_name = "STATUS",
        value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str))
    )]
    status: Option<String>,
    /// Only runs of this DAG.
    #[arg(long, value_name = "DAG")]
    dag: Option<DagId>,
    /// Only runs created at this time or later (RFC 3339, or a day; UTC).
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    from: Option<Timestamp>,
    /// Only runs created before this time.
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    to: Option<Timestamp>,
    /// Only runs with this label.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    label: Option<KeyValue>,
    /// Only runs that failed with this code.
    #[arg(long, value_name = "CODE")]
    error_code: Option<String>,
    /// Only runs with these inputs, as `run get` shows their hash.
    #[arg(long, value_name = "b3:HEX")]
    inputs_hash: Option<String>,
    /// Runs to list at most.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    limit: u32,
    #[command(flatten)]
    api: ApiArgs,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let label = self.label.map(|KeyValue { key, value }| format!("{key}={value}"));
        let filters = [
            ("status", self.status),
            ("dagId", self.dag.map(|dag| dag.to_string())),
            ("from", self.from.map(|from| from.to_string())),
            ("to", self.to.map(|to| to.to_string())),
            ("label", label),
            ("errorCode", self.error_code),
            ("inputsHash", self.inputs_hash),
        ];
        let query: Vec<_> =
            filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let runs: Vec<RunView> = self.api.client()?.list("/runs", &query, limit).await?;
        match self.api.output.format {
            Format::Json => runs.iter().try_for_each(json),
            Format::Table => self.api.output.print(&runs, |runs| table(runs)),
        }
    }
}

fn table(runs: &[RunView]) -> String {
    let mut table = Table::new(&["RUN", "STATUS", "DAG", "VERSION#", "CREATED", "TOOK#", "ERROR"]);
    for run in runs {
        table.row([
            run.run_id.to_string(),
            run.status.as_str().to_owned(),
            run.dag_id.to_string(),
            run.dag_version.to_string(),
            time(run.created_at),
            run.ended_at.map_or_else(|| "-".into(), |end| duration(end.ms_since(run.created_at))),
            failure_text(run.error_code.as_ref(), run.failed_step.as_ref()),
        ]);
    }
    table.text("no runs")
}
