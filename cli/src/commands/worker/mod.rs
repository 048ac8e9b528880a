//! `worker`: working off steps in a process of one's own.

mod start;

use clap::Subcommand;

use crate::failure::Failure;

/// Work off the steps of a server in a process of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// Work until SIGTERM or SIGINT.
    Start(start::Start),
}

impl Worker {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Start(command) => command.run().await,
        }
    }
}
