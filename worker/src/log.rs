//! What a plugin writes to stderr, bounded.

use std::collections::VecDeque;

/// Bytes kept from the beginning, and again from the end: 1 MiB in all.
const HALF_BYTES: usize = 512 * 1024;

/// The log of one execution: its first and its last 512 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepLog {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl StepLog {
    /// Add what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = HALF_BYTES - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(HALF_BYTES);
        self.tail.drain(..over);
        self.dropped += over as u64;
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Bytes left out between the beginning and the end.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped
    }

    /// The log as bytes, with a line that says so where something was left out.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        if self.dropped > 0 {
            let line = format!("\n[{} bytes left out here]\n", self.dropped);
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.extend(self.tail);
        bytes
    }

    /// The last line that is not blank, for an error message; at most 300 characters.
    pub fn last_line(&self) -> Option<String> {
        let (a, b) = self.tail.as_slices();
        let end = if self.tail.is_empty() { self.head.clone() } else { [a, b].concat() };
        let end = &end[end.len().saturating_sub(4096)..];
        let text = String::from_utf8_lossy(end);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().take(300).collect())
    }
}
