//! When a failed step is tried again.

/// How often a failed step is tried again, and how long to wait before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Retries after the first attempt, 0 to 100.
    pub max: u32,
    /// Wait before the first retry, in milliseconds.
    pub backoff_ms: u64,
    /// Longest wait, in milliseconds.
    pub max_backoff_ms: u64,
    /// What each wait is multiplied by to give the next, 1 to 10.
    pub factor: f64,
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
}

impl Default for RetryPolicy {
    /// No retry; the waits are those of a spec that says only how many.
    fn default() -> Self {
        Self { max: 0, backoff_ms: 1000, max_backoff_ms: 300_000, factor: 2.0 }
    }
}
