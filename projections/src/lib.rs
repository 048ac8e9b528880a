//! The read side: read models in SQLite, one file per tenant, folded from the ledger and from
//! nothing else. They can be thrown away and rebuilt, and come out byte for byte the same.
//!
//! A commit is folded in memory ([`fold`]), the outcome of a batch of commits is written together
//! with the position in one transaction ([`store`]), so that every event has its effect exactly
//! once. Readers see whole batches only.
//!
//! *Invariants:* nothing here writes the ledger; nothing derived from wall time is stored; a file
//! that does not fit its ledger is reported, never silently rebuilt.

mod check;
mod digest;
mod digests;
mod dump;
mod error;
mod files;
mod fold;
mod follow;
mod model;
mod projections;
mod queries;
mod rebuild;
mod rows;
mod store;
mod sweep;
mod tenant;
mod tracked;

pub use self::{
    check::{ModelReport, Report, RowDifference},
    digest::Digest,
    digests::Divergence,
    error::ProjectionError,
    model::Model,
    projections::{Position, Projections},
    queries::{
        Metrics, OUTCOMES_LIMIT, Outcomes, Page, PageRequest, QueueDepth, QueueReport, RunFilter,
        RunningPlugin, WaitingFilter,
    },
    rebuild::{Progress, Rebuilt},
    rows::{
        AttemptLog, BackfillRow, ControlRow, DagRow, DagVersionRow, DrainRow, FireRow, LastFireRow,
        LimitRow, Mark, MissRow, QueueRow, RunRow, ScheduleRow, StepRow, StepState, TallyRow,
    },
};

/// Version of what is folded into which rows. A file of another version is rebuilt when it is
/// opened; digests are only ever compared within one version. Raise it with every change of a row,
/// a table or the fold.
pub const PROJECTION_VERSION: u32 = 8;

/// Events between two recorded digests: the first differing event of two folds lies within one
/// such interval.
pub const DIGEST_INTERVAL: u64 = 4_096;
