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
  stella orch dag apply nightly.yaml
  stella orch dag apply dags/a.yaml dags/b.json
  cat nightly.yaml | stella orch dag apply -")]
pub(crate) struct Apply {
    /// Specs in YAML or JSON; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

impl Apply {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        for file in &self.files {
            let spec = input::text(file)?;
            let registered: RegisteredDag = client
                .post_text("/dags", media_type(file), spec)
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
