//! `doctor`: the runbook's quick checks, each green or with what to do.

mod checks;

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use clap::Args;
use stella_api::types::{CheckReport, Health, HealthStatus, RunView, SloReport};
use stella_domain::{aggregate::RunStatus, time::Timestamp};

use self::checks::Check;
use super::{ApiArgs, Client, health::word};
use crate::{
    failure::Failure,
    output::{Format, Progress, Table, json, line},
};

/// How far back runs that failed are looked at, in hours.
const LOOK_BACK_H: u64 = 24;
/// Failed runs that are looked at, at most.
const FAILED_RUNS: usize = 500;

/// The runbook's quick checks: what is well, and what to do about what is not.
///
/// Exit code 3 when something does not work. Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch doctor
  stella orch doctor --thorough
  stella orch doctor -o json | jq '.[] | select(.status != \"green\")'")]
pub(crate) struct Doctor {
    /// Also compare the projections with a fresh fold of the whole ledger, which takes a while.
    #[arg(long)]
    thorough: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl Doctor {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let checks = self.checks().await;
        match self.api.output.format {
            Format::Json => json(&checks)?,
            Format::Table => line(table(&checks).trim_end())?,
        }
        let worst = checks.iter().map(|check| check.status).max();
        match worst.unwrap_or(HealthStatus::Green) {
            HealthStatus::Green | HealthStatus::Yellow => Ok(()),
            HealthStatus::Red => Err(Failure::unavailable("something does not work as it should")
                .try_this("do what stands beside what is red, above")),
        }
    }

    async fn checks(&self) -> Vec<Check> {
        let token_file = self.api.server.token_file();
        let mut found = vec![];
        found.extend(token_mode(token_file).map(|mode| checks::token_file(token_file, mode)));
        let client = match self.api.client() {
            Ok(client) => client,
            Err(failure) => return [found, vec![checks::server(Err(failure))]].concat(),
        };
        let health = client.get::<Health>("/admin/health", &[]).await;
        let health = match health {
            Ok(health) => health,
            Err(failure) => return [found, vec![checks::server(Err(failure))]].concat(),
        };
        found.push(checks::server(Ok(())));
        found.extend(health.components.iter().map(checks::component));
        let since = Timestamp::from_micros(now_micros() - LOOK_BACK_H as i64 * 3_600_000_000);
        found.push(match failed_since(&client, since).await {
            Ok(runs) => checks::failures(&runs, LOOK_BACK_H),
            Err(failure) => checks::unknown("failures", failure),
        });
        found.push(match client.get::<SloReport>("/admin/slo", &[]).await {
            Ok(report) => checks::objectives(&report),
            Err(failure) => checks::unknown("objectives", failure),
        });
        if self.thorough {
            let _progress = Progress::waiting("comparing the projections with the ledger");
            match client.post_long::<CheckReport>("/admin/projections:check").await {
                Ok(report) => found.push(checks::projections(&report)),
                Err(failure) => found.push(checks::unknown("read models", failure)),
            }
        }
        found
    }
}

/// Runs that did not end well, the newest of each kind.
async fn failed_since(client: &Client, since: Timestamp) -> Result<Vec<RunView>, Failure> {
    let mut runs = vec![];
    for status in [RunStatus::Failed, RunStatus::TimedOut] {
        let query = [("status", status.as_str().to_owned()), ("from", since.to_string())];
        runs.extend(client.list::<RunView>("/runs", &query, FAILED_RUNS).await?);
    }
    Ok(runs)
}

/// Who may do what with the token file; `None` where there is none, which the client complains of.
fn token_mode(file: &Path) -> Option<u32> {
    Some(std::fs::metadata(file).ok()?.permissions().mode() & 0o777)
}

/// A clock before 1970 looks at all runs.
fn now_micros() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| i64::try_from(now.as_micros()).ok()).unwrap_or(i64::MAX)
}

fn table(checks: &[Check]) -> String {
    let mut table = Table::new(&["CHECK", "STATUS", "FOUND"]);
    for check in checks {
        table.row([check.name.clone(), word(check.status).into(), check.found.clone()]);
    }
    let mut text = table.text("nothing was checked");
    let ill = checks.iter().filter(|check| !check.remedy.is_empty());
    let remedies: Vec<_> = ill.map(|check| format!("{}: {}\n", check.name, check.remedy)).collect();
    if !remedies.is_empty() {
        text += &format!("\nwhat to do:\n{}", remedies.concat());
    }
    text
}
