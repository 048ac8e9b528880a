//! `run steps`.

use clap::Args;
use stella_api::types::StepView;
use stella_domain::ids::RunId;

use crate::{
    client::path,
    commands::ApiArgs,
    failure::Failure,
    output::{Table, duration, time_or_dash},
};

/// A run's steps that were ever queued, in that order; `-o json` shows what they gave.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch run steps 0RQ9CWTXP9BPJR3KTYEG0MB9FF
  stella orch run steps 0RQ9CWTXP9BPJR3KTYEG0MB9FF -o json | jq '.[] | .outputs'")]
pub(crate) struct Steps {
    /// The run.
    run_id: RunId,
    #[command(flatten)]
    api: ApiArgs,
}

impl Steps {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let steps: Vec<StepView> =
            self.api.client()?.list(&path("runs", &self.run_id, "/steps"), &[], usize::MAX).await?;
        self.api.output.print(&steps, |steps| table(steps))
    }
}

fn table(steps: &[StepView]) -> String {
    let mut table = Table::new(&[
        "STEP", "PHASE", "PLUGIN", "VERSION", "ATTEMPT#", "STARTED", "TOOK#", "ERROR",
    ]);
    for step in steps {
        let took = step.started_at.zip(step.ended_at);
        let decided = step.decided_by.as_ref().map(|actor| format!("by {actor}"));
        let code = step.error_code.as_ref().map(ToString::to_string);
        let message = step.message.clone().filter(|message| !message.is_empty());
        let said = [code, decided, message];
        table.row([
            step.step_id.to_string(),
            step.phase.as_str().to_owned(),
            step.plugin.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            step.plugin_version.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            step.attempt.to_string(),
            time_or_dash(step.started_at),
            took.map_or_else(|| "-".to_owned(), |(start, end)| duration(end.ms_since(start))),
            said.into_iter().flatten().collect::<Vec<_>>().join(": "),
        ]);
    }
    table.text("no step was queued yet")
}
