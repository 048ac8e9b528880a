//! `dag validate`.

use std::path::PathBuf;

use clap::Args;
use stella_api::types::ValidDag;

use super::media_type;
use crate::{commands::ApiArgs, failure::Failure, input};

/// Say everything that is wrong with a spec, each with its place, and register nothing. The server
/// knows which plugins there are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stella orch dag validate nightly.yaml
  stella orch dag validate - -o json < nightly.yaml")]
pub(crate) struct Validate {
    /// The spec in YAML or JSON; - is stdin.
    file: PathBuf,
    #[command(flatten)]
    api: ApiArgs,
}

impl Validate {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.api.client()?;
        let spec = input::text(&self.file)?;
        let valid: ValidDag = client
            .post_text("/dags:validate", &[], media_type(&self.file), spec)
            .await
            .map_err(|failure| failure.in_file(&self.file))?;
        self.api.output.print(&valid, |dag| {
            format!("{} is valid: {} steps, {}", dag.dag_id, dag.steps, dag.digest)
        })
    }
}
