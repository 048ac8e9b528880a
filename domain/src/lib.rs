//! The orchestrator's rules, pure: no clock, no randomness, no I/O, no async.
//!
//! [`aggregate`] decides what may happen, [`event`] says what did, [`chain`] gives each event its
//! place in the ledger; [`merkle`] and [`checkpoint`] prove that place to others. [`dag`] is what
//! authors write.

pub mod aggregate;
pub mod artifact;
pub mod chain;
pub mod checkpoint;
pub mod dag;
pub mod event;
pub mod hash;
pub mod ids;
pub mod json;
pub mod limits;
pub mod merkle;
pub mod open_work;
mod parsed;
pub mod plugin;
pub mod schedule;
pub mod seqs;
pub mod time;
pub mod witness;
