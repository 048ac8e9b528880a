//! `projections status`.

use clap::Args;
use stella_api::types::ProjectionStatus;

use crate::{commands::ApiArgs, failure::Failure, output::details};

/// How far the read models are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch projections status
  stella orch projections status -o json | jq .lag")]
pub(crate) struct Status {
    #[command(flatten)]
    api: ApiArgs,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let status: ProjectionStatus = self.api.client()?.get("/admin/projections", &[]).await?;
        self.api.output.print(&status, |status| {
            details(&[
                ("events applied", status.position.to_string()),
                ("events behind", status.lag.to_string()),
                ("last hash", status.hash.clone()),
                ("version", status.version.to_string()),
            ])
        })
    }
}
