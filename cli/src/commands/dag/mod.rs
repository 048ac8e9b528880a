//! `dag`: registering and looking up DAGs, and which version runs start with.

mod apply;
mod change;
mod get;
mod list;
mod validate;
mod versions;

use std::path::Path;

use clap::Subcommand;

use crate::failure::Failure;

/// Register and look up DAGs, and say which version runs start with.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch dag apply nightly.yaml
  stella orch dag list
  stella orch dag rollback nightly --reason 'version 3 fails on empty inputs'")]
pub(crate) enum Dag {
    /// Register a spec: a new version, or the one that holds it already.
    Apply(apply::Apply),
    /// Say everything that is wrong with a spec, and register nothing.
    Validate(validate::Validate),
    /// All DAGs.
    List(list::List),
    /// A version of a DAG.
    Get(get::Get),
    /// The versions of a DAG, newest first.
    Versions(versions::Versions),
    /// Let runs start with another version.
    Activate(change::Activate),
    /// Let no run start with a version.
    Disable(change::Disable),
    /// Let runs start with a disabled version again.
    Enable(change::Enable),
    /// Let runs start with an older version again.
    Rollback(change::Rollback),
    /// Start nothing of a DAG.
    Pause(change::Pause),
    /// Let a paused DAG go on.
    Resume(change::Resume),
    /// Cancel the runs of a disabled version.
    Clear(change::Clear),
}

impl Dag {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Apply(command) => command.run().await,
            Self::Validate(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Get(command) => command.run().await,
            Self::Versions(command) => command.run().await,
            Self::Activate(command) => command.run().await,
            Self::Disable(command) => command.run().await,
            Self::Enable(command) => command.run().await,
            Self::Rollback(command) => command.run().await,
            Self::Pause(command) => command.run().await,
            Self::Resume(command) => command.run().await,
            Self::Clear(command) => command.run().await,
        }
    }
}

/// The media type to send a spec as. Stdin is sent as YAML, which JSON is a part of.
fn media_type(path: &Path) -> &'static str {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    if is_json { "application/json" } else { "application/yaml" }
}
