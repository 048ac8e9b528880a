//! A run as an aggregate: which steps wait, are queued, run or are done, and when the run ends.

mod decide;
mod state;

pub use self::{decide::*, state::*};
