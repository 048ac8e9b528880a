//! Stories: what the orchestrator promises, against real processes, real servers and real kills.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod append_only;
mod architecture;
mod artifacts;
mod backup;
mod bad_input;
mod budget;
mod bundles;
mod checkpoints;
mod crash;
mod erasure;
mod four_writers;
mod fsck;
mod health;
mod main_path;
mod outage;
mod plugins;
mod queue;
mod schedules;
mod steps;
mod stream;
mod telemetry;
mod tours;
mod unreadable;
mod unsound_storage;
mod versions;
mod witness;
mod workers;
