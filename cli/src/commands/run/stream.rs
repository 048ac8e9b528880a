//! `run stream`.

use clap::{Args, builder::PossibleValuesParser};
use stella_api::types::{RunView, StreamItem, StreamMessage};
use stella_domain::{
    aggregate::RunStatus,
    event::RunEvent,
    ids::{DagId, RunId},
};

use crate::{
    chain::ChainCheck,
    client::{Client, Stream as Events, path},
    commands::ApiArgs,
    failure::Failure,
    input::{self, KeyValue},
    output::{Format, json, line, note, time},
};

/// Events as they come, until you end it or, with a run, until that has ended.
///
/// Each event is checked against its hash, and against the event before it where the two are
/// neighbours in the ledger; what was checked is said on stderr at the end. Exit code 4 when
/// something does not hold.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run stream
  stella orch run stream 0RQ9CWTXP9BPJR3KTYEG0MB9FF --from-seq 0
  stella orch run stream --dag nightly -o json | jq .type
  stella orch run stream --label team=search --status failed
  stella orch run stream --from-seq 1200 --type RunFailed | head
  stella orch run stream --from-seq 0 --type RunFailed --chain")]
pub(crate) struct Stream {
    /// Only events of this run; ends with it.
    run_id: Option<RunId>,
    /// Only events of runs of this DAG.
    #[arg(long, value_name = "DAG")]
    dag: Option<DagId>,
    /// Only events of runs with this label.
    #[arg(long, value_name = "KEY=VALUE", value_parser = input::key_value)]
    label: Option<KeyValue>,
    /// Only events after which their run stands so.
    #[arg(
        long,
        value_name = "STATUS",
        value_parser = PossibleValuesParser::new(RunStatus::ALL.map(RunStatus::as_str))
    )]
    status: Option<String>,
    /// Only events of this type, such as RunFailed.
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(RunEvent::TYPES), hide_possible_values = true)]
    event_type: Option<String>,
    /// Begin with this event, which may be in the past. Otherwise a run's events begin with its
    /// first, and all others with what comes next.
    #[arg(long, value_name = "SEQ")]
    from_seq: Option<u64>,
    /// Check the whole chain from the first event on: have the headers of all events sent that the
    /// filter leaves out.
    #[arg(long)]
    chain: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Stream {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let mut events = client.stream(&self.query(&client).await?).await?;
        let mut check = ChainCheck::default();
        let outcome = tokio::select! {
            outcome = self.follow(&mut events, &mut check) => outcome,
            // Ended by hand, as a stream is: that is no failure.
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        if let Some(summary) = check.summary() {
            note(summary);
        }
        outcome
    }

    async fn query(&self, client: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut from_seq = self.from_seq;
        if let (Some(run_id), None) = (&self.run_id, from_seq) {
            let run: RunView = client.get(&path("runs", run_id, ""), &[]).await?;
            from_seq = Some(run.created_seq);
        }
        let label = self.label.as_ref().map(|KeyValue { key, value }| format!("{key}={value}"));
        let filters = [
            ("runId", self.run_id.as_ref().map(ToString::to_string)),
            ("dagId", self.dag.as_ref().map(ToString::to_string)),
            ("label", label),
            ("status", self.status.clone()),
            ("type", self.event_type.clone()),
            ("fromSeq", from_seq.map(|seq| seq.to_string())),
            ("chain", self.chain.then(|| "true".to_owned())),
        ];
        Ok(filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    async fn follow(&self, events: &mut Events, check: &mut ChainCheck) -> Result<(), Failure> {
        loop {
            let item = match events.next().await {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(failure) => return Err(go_on(failure, check)),
            };
            check.see(&item).map_err(|broken| {
                Failure::not_verified(broken.to_string()).try_this(
                    "find out what was changed: `stella orch ledger fsck` and `ledger verify`",
                )
            })?;
            let StreamItem::Event(message) = item else { continue };
            match self.api.output.format {
                Format::Json => json(&message)?,
                Format::Table => line(text(&message))?,
            }
            if self.run_id.is_some() && ends_run(&message) {
                return Ok(());
            }
        }
    }
}

/// Say where to go on after a break.
fn go_on(failure: Failure, check: &ChainCheck) -> Failure {
    match check.next_seq() {
        Some(seq) => failure.try_this(format!("go on where it was with --from-seq {seq}")),
        None => failure,
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
