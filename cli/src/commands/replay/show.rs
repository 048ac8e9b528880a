//! `replay show`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stella_api::types::{EventView, RunView};
use stella_domain::ids::{RunId, Tenant};
use stella_ledger::uri::LedgerUri;
use stella_replay::time_travel::{self, ShowError};

use crate::{
    client::{Client, ServerArgs, path},
    commands::{
        ledger::verify_failure,
        run::run_details,
        storage::{ledger_failure, open_existing},
    },
    failure::Failure,
    output::{OutputArgs, Table, details, time},
};

/// A run as it stood after event SEQ of the ledger, and the event that came next.
///
/// From a running server; from an export, which is verified on the way; or from the ledger where
/// it is stored. The latter two show every step with its lease as well.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch replay show 0RQ9CWTXP9BPJR3KTYEG0MB9FF --at 1207
  stella orch replay show 0RQ9CWTXP9BPJR3KTYEG0MB9FF --at 1207 --file events.ndjson
  stella orch replay show 0RQ9CWTXP9BPJR3KTYEG0MB9FF --at 1207 --ledger sqlite:stella-data/ledger.db -o json")]
pub(crate) struct Show {
    /// The run.
    run_id: RunId,
    /// The event of the ledger after which to look: any, the run's last one up to there counts.
    #[arg(long, value_name = "SEQ")]
    at: u64,
    /// An export; several that continue each other may be given.
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    file: Vec<PathBuf>,
    /// The ledger where it is stored: sqlite:PATH, or mongodb://….
    #[arg(long, value_name = "URI")]
    ledger: Option<LedgerUri>,
    /// Whose, with --ledger.
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a server tells.
#[derive(Debug, Serialize)]
struct Shown {
    run: RunView,
    next: Option<EventView>,
}

impl Show {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { run_id, at, file, ledger, tenant, server, output } = self;
        let view = match ledger {
            Some(uri) => {
                let ledger = open_existing(&uri).await?;
                time_travel::show(&*ledger, &tenant, &run_id, at).await
            }
            None if file.is_empty() => {
                let shown = from_server(&Client::new(&server)?, &run_id, at).await?;
                return output.print(&shown, |shown| {
                    let next = shown.next.as_ref();
                    let next =
                        next.map(|next| (next.seq, next.event_type.as_str(), next.data.as_str()));
                    format!("{}\n{}", run_details(&shown.run), next_text(next))
                });
            }
            None => {
                let shown = tokio::task::spawn_blocking(move || {
                    time_travel::show_in_files(&file, &run_id, at)
                });
                shown
                    .await
                    .map_err(|error| Failure::failed(format!("reading was interrupted: {error}")))?
            }
        };
        output.print(&view.map_err(show_failure)?, view_text)
    }
}

async fn from_server(client: &Client, run_id: &RunId, at: u64) -> Result<Shown, Failure> {
    let run: RunView = client.get(&path("runs", run_id, ""), &[("asOf", at.to_string())]).await?;
    let events: Vec<EventView> =
        client.list(&path("runs", run_id, "/ledger"), &[], usize::MAX).await?;
    Ok(Shown { run, next: events.into_iter().find(|event| event.seq > at) })
}

fn view_text(view: &time_travel::RunView) -> String {
    let dag = view.dag_id.as_ref().zip(view.dag_version);
    let failure = view.failure.as_ref();
    let at = view.last_seq.zip(view.last_recorded_at);
    let mut text = details(&[
        ("run", view.run_id.to_string()),
        ("status", view.status.map(|status| status.as_str().to_owned()).unwrap_or_default()),
        (
            "error",
            failure.map(|f| format!("{} in step {}", f.error_code, f.step_id)).unwrap_or_default(),
        ),
        ("dag", dag.map(|(id, version)| format!("{id} version {version}")).unwrap_or_default()),
        ("last event", at.map(|(seq, at)| format!("{seq}, at {}", time(at))).unwrap_or_default()),
        ("events", view.applied_events.to_string()),
        ("inputs", view.inputs.as_ref().map(ToString::to_string).unwrap_or_default()),
    ]);
    let mut steps = Table::new(&["STEP", "PHASE", "ATTEMPT#", "WORKER", "FENCING TOKEN"]);
    for step in &view.steps {
        let lease = step.lease.as_ref();
        steps.row([
            step.step_id.to_string(),
            phase(step.phase),
            step.attempt.to_string(),
            lease.map_or_else(|| "-".to_owned(), |lease| lease.worker_id.to_string()),
            lease.map_or_else(|| "-".to_owned(), |lease| lease.fencing_token.to_string()),
        ]);
    }
    text.push('\n');
    text.push_str(&steps.text("no steps"));
    if !view.spec_known {
        text.push_str(
            "its spec is not in these events: steps that were never queued are missing\n",
        );
    }
    let next = view.next.as_ref();
    let next = next.map(|next| (next.seq, next.event_type.as_str(), next.data.as_str()));
    format!("{text}\n{}", next_text(next))
}

fn next_text(next: Option<(u64, &str, &str)>) -> String {
    match next {
        Some((seq, event_type, data)) => format!("next: seq {seq} {event_type} {data}"),
        None => "next: nothing more happened to this run, as far as these events go".to_owned(),
    }
}

fn phase(phase: stella_domain::aggregate::StepPhase) -> String {
    use stella_domain::aggregate::StepPhase;
    match phase {
        StepPhase::Waiting => "waiting".to_owned(),
        StepPhase::Queued => "queued".to_owned(),
        StepPhase::Running => "running".to_owned(),
        StepPhase::BackingOff { not_before } => format!("backing off until {}", time(not_before)),
        StepPhase::Succeeded => "succeeded".to_owned(),
        StepPhase::Failed => "failed".to_owned(),
        StepPhase::Cancelled => "cancelled".to_owned(),
        StepPhase::Skipped => "skipped".to_owned(),
        StepPhase::AwaitingApproval => "awaiting approval".to_owned(),
        StepPhase::Expanded => "expanded".to_owned(),
    }
}

fn show_failure(error: ShowError) -> Failure {
    match error {
        ShowError::Ledger(error) => ledger_failure(error),
        ShowError::Verify(error) => verify_failure(error),
        ShowError::Undecodable(_) => Failure::not_verified(error.to_string()),
        ShowError::UnknownRun { .. }
        | ShowError::Empty
        | ShowError::SeqOutside { .. }
        | ShowError::NotYet { .. }
        | ShowError::BeganBefore { .. } => Failure::failed(error.to_string()),
    }
}
