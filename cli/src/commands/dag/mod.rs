//! `dag`: registering and looking up DAGs.

mod apply;
mod get;
mod list;
mod validate;

use std::path::Path;

use clap::Subcommand;

use crate::failure::Failure;

/// Register and look up DAGs.
#[derive(Debug, Subcommand)]
pub(crate) enum Dag {
    /// Register a spec: a new version, or the one that holds it already.
    Apply(apply::Apply),
    /// Say everything that is wrong with a spec, and register nothing.
    Validate(validate::Validate),
    /// All DAGs.
    List(list::List),
    /// A version of a DAG.
    Get(get::Get),
}

impl Dag {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Apply(command) => command.run().await,
            Self::Validate(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Get(command) => command.run().await,
        }
    }
}

/// The media type to send a spec as. Stdin is sent as YAML, which JSON is a part of.
fn media_type(path: &Path) -> &'static str {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    if is_json { "application/json" } else { "application/yaml" }
}
