//! A run as an aggregate: which steps wait, are queued, run or are done, and when the run ends.

mod decide;
mod standing;
mod state;

pub use self::{decide::*, standing::*, state::*};
