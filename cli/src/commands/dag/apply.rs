//! `dag apply`.

use std::path::PathBuf;

use clap::Args;
use stella_api::types::RegisteredDag;

use super::media_type;
use crate::{commands::ApiArgs, failure::Failure, input, output::line};

/// Register each spec: a new version, or the one that holds it already. Safe to repeat.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag apply nightly.yaml --reason 'reads the new source'
  stella orch dag apply dags/a.yaml dags/b.json
  cat nightly.yaml | stella orch dag apply -")]
pub(crate) struct Apply {
    /// Specs in YAML or JSON; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Why, for those who read the ledger.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl Apply {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let said = Some(self.reason).filter(|reason| !reason.is_empty());
        let query: Vec<_> = said.map(|reason| ("reason", reason)).into_iter().collect();
        for file in &self.files {
            let spec = input::text(file)?;
            let registered: RegisteredDag = client
                .post_text("/dags", &query, media_type(file), spec)
                .await
                .map_err(|failure| failure.in_file(file))?;
            self.api.output.print(&registered, |dag| {
                let what = if dag.created { "registered" } else { "known already" };
                format!("{} version {} {what}, {}", dag.dag_id, dag.version, dag.digest)
            })?;
        }
        if !self.api.output.is_json() && self.files.len() > 1 {
            line(format_args!("{} specs", self.files.len()))?;
        }
        Ok(())
    }
}
