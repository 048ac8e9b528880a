//! Each commit by itself, and after the one before it.

use std::sync::Arc;

use stella_domain::{
    chain::{Commit, Head},
    ids::LedgerId,
};

use super::{Report, scan::Stored};

/// What has been read so far.
pub(super) struct Chain {
    /// Where the next commit belongs; `None` after one that could not be read.
    head: Option<Head>,
    ledger: Option<Arc<LedgerId>>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: Some(Head::EMPTY), ledger: None }
    }
}

impl Chain {
    /// Check what comes next; answers the commit, where it can be read.
    pub(super) fn take(&mut self, stored: Stored, report: &mut Report) -> Option<Commit> {
        let Stored { id, commit, misplaced } = stored;
        let Some(commit) = commit else {
            let reason = misplaced.unwrap_or_default();
            let seq = self.head.map(|head| head.next_seq);
            report.add("COMMIT_UNREADABLE", seq, format!("the stored commit {id}: {reason}"));
            self.head = None;
            return None;
        };
        if let Some(reason) = misplaced {
            let message = format!("the stored commit {id}: {reason}");
            report.add("COMMIT_MISPLACED", Some(commit.seq), message);
        }
        if let Err(error) = commit.verify() {
            let message = format!("{error} (data, payload, or what the commit says of them all)");
            report.add("CONTENT_CHANGED", Some(commit.seq), message);
        }
        self.name(&commit, report);
        if let Some(head) = self.head {
            follows(&head, &commit, report);
        }
        self.head = Some(commit.head());
        Some(commit)
    }

    fn name(&mut self, commit: &Commit, report: &mut Report) {
        let first = self.ledger.get_or_insert_with(|| Arc::clone(&commit.ledger));
        if **first != *commit.ledger {
            let message = format!("it is of the ledger {}, those before of {first}", commit.ledger);
            report.add("OTHER_LEDGER", Some(commit.seq), message);
        }
    }
}

fn follows(head: &Head, commit: &Commit, report: &mut Report) {
    let (seq, expected) = (commit.seq, head.next_seq);
    if seq > expected {
        let message = match seq - expected {
            1 => format!("the event {expected} is missing"),
            _ => format!("the events {expected} to {} are missing", seq - 1),
        };
        report.add("EVENTS_MISSING", Some(expected), message);
    } else if seq < expected {
        let message = format!("a commit begins at {seq}, within those before, up to {expected}");
        report.add("EVENTS_TWICE", Some(seq), message);
    } else if commit.prev != head.hash {
        let message = "its `prev` is not the hash of the event before it";
        report.add("CHAIN_BROKEN", Some(seq), message);
    }
    if commit.recorded_at < head.recorded_at {
        let message = "its `recordedAt` lies before that of the event before it";
        report.add("TIME_BACKWARDS", Some(seq), message);
    }
}
