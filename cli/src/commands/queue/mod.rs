//! `queue`: what waits for workers and why, and what is held back.

mod control;
mod list;
mod status;

pub(crate) use self::control::print_control;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// What waits for workers and why; hold it back, drain it, limit it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  stella orch queue
  stella orch queue -o json
  stella orch queue list
  stella orch queue drain --reason 'before the upgrade'")]
pub(crate) struct Queue {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    status: status::Status,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Steps that wait, oldest first, each with the reason why.
    List(list::List),
    /// Why the steps of a run wait.
    Why(list::Why),
    /// Lease no step, or none of a plugin.
    Pause(control::Pause),
    /// Lease steps again; end a drain.
    Resume(control::Resume),
    /// Admit no run until those that there are have ended.
    Drain(control::Drain),
    /// Limit how many steps run at once.
    Limit(control::Limit),
}

impl Queue {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            None => self.status.run().await,
            Some(Command::List(command)) => command.run().await,
            Some(Command::Why(command)) => command.run().await,
            Some(Command::Pause(command)) => command.run().await,
            Some(Command::Resume(command)) => command.run().await,
            Some(Command::Drain(command)) => command.run().await,
            Some(Command::Limit(command)) => command.run().await,
        }
    }
}
