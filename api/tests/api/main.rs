//! The HTTP API through real HTTP on loopback, against a whole node on a SQLite ledger.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod answers;
mod approvals;
mod bad_input;
mod checkpoints;
mod dags;
mod documentation;
mod door;
mod erasure;
mod ledger;
mod metrics;
mod operations;
mod queue;
mod reruns;
mod runs;
mod schedules;
mod stream;
mod support;
mod telemetry;
mod workers;
