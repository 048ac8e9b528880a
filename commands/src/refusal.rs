//! Why a command is refused. A refusal has changed nothing.

use stella_domain::{
    aggregate::{ControlRefusal, DagRefusal, LedgerRefusal, RunRefusal, ScheduleRefusal},
    ids::{DagId, ScheduleId},
};

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// By the run.
    #[error(transparent)]
    Run(RunRefusal),
    /// By the DAG.
    #[error("DAG {0}: {1}")]
    Dag(DagId, DagRefusal),
    /// By what operators hold back.
    #[error(transparent)]
    Control(ControlRefusal),
    /// By the schedule.
    #[error("schedule {0}: {1}")]
    Schedule(ScheduleId, ScheduleRefusal),
    /// By the ledger.
    #[error(transparent)]
    Ledger(LedgerRefusal),
    /// An event would be larger than the ledger's format allows.
    #[error(
        "the {part} of {event_type} would be {bytes} bytes in canonical form, {limit} are allowed: \
         pass large data by reference"
    )]
    TooLarge {
        /// The event's type.
        event_type: &'static str,
        /// `data` or `payload`.
        part: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The stream has moved since the events were decided.
    #[error("stream {stream} stands at version {version}, the decision was made at {expected}")]
    Conflict {
        /// The stream.
        stream: String,
        /// The version decided on.
        expected: u64,
        /// The version it has.
        version: u64,
    },
}
