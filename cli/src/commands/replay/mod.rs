//! `replay`: looking at the past.

mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// Look at the past.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch replay show 0RQ9CWTXP9BPJR3KTYEG0MB9FF --at 1207")]
pub(crate) enum Replay {
    /// A run as it stood at a point of the ledger, and the event that came next.
    Show(show::Show),
}

impl Replay {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(command) => command.run().await,
        }
    }
}
