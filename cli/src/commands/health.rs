//! `health`: how well the server is.

use clap::Args;
use stella_api::types::{self, HealthStatus};

use super::ApiArgs;
use crate::{failure::Failure, output::Table};

/// How well the server is; exit code 3 when it does not work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch health
  stella orch health -o json")]
pub(crate) struct Health {
    #[command(flatten)]
    api: ApiArgs,
}

impl Health {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let health: types::Health = self.api.client()?.get("/admin/health", &[]).await?;
        self.api.output.print(&health, table)?;
        match health.status {
            HealthStatus::Green | HealthStatus::Yellow => Ok(()),
            HealthStatus::Red => Err(Failure::unavailable("the server does not work as it should")
                .try_this("see the red components above")),
        }
    }
}

fn table(health: &types::Health) -> String {
    let mut table = Table::new(&["COMPONENT", "STATUS", "FOUND"]);
    for component in &health.components {
        table.row([
            component.name.clone(),
            word(component.status).into(),
            component.message.clone(),
        ]);
    }
    format!("{}\n{}", word(health.status), table.text("no components"))
}

/// How tables write it.
pub(super) fn word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Green => "green",
        HealthStatus::Yellow => "yellow",
        HealthStatus::Red => "red",
    }
}
