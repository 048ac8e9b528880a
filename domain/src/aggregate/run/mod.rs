//! A run as an aggregate: which steps wait, are queued, run or are done, and when the run ends.

mod advance;
mod approval;
mod command;
mod decide;
mod fold;
mod items;
mod refusal;
mod render;
mod standing;
mod start;
mod state;

pub use self::{command::*, items::*, refusal::*, standing::*, state::*};
