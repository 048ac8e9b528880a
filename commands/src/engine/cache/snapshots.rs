//! Folds of streams that never end: taken up when they are read, and kept when much has come since.

use std::collections::HashMap;

use stella_domain::{
    aggregate::{Control, Dag, Ledger, Schedule},
    hash::Hash32,
    ids::StreamId,
};
use stella_ledger::{
    recorded::Recorded,
    snapshots::{SNAPSHOT_EVERY, Snapshot, never_ends},
};

use super::{CachedSchedule, TenantCache};

/// What a stream that never ends folds to.
pub enum Fold {
    /// `dag/<dagId>`.
    Dag(Dag),
    /// `schedule/<scheduleId>`.
    Schedule(Schedule),
    /// `control/<tenant>`.
    Control(Control),
    /// `ledger/<tenant>`.
    Ledger(Ledger),
}

impl Fold {
    /// As a snapshot spells it.
    pub(in crate::engine) fn parse(stream: &StreamId, state: &str) -> Option<Self> {
        match stream {
            StreamId::Dag(_) => serde_json::from_str(state).map(Self::Dag).ok(),
            StreamId::Schedule(_) => serde_json::from_str(state).map(Self::Schedule).ok(),
            StreamId::Control(_) => serde_json::from_str(state).map(Self::Control).ok(),
            StreamId::Ledger(_) => serde_json::from_str(state).map(Self::Ledger).ok(),
            StreamId::Run(_) | StreamId::Plugin(_) => None,
        }
    }
}

/// Where the streams that never end stop in `commits`, which are in order: version and hash of the
/// last event of each.
pub(in crate::engine) fn ends(commits: &[Recorded]) -> HashMap<StreamId, (u64, Hash32)> {
    let of_long_ones = commits.iter().filter(|recorded| never_ends(&recorded.commit.stream));
    of_long_ones.map(|recorded| (recorded.commit.stream.clone(), end(recorded))).collect()
}

/// Version and hash of a commit's last event.
pub(in crate::engine) fn end(recorded: &Recorded) -> (u64, Hash32) {
    let commit = &recorded.commit;
    (commit.stream_version + commit.events.len() as u64 - 1, commit.head().hash)
}

impl TenantCache {
    /// Begin with these folds.
    pub(super) fn take_up(&mut self, folds: Vec<(StreamId, u64, Fold)>) {
        for (stream, version, fold) in folds {
            match (&stream, fold) {
                (StreamId::Dag(id), Fold::Dag(dag)) => {
                    self.dags.insert(id.clone(), dag);
                }
                (StreamId::Schedule(id), Fold::Schedule(schedule)) => {
                    let cached = CachedSchedule { schedule, staged: 0 };
                    self.schedules.insert(id.clone(), cached);
                }
                (StreamId::Control(_), Fold::Control(control)) => {
                    self.control = Some(control.into());
                }
                (StreamId::Ledger(_), Fold::Ledger(ledger)) => self.ledger = Some(ledger),
                // It was parsed as what the stream is.
                (_, Fold::Dag(_) | Fold::Schedule(_) | Fold::Control(_) | Fold::Ledger(_)) => {
                    continue;
                }
            }
            self.snapshots.insert(stream, version);
        }
    }

    /// A snapshot of the stream, of which the ledger has all up to here, if it is time for one, and
    /// nothing further is staged.
    pub(in crate::engine) fn snapshot(
        &mut self,
        stream: &StreamId,
        (version, hash): (u64, Hash32),
    ) -> Option<Snapshot> {
        let newest = self.snapshots.get(stream).copied().unwrap_or_default();
        if version < newest + SNAPSHOT_EVERY || self.version(stream) != version {
            return None;
        }
        let state = match stream {
            StreamId::Dag(id) => serde_json::to_string(self.dags.get(id)?),
            StreamId::Schedule(id) => serde_json::to_string(self.schedule(id)?),
            StreamId::Control(_) => serde_json::to_string(self.control.as_deref()?),
            StreamId::Ledger(_) => serde_json::to_string(self.ledger.as_ref()?),
            StreamId::Run(_) | StreamId::Plugin(_) => return None,
        };
        self.snapshots.insert(stream.clone(), version);
        Some(Snapshot { version, hash, state: state.ok()? })
    }
}
