//! What stories share: servers that can be killed, databases, plugin bundles, clients, and the
//! properties that every ledger has to have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A harness fails its test.

pub mod acknowledged;
pub mod history;
pub mod mongo;
pub mod sources;
