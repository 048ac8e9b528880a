//! When a failed step is tried again.

use crate::{
    event::ErrorCode,
    ids::{RunId, StepId},
};

const JITTER_CONTEXT: &str = "stella-orchestrator 2026-11 retry jitter v1";

/// How often a failed step is tried again, and how long to wait before.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Retries after the first attempt, 0 to 100.
    pub max: u32,
    /// Wait before the first retry, in milliseconds.
    pub backoff_ms: u64,
    /// Longest wait, in milliseconds.
    pub max_backoff_ms: u64,
    /// What each wait is multiplied by to give the next, 1 to 10.
    pub factor: f64,
    /// Errors that another attempt would not mend.
    pub non_retryable: Vec<ErrorCode>,
    /// How long all attempts may take together, from when the first was queued, in milliseconds.
    pub total_timeout_ms: Option<u64>,
}

impl RetryPolicy {
    /// Most retries that a spec may ask for.
    pub const LARGEST_MAX: u32 = 100;

    /// Milliseconds to wait after `failed_attempts` failures (from 1), without jitter.
    ///
    /// Plain multiplication, which IEEE 754 fixes to the bit, unlike `powi`: every machine that
    /// decides gets the same wait.
    pub fn delay_ms(&self, failed_attempts: u32) -> u64 {
        let cap = self.max_backoff_ms as f64;
        let mut delay = self.backoff_ms as f64;
        for _ in 1..failed_attempts.min(Self::LARGEST_MAX + 1) {
            if delay >= cap {
                break;
            }
            delay *= self.factor;
        }
        delay.min(cap) as u64
    }

    /// The wait before attempt `attempt` of a step, shortened by up to half, so that steps which
    /// failed together do not all come back together. Never longer than the author asked for.
    ///
    /// By a hash of what names the attempt and not by chance, and in integers: whoever decides
    /// again after another writer was first, or on another machine, gets the same wait.
    pub fn wait_ms(
        &self,
        failed_attempts: u32,
        run_id: &RunId,
        step_id: &StepId,
        attempt: u32,
    ) -> u64 {
        let delay_ms = self.delay_ms(failed_attempts);
        // None of the three can hold a line feed.
        let name = format!("{run_id}\n{step_id}\n{attempt}");
        let hash = blake3::derive_key(JITTER_CONTEXT, name.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash;
        let spread = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        delay_ms - spread % (delay_ms / 2 + 1)
    }
}

impl Default for RetryPolicy {
    /// No retry; the waits are those of a spec that says only how many.
    fn default() -> Self {
        Self {
            max: 0,
            backoff_ms: 1000,
            max_backoff_ms: 300_000,
            factor: 2.0,
            non_retryable: vec![],
            total_timeout_ms: None,
        }
    }
}
