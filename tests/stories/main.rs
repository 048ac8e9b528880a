//! Stories: what the orchestrator promises, against real processes, real servers and real kills.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod architecture;
mod four_writers;
