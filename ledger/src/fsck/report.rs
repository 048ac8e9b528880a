//! What was found.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::port::Finding;

/// Problems that are listed; all are counted.
pub const LISTED: usize = 100;

/// Something stored that is not as it was recorded or signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable code, such as `EVENTS_MISSING`.
    pub code: &'static str,
    /// The first seq concerned, where there is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// What is stored of a ledger, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its name, by its first commit.
    pub ledger: Option<String>,
    /// Events read.
    pub events: u64,
    /// Commits read.
    pub commits: u64,
    /// Streams whose versions were looked at.
    pub streams: u64,
    /// Whole tiles compared with the events.
    pub tiles: u64,
    /// Checkpoints compared with the events.
    pub checkpoints: u64,
    /// What weakens the storage's guarantees.
    pub findings: Vec<Finding>,
    /// The first [`LISTED`] problems.
    pub problems: Vec<Problem>,
    /// How many there are of each code.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Whether nothing contradicts what was recorded and signed, and the storage takes writes.
    pub fn is_sound(&self) -> bool {
        self.counts.is_empty() && self.findings.iter().all(|finding| !finding.blocks_writes)
    }

    pub(super) fn add(&mut self, code: &'static str, seq: Option<u64>, message: impl Into<String>) {
        *self.counts.entry(code).or_default() += 1;
        if self.problems.len() < LISTED {
            self.problems.push(Problem { code, seq, message: message.into() });
        }
    }
}
