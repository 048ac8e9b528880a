//! `schedule`: what fires when, and what became of it.

mod backfill;
mod control;
mod set;
mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// Start runs at set times; see what fired, what did not and why.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  stella orch schedule create nightly --dag report --cron '0 3 * * *' --time-zone Europe/Berlin
  stella orch schedule list
  stella orch schedule pause nightly --reason 'the source is being moved'")]
pub(crate) enum Schedule {
    /// Begin a schedule.
    Create(Box<set::Create>),
    /// Say what a schedule is from now on.
    Update(Box<set::Update>),
    /// All schedules.
    List(show::List),
    /// A schedule: its next fire times, its fires that are open.
    Get(show::Get),
    /// Fire now.
    Trigger(control::Trigger),
    /// Do not fire any more.
    Pause(control::Pause),
    /// Fire again.
    Resume(control::Resume),
    /// Start no run for fires that have none yet.
    Clear(control::Clear),
    /// End a schedule.
    Delete(control::Delete),
    /// Fire for times that are past.
    Backfill(backfill::Backfill),
    /// Start no more of a backfill.
    CancelBackfill(control::CancelBackfill),
    /// Let no schedule of this server fire.
    PauseAll(control::PauseAll),
    /// Let schedules fire again.
    ResumeAll(control::ResumeAll),
}

impl Schedule {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(command) => command.run().await,
            Self::Update(command) => command.run().await,
            Self::List(command) => command.run().await,
            Self::Get(command) => command.run().await,
            Self::Trigger(command) => command.run().await,
            Self::Pause(command) => command.run().await,
            Self::Resume(command) => command.run().await,
            Self::Clear(command) => command.run().await,
            Self::Delete(command) => command.run().await,
            Self::Backfill(command) => command.run().await,
            Self::CancelBackfill(command) => command.run().await,
            Self::PauseAll(command) => command.run().await,
            Self::ResumeAll(command) => command.run().await,
        }
    }
}
