//! `slo`: how the objectives stand.

use clap::Args;
use stella_api::types::{ObjectiveView, SloReport};

use super::{ApiArgs, health::word};
use crate::{
    failure::Failure,
    output::{Table, duration},
};

/// How the objectives for runs stand: error budgets, and how fast they are spent.
///
/// The targets are those that the server was started with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch slo
  stella orch slo -o json | jq '.objectives[].budgetLeft'")]
pub(crate) struct Slo {
    #[command(flatten)]
    api: ApiArgs,
}

impl Slo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let report: SloReport = self.api.client()?.get("/admin/slo", &[]).await?;
        self.api.output.print(&report, text)
    }
}

fn text(report: &SloReport) -> String {
    let mut objectives = Table::new(&["OBJECTIVE", "STATUS", "TARGET#", "BUDGET#"]);
    let mut windows = Table::new(&["OBJECTIVE", "WINDOW#", "RUNS#", "MISSED#", "BURN RATE#"]);
    for objective in &report.objectives {
        objectives.row([
            name(report, objective),
            word(objective.status).to_owned(),
            format!("{} %", objective.target_percent),
            budget_left(objective.budget_left),
        ]);
        for window in &objective.windows {
            windows.row([
                objective.name.clone(),
                hours(window.hours),
                window.runs.to_string(),
                window.missed.to_string(),
                format!("{:.2}", window.burn_rate),
            ]);
        }
    }
    let (days, objectives) = (report.period_days, objectives.text("no objectives"));
    format!("budgets of {days} days\n{objectives}\n{}", windows.text(""))
}

/// A part of an error budget; a budget that is spent may be so several times.
pub(crate) fn budget_left(left: f64) -> String {
    if left > 0.0 {
        format!("{:.1} % left", left * 100.0)
    } else {
        format!("none left, spent {:.1} times", 1.0 - left)
    }
}

fn name(report: &SloReport, objective: &ObjectiveView) -> String {
    match objective.name.as_str() {
        "duration" => format!("ends within {}", duration(report.duration_ms)),
        "success" => "ends well".to_owned(),
        other => other.to_owned(),
    }
}

fn hours(hours: u64) -> String {
    if hours > 24 && hours.is_multiple_of(24) {
        format!("{} d", hours / 24)
    } else {
        format!("{hours} h")
    }
}
