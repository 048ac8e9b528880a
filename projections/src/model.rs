//! The read models and the SQL that is the same for all of them.

use std::fmt;

/// A read model: one table of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// One row a run, by the seq of its `RunCreated`.
    Runs,
    /// One row a step that was ever queued, by the seq of its first `StepQueued`.
    Steps,
    /// One row a DAG, by its id.
    Dags,
    /// One row a version of a DAG, by the seq of its `DagVersionRegistered`.
    DagVersions,
    /// One row of counters a DAG, by its id.
    Tallies,
    /// One row of queue depths a DAG and plugin, by both.
    Queues,
}

/// Writes a batch of rows, given as one JSON array. SQLite renders an element of it back to the
/// very text it was given, because the text holds no white space.
macro_rules! upsert {
    ($table:literal, $key:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            "(key, row) SELECT ",
            $key,
            ", value FROM json_each(?) WHERE true ON CONFLICT(key) DO UPDATE SET row = excluded.row"
        )
    };
}

/// All rows in the order of their keys; the key is given as a text that sorts likewise.
macro_rules! select {
    ($table:literal, number) => {
        concat!("SELECT printf('%016d', key), row FROM ", $table, " ORDER BY key")
    };
    ($table:literal, text) => {
        concat!("SELECT key, row FROM ", $table, " ORDER BY key")
    };
}

impl Model {
    /// Every model, in the order of dumps and reports.
    pub const ALL: [Self; 6] =
        [Self::Runs, Self::Steps, Self::Dags, Self::DagVersions, Self::Tallies, Self::Queues];

    /// The model's table, which is also its name in reports.
    pub fn table(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Steps => "steps",
            Self::Dags => "dags",
            Self::DagVersions => "dag_versions",
            Self::Tallies => "tallies",
            Self::Queues => "queues",
        }
    }

    pub(crate) fn upsert_sql(self) -> &'static str {
        match self {
            Self::Runs => upsert!("runs", "value ->> 'createdSeq'"),
            Self::Steps => upsert!("steps", "value ->> 'seq'"),
            Self::Dags => upsert!("dags", "value ->> 'dagId'"),
            Self::DagVersions => upsert!("dag_versions", "value ->> 'seq'"),
            Self::Tallies => upsert!("tallies", "value ->> 'dagId'"),
            // Neither name can hold a slash.
            Self::Queues => {
                upsert!("queues", "(value ->> 'dagId') || '/' || (value ->> 'plugin')")
            }
        }
    }

    pub(crate) fn select_sql(self) -> &'static str {
        match self {
            Self::Runs => select!("runs", number),
            Self::Steps => select!("steps", number),
            Self::Dags => select!("dags", text),
            Self::DagVersions => select!("dag_versions", number),
            Self::Tallies => select!("tallies", text),
            Self::Queues => select!("queues", text),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.table())
    }
}
