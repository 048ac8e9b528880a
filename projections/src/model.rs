//! The read models and the SQL that is the same for all of them.

use std::fmt;

/// A read model: one table of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// One row a run, by the seq of its `RunCreated`.
    Runs,
    /// One row a step that was ever queued, by the seq of its first event.
    Steps,
    /// One row a DAG, by its id.
    Dags,
    /// One row a version of a DAG, by the seq of its `DagVersionRegistered`.
    DagVersions,
    /// One row of counters a DAG, by its id.
    Tallies,
    /// One row of queue depths a DAG and plugin, by both.
    Queues,
    /// One row of what operators hold back, by tenant.
    Controls,
    /// One row a schedule, by its id.
    Schedules,
}

/// A value bound to a statement. Of one kind they are in the order that SQLite has them in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    #[default]
    Null,
    Int(i64),
    Text(String),
}

/// The columns of a model's table.
pub(crate) struct Columns {
    /// The primary key.
    key: &'static [&'static str],
    /// What may change, the row's text first.
    changing: &'static [&'static str],
    /// What is known when the row begins and stays.
    fixed: &'static [&'static str],
}

impl Columns {
    pub(crate) fn count(&self) -> usize {
        self.key.len() + self.changing.len() + self.fixed.len()
    }
}

impl Model {
    /// Every model, in the order of dumps and reports.
    pub const ALL: [Self; 8] = [
        Self::Runs,
        Self::Steps,
        Self::Dags,
        Self::DagVersions,
        Self::Tallies,
        Self::Queues,
        Self::Controls,
        Self::Schedules,
    ];

    /// The model's table, which is also its name in reports.
    pub fn table(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Steps => "steps",
            Self::Dags => "dags",
            Self::DagVersions => "dag_versions",
            Self::Tallies => "tallies",
            Self::Queues => "queues",
            Self::Controls => "controls",
            Self::Schedules => "schedules",
        }
    }

    pub(crate) fn columns(self) -> Columns {
        let (key, changing, fixed): (&[_], &[_], &[_]) = match self {
            Self::Runs => (
                &["key"],
                &["row", "status", "error_code"],
                &["run_id", "dag_id", "created_at", "inputs_key"],
            ),
            Self::Steps => {
                (&["key"], &["row", "open", "dag_id", "plugin", "queued_seq"], &["run_key"])
            }
            Self::DagVersions => (&["key"], &["row"], &["dag_id", "version"]),
            Self::Dags | Self::Tallies | Self::Queues | Self::Controls | Self::Schedules => {
                (&["key"], &["row"], &[])
            }
        };
        Columns { key, changing, fixed }
    }

    /// Writes `rows` rows, whose values stand in the order of [`columns`](Self::columns).
    pub(crate) fn upsert_sql(self, rows: usize) -> String {
        let Columns { key, changing, fixed } = self.columns();
        let values = format!("({})", vec!["?"; self.columns().count()].join(","));
        let updates: Vec<String> =
            changing.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        format!(
            "INSERT INTO {} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
            self.table(),
            [key, changing, fixed].concat().join(", "),
            vec![values; rows].join(","),
            key.join(", "),
            updates.join(", "),
        )
    }

    /// All rows in the order of their keys; the key is given as a text that sorts likewise.
    pub(crate) fn select_sql(self) -> &'static str {
        match self {
            Self::Runs => "SELECT printf('%016d', key), row FROM runs ORDER BY key",
            Self::Steps => "SELECT printf('%016d', key), row FROM steps ORDER BY key",
            Self::Dags => "SELECT key, row FROM dags ORDER BY key",
            Self::DagVersions => "SELECT printf('%016d', key), row FROM dag_versions ORDER BY key",
            Self::Tallies => "SELECT key, row FROM tallies ORDER BY key",
            Self::Queues => "SELECT key, row FROM queues ORDER BY key",
            Self::Schedules => "SELECT key, row FROM schedules ORDER BY key",
            Self::Controls => "SELECT key, row FROM controls ORDER BY key",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.table())
    }
}
