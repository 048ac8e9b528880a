//! Counters: of what happened, by DAG, and of what waits, by DAG and plugin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stella_domain::{
    ids::{DagId, PluginName},
    limits::DURATION_BUCKETS_MS,
};

use super::{Row, run::is_zero};
use crate::model::{Model, Value};

/// What happened to a DAG's runs so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TallyRow {
    /// The DAG.
    pub dag_id: DagId,
    /// Runs that ended and were not cancelled, by duration: one count for each of
    /// [`DURATION_BUCKETS_MS`] and one for what is above; not cumulative.
    pub duration_buckets: Vec<u64>,
    /// Their durations together, in milliseconds.
    pub duration_sum_ms: u64,
    /// Leases that expired, by plugin.
    pub lease_expiries: BTreeMap<PluginName, u64>,
    /// Step retries that were scheduled, by plugin.
    pub retries: BTreeMap<PluginName, u64>,
    /// Runs that ended because somebody wanted it.
    pub runs_cancelled: u64,
    /// Runs created.
    pub runs_created: u64,
    /// Runs that ended because a step failed.
    pub runs_failed: u64,
    /// Runs that ended with every step done.
    pub runs_succeeded: u64,
    /// Runs that ended because their time was over.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub runs_timed_out: u64,
}

impl TallyRow {
    pub(crate) fn new(dag_id: DagId) -> Self {
        Self {
            dag_id,
            duration_buckets: vec![0; DURATION_BUCKETS_MS.len() + 1],
            duration_sum_ms: 0,
            lease_expiries: BTreeMap::new(),
            retries: BTreeMap::new(),
            runs_cancelled: 0,
            runs_created: 0,
            runs_failed: 0,
            runs_succeeded: 0,
            runs_timed_out: 0,
        }
    }

    /// A run ended by itself after `ms` milliseconds.
    pub(crate) fn took(&mut self, ms: u64) {
        let bucket = DURATION_BUCKETS_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = self.duration_buckets.get_mut(bucket) {
            *count += 1;
        }
        self.duration_sum_ms += ms;
    }
}

impl TallyRow {
    /// Count what happened to another DAG's runs as well.
    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.duration_buckets.iter_mut().zip(&other.duration_buckets) {
            *count += more;
        }
        self.duration_sum_ms += other.duration_sum_ms;
        let plugins = [
            (&mut self.lease_expiries, &other.lease_expiries),
            (&mut self.retries, &other.retries),
        ];
        for (counts, more) in plugins {
            more.iter().for_each(|(plugin, n)| *counts.entry(plugin.clone()).or_default() += n);
        }
        self.runs_cancelled += other.runs_cancelled;
        self.runs_created += other.runs_created;
        self.runs_failed += other.runs_failed;
        self.runs_succeeded += other.runs_succeeded;
        self.runs_timed_out += other.runs_timed_out;
    }
}

impl Row for TallyRow {
    const MODEL: Model = Model::Tallies;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([self.dag_id.as_str().into(), Value::Text(text)]);
    }
}

/// Steps of one DAG and plugin that are open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueRow {
    /// Attempts that ended with a success, an error, a timeout or an expired lease.
    pub attempts: u64,
    /// What those took, in milliseconds, from lease to report.
    pub attempts_ms: u64,
    /// Wait before their next attempt.
    pub backing_off: u64,
    /// The DAG.
    pub dag_id: DagId,
    /// The plugin.
    pub plugin: PluginName,
    /// Wait for a worker.
    pub queued: u64,
    /// Leased.
    pub running: u64,
}

impl QueueRow {
    pub(crate) fn new(dag_id: DagId, plugin: PluginName) -> Self {
        Self { attempts: 0, attempts_ms: 0, backing_off: 0, dag_id, plugin, queued: 0, running: 0 }
    }
}

impl Row for QueueRow {
    const MODEL: Model = Model::Queues;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        // Neither name can hold a slash.
        values.extend([Value::Text(format!("{}/{}", self.dag_id, self.plugin)), Value::Text(text)]);
    }
}
