//! `run start`.

use std::path::PathBuf;

use clap::Args;
use stella_api::types::{StartRunBody, StartedRun};
use stella_domain::{
    event::Labels,
    ids::{DagId, RunToken},
};

use super::{failure_text, get::WaitArgs, waited_for};
use crate::{
    client::{Answer, Client},
    commands::ApiArgs,
    exit::Exit,
    failure::Failure,
    input::{self, KeyValue},
    output::{details, note, time},
};

/// Start a run.
///
/// Every start carries a run token, so that it can be repeated when its outcome is not known: the
/// same token always means the same run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run start supply-chain-audit --input lockfile=/srv/app/Cargo.lock --wait
  stella orch run start nightly --token nightly-2026-11-23 --inputs inputs.json
  stella orch run start nightly --label team=data --priority 5 --reason 'asked for by finance'
  echo '{\"n\":1}' | stella orch run start nightly --inputs -
  stella orch run start nightly -o json

A value of --input is JSON where it reads as JSON (5, true, {\"a\":1}) and text otherwise; write
'\"5\"' for text that reads as JSON.")]
pub(crate) struct Start {
    /// The DAG.
    dag: DagId,
    /// Its version; the active one otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dag_version: Option<u32>,
    /// One of the inputs; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    input: Vec<KeyValue>,
    /// A file with the inputs, a JSON object; - is stdin.
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// The run token, 1 to 256 characters; drawn and printed otherwise.
    #[arg(long, value_name = "TOKEN")]
    token: Option<RunToken>,
    /// A label by which to find the run; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    label: Vec<KeyValue>,
    /// Higher is dispatched first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// A run token that nobody else draws.
pub(crate) fn fresh_run_token() -> Result<RunToken, Failure> {
    let token = format!("cli-{}", ulid::Ulid::new().to_string().to_lowercase());
    token.parse().map_err(|error| Failure::failed(format!("{error}")))
}

impl Start {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let inputs = input::inputs(self.inputs.as_deref(), &self.input)?;
        let client = self.api.client()?;
        let (token, drawn) = match self.token {
            Some(token) => (token, false),
            None => (fresh_run_token()?, true),
        };
        let labels: Labels = self.label.into_iter().map(|l| (l.key, l.value)).collect();
        let body = StartRunBody {
            dag_id: self.dag,
            dag_version: self.dag_version,
            inputs: Some(inputs),
            run_token: Some(token.clone()),
            labels,
            priority: self.priority,
            reason: self.reason,
        };
        let query: Vec<_> = self.wait.query().into_iter().collect();
        let started: Answer<StartedRun> = match client.post("/runs", &query, &body).await {
            Ok(started) => started,
            // The one moment at which the token matters: the run may or may not have started.
            Err(failure) if failure.exit == Exit::Unavailable => {
                return Err(failure.try_this(format!(
                    "repeat it with --token {token}: if the run has started, the same one comes \
                     back"
                )));
            }
            Err(failure) => return Err(failure),
        };
        if drawn {
            note(format_args!("run token: {token}"));
        }
        let Answer { mut body, .. } = started;
        if self.wait.is_set() && !body.status.is_ended() {
            wait_on(&self.wait, &client, &mut body).await?;
        }
        self.api.output.print(&body, table)?;
        if self.wait.is_set() { waited_for(body.status, &body.run_id) } else { Ok(()) }
    }
}

/// The server's own wait is short: ask again until the run has ended or the time is over.
async fn wait_on(
    wait: &WaitArgs,
    client: &Client,
    started: &mut StartedRun,
) -> Result<(), Failure> {
    let run = wait.run(client, &started.run_id).await?;
    started.status = run.status;
    started.seq = run.last_seq;
    started.ended_at = run.ended_at;
    started.error_code = run.error_code;
    started.failed_step = run.failed_step;
    Ok(())
}

fn table(run: &StartedRun) -> String {
    let replayed = if run.replayed { " (it was started before)" } else { "" };
    details(&[
        ("run", format!("{}{replayed}", run.run_id)),
        ("status", run.status.as_str().to_owned()),
        ("error", failure_text(run.error_code.as_ref(), run.failed_step.as_ref())),
        ("dag", format!("{} version {}", run.dag_id, run.dag_version)),
        ("inputs", run.inputs_hash.clone()),
        ("ended", run.ended_at.map(time).unwrap_or_default()),
        ("seq", run.seq.to_string()),
    ])
}
