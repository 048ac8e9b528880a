//! `worker`: working off steps in a process of one's own, and who does.

mod list;
mod start;
mod warm;

use clap::Subcommand;

use crate::failure::Failure;

/// Work off the steps of a server in a process of its own; see who does.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch worker start --name night-1 --concurrency 4
  stella orch worker list")]
pub(crate) enum Worker {
    /// Work until SIGTERM or SIGINT.
    Start(start::Start),
    /// The workers that there are.
    List(list::List),
    /// Load plugin bundles again.
    Warm(warm::Warm),
}

impl Worker {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Start(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Warm(command) => command.run().await,
        }
    }
}
