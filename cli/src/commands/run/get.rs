//! `run get`, and waiting for a run's end.

use std::time::{Duration, Instant};

use clap::Args;
use stella_api::types::RunView;
use stella_domain::ids::RunId;

use super::{run_details, waited_for};
use crate::{
    client::{Client, path},
    commands::ApiArgs,
    failure::Failure,
};

/// The longest that one request asks the server to wait, in seconds.
const WAIT_STEP_S: u64 = 30;

/// How a run stands.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run get 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run get 0RQ9CWTXP9BPJR3KTYEG0MB9FF --wait --timeout 600
  stella orch run get 0RQ9CWTXP9BPJR3KTYEG0MB9FF -o json")]
pub(crate) struct Get {
    /// The run.
    run_id: RunId,
    /// Wait until event SEQ has reached the projections, so that you read what you wrote.
    #[arg(long, value_name = "SEQ")]
    min_seq: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let run = if self.wait.is_set() {
            self.wait.run(&client, &self.run_id).await?
        } else {
            let min_seq = self.min_seq.map(|seq| ("minSeq", seq.to_string()));
            let query: Vec<_> = min_seq.into_iter().collect();
            client.get(&path("runs", &self.run_id, ""), &query).await?
        };
        self.api.output.print(&run, run_details)?;
        if self.wait.is_set() { waited_for(run.status, &run.run_id) } else { Ok(()) }
    }
}

/// Whether and how long to wait for a run's end.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Wait until the run has ended; exit code 5 when it did not succeed.
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most; exit code 6 when the run has not ended by then.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 3_600,
        requires = "wait",
        value_parser = clap::value_parser!(u64).range(1..=604_800)
    )]
    timeout: u64,
}

impl WaitArgs {
    pub(crate) fn is_set(&self) -> bool {
        self.wait
    }

    /// What to ask the server for when the wait begins.
    pub(crate) fn query(&self) -> Option<(&'static str, String)> {
        self.wait.then(|| ("wait", format!("{}s", self.timeout.min(WAIT_STEP_S))))
    }

    /// The run when it has ended, or when the time is over.
    pub(crate) async fn run(&self, client: &Client, run_id: &RunId) -> Result<RunView, Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs();
            let wait = format!("{}s", left.clamp(1, WAIT_STEP_S));
            let run: RunView = client.get(&path("runs", run_id, ""), &[("wait", wait)]).await?;
            if run.status.is_ended() || left <= 1 {
                return Ok(run);
            }
        }
    }
}
