//! The aggregates: what may happen next, given everything recorded so far.

mod control;
mod dag;
mod erasure;
mod ledger;
mod run;
mod schedule;

pub use self::{control::*, dag::*, erasure::*, ledger::*, run::*, schedule::*};

/// Version of what [`Ledger`], [`Dag`], [`Schedule`] and [`Control`] fold to, and of how that is written. Raised
/// with every change of either: folds that are kept beside a ledger are then made anew.
pub const FOLD_VERSION: u32 = 2;

/// A consistency boundary: its events stand in one stream, and one decision sees them all.
///
/// Pure: time and fresh identifiers arrive inside the command.
pub trait Aggregate: Default {
    /// What can be asked of it, imperative.
    type Command;
    /// What can have happened to it, past tense.
    type Event;
    /// Why a command is refused.
    type Error: std::error::Error;

    /// What to record, given everything recorded so far. An empty answer means that what was asked
    /// for is recorded already.
    ///
    /// # Errors
    /// The reason why the command is refused; nothing is to be recorded then.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// The state after `event`.
    fn evolve(&mut self, event: &Self::Event);
}
