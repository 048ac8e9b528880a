//! `run stream`.

use clap::Args;
use stella_api::types::{RunView, StreamMessage};
use stella_domain::ids::{DagId, RunId};

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Format, json, line, time},
};

/// Events as they come, until you end it or, with a run, until that has ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run stream
  stella orch run stream 0RQ9CWTXP9BPJR3KTYEG0MB9FF --from-seq 0
  stella orch run stream --dag nightly -o json | jq .type
  stella orch run stream --from-seq 1200 --type RunFailed | head")]
pub(crate) struct Stream {
    /// Only events of this run; ends with it.
    run_id: Option<RunId>,
    /// Only events of runs of this DAG.
    #[arg(long, value_name = "DAG")]
    dag: Option<DagId>,
    /// Only events of this type, such as RunFailed.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Begin with this event, which may be in the past. Otherwise a run's events begin with its
    /// first, and all others with what comes next.
    #[arg(long, value_name = "SEQ")]
    from_seq: Option<u64>,
    #[command(flatten)]
    api: ApiArgs,
}

impl Stream {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let mut from_seq = self.from_seq;
        if let (Some(run_id), None) = (&self.run_id, from_seq) {
            let run: RunView = client.get(&path("runs", run_id, ""), &[]).await?;
            from_seq = Some(run.created_seq);
        }
        let filters = [
            ("runId", self.run_id.as_ref().map(ToString::to_string)),
            ("dagId", self.dag.map(|dag| dag.to_string())),
            ("type", self.event_type),
            ("fromSeq", from_seq.map(|seq| seq.to_string())),
        ];
        let query: Vec<_> =
            filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let mut stream = client.stream(&query).await?;
        while let Some(message) = stream.next().await? {
            match self.api.output.format {
                Format::Json => json(&message)?,
                Format::Table => line(text(&message))?,
            }
            if self.run_id.is_some() && ends_run(&message) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether nothing more will happen to the run.
pub(crate) fn ends_run(message: &StreamMessage) -> bool {
    matches!(
        message.event_type.as_str(),
        "RunSucceeded" | "RunFailed" | "RunCancelled" | "RunTimedOut"
    )
}

fn text(message: &StreamMessage) -> String {
    let StreamMessage { seq, recorded_at, event_type, run_id, data, .. } = message;
    format!("{seq:>8}  {}  {run_id}  {event_type:<18}  {data}", time(*recorded_at))
}
