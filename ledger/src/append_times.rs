//! How long the storage takes for appends, for those who measure. Of the process, not of the ledger:
//! it begins at nothing with every start.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets, in microseconds, each inclusive; one more bucket takes what is above
/// the last.
pub const APPEND_BUCKETS_MICROS: [u64; 14] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = APPEND_BUCKETS_MICROS.len() + 1;

/// How long appends took so far.
#[derive(Debug, Default)]
pub struct AppendTimes {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
    failures: AtomicU64,
}

/// The same, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendTally {
    /// One count for each of [`APPEND_BUCKETS_MICROS`] and one for what is above; not cumulative.
    pub buckets: [u64; BUCKETS],
    /// All together, in microseconds.
    pub sum_micros: u64,
    /// Those that the storage did not take as a whole.
    pub failures: u64,
}

impl AppendTimes {
    /// An append took so long.
    pub(crate) fn took(&self, time: Duration, is_whole: bool) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = APPEND_BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_micros.fetch_add(micros, Relaxed);
        self.failures.fetch_add(u64::from(!is_whole), Relaxed);
    }

    /// What was counted so far.
    pub fn tally(&self) -> AppendTally {
        AppendTally {
            buckets: array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_micros: self.sum_micros.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_stands_in_its_bucket() {
        let times = AppendTimes::default();
        for (micros, is_whole) in
            [(500, true), (501, true), (10_000_000, true), (10_000_001, false)]
        {
            times.took(Duration::from_micros(micros), is_whole);
        }
        let tally = times.tally();
        let filled: Vec<_> = (0..BUCKETS).filter(|i| tally.buckets[*i] > 0).collect();
        assert_eq!(filled, [0, 1, 13, 14]);
        assert_eq!((tally.sum_micros, tally.failures), (20_001_002, 1));
    }
}
