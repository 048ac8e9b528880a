//! `projections`: the read models.

mod check;
mod rebuild;
mod status;

use clap::Subcommand;

use crate::failure::Failure;

/// The read models, which are folded from the ledger.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch projections check
  stella orch projections rebuild --online")]
pub(crate) enum Projections {
    /// Fold the whole ledger afresh.
    Rebuild(rebuild::Rebuild),
    /// Compare what is in use with a fresh fold.
    Check(check::Check),
    /// How far they are.
    Status(status::Status),
}

impl Projections {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Rebuild(command) => command.run().await,
            Self::Check(command) => command.run().await,
            Self::Status(command) => command.run().await,
        }
    }
}
