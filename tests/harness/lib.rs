//! What stories share: servers that can be killed, databases, plugin bundles, clients, and the
//! properties that every ledger has to have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A harness fails its test.

pub mod acknowledged;
pub mod bundle;
pub mod client;
pub mod history;
pub mod load;
pub mod mongo;
pub mod server;
pub mod sources;
pub mod stella;
pub mod verifiers;
pub mod witness;
pub mod worker;

use std::time::{Duration, Instant};

/// Longest wait for a condition; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// Between two looks at a condition.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Look until there is something, at most [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let what = format!("{what} (at {})", std::panic::Location::caller());
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
