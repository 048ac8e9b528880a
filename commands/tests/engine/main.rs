//! The write side through its public surface: whole lives of runs, with workers that the test
//! plays and a clock that it turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod approvals;
mod dropped;
mod erasing;
mod holds;
mod leases;
mod life;
mod node;
mod put_back;
mod refusals;
mod reruns;
mod restart;
mod run_timeout;
mod run_tokens;
mod schedules;
mod shares;
mod snapshots;
mod steps;
mod two_writers;
