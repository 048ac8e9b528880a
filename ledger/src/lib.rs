//! The record: port traits, their MongoDB and SQLite implementations, and the writer.
//!
//! Nothing but the [`writer`] appends; everything else reads committed events by seq.

pub mod append_times;
pub mod checkpoints;
pub mod clock;
pub mod conformance;
pub mod copy;
pub mod erasure;
pub mod feed;
pub mod fsck;
pub mod mongo;
pub mod name;
mod own_stream;
mod page;
pub mod port;
pub mod recorded;
pub mod snapshots;
mod sound;
pub mod sqlite;
pub mod uri;
pub mod writer;
