//! Counters of a window: those of `/metrics` that events alone give.

use std::collections::BTreeMap;

use stella_domain::{
    aggregate::RunStatus,
    ids::{DagId, PluginName},
    limits::DURATION_BUCKETS_MS,
    time::Timestamp,
};

use super::otlp::{Attributes, HistogramPoint, Metric, NumberPoint, Points};

/// What was counted since `from`.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    from: Timestamp,
    /// Where no DAG is known, the run began before.
    started: BTreeMap<Option<DagId>, u64>,
    ended: BTreeMap<(Option<DagId>, &'static str), u64>,
    durations: BTreeMap<Option<DagId>, Durations>,
    retries: BTreeMap<(Option<DagId>, Option<PluginName>), u64>,
    lease_expiries: BTreeMap<(Option<DagId>, Option<PluginName>), u64>,
    events: u64,
}

#[derive(Debug, Clone)]
struct Durations {
    buckets: Vec<u64>,
    sum_ms: u64,
}

type OfPlugin = BTreeMap<(Option<DagId>, Option<PluginName>), u64>;

impl Tally {
    pub(super) fn new(from: Timestamp) -> Self {
        Self {
            from,
            started: BTreeMap::new(),
            ended: BTreeMap::new(),
            durations: BTreeMap::new(),
            retries: BTreeMap::new(),
            lease_expiries: BTreeMap::new(),
            events: 0,
        }
    }

    pub(super) fn started(&mut self, dag_id: &Option<DagId>) {
        *self.started.entry(dag_id.clone()).or_default() += 1;
    }

    pub(super) fn ended(&mut self, dag_id: &Option<DagId>, status: RunStatus) {
        *self.ended.entry((dag_id.clone(), status.as_str())).or_default() += 1;
    }

    pub(super) fn took(&mut self, dag_id: &Option<DagId>, ms: u64) {
        let durations = self.durations.entry(dag_id.clone()).or_insert_with(|| Durations {
            buckets: vec![0; DURATION_BUCKETS_MS.len() + 1],
            sum_ms: 0,
        });
        let bucket = DURATION_BUCKETS_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = durations.buckets.get_mut(bucket) {
            *count += 1;
        }
        durations.sum_ms += ms;
    }

    pub(super) fn retries(&mut self, dag_id: &Option<DagId>, plugin: Option<&PluginName>) {
        *self.retries.entry((dag_id.clone(), plugin.cloned())).or_default() += 1;
    }

    pub(super) fn lease_expired(&mut self, dag_id: &Option<DagId>, plugin: Option<&PluginName>) {
        *self.lease_expiries.entry((dag_id.clone(), plugin.cloned())).or_default() += 1;
    }

    /// So many events are in the ledger.
    pub(super) fn reached(&mut self, next_seq: u64) {
        self.events = next_seq;
    }

    /// All counters as they were at `at`. One to which nothing has happened is left out.
    pub(super) fn metrics(&self, at: Timestamp) -> Vec<Metric> {
        let started = self.started.iter().map(|(dag, n)| self.point(of_dag(dag), *n, at));
        let ended = self.ended.iter().map(|((dag, status), n)| {
            let mut attributes = of_dag(dag);
            attributes.put("status", *status);
            self.point(attributes, *n, at)
        });
        let durations = self.durations.iter().map(|(dag, durations)| HistogramPoint {
            attributes: of_dag(dag),
            start_time_unix_nano: self.from,
            time_unix_nano: at,
            count: durations.buckets.iter().sum(),
            sum: durations.sum_ms as f64 / 1000.0,
            bucket_counts: durations.buckets.clone(),
            explicit_bounds: DURATION_BUCKETS_MS.iter().map(|ms| *ms as f64 / 1000.0).collect(),
        });
        let metric = |name, description, unit, points| Metric { name, description, unit, points };
        let all = [
            metric(
                "orchestrator.runs.started",
                "Runs that were created.",
                "",
                Points::sum(started.collect()),
            ),
            metric("orchestrator.runs", "Runs that ended.", "", Points::sum(ended.collect())),
            metric(
                "orchestrator.run.duration",
                "Time from a run's creation to its end.",
                "s",
                Points::histogram(durations.collect()),
            ),
            metric(
                "orchestrator.step.retries",
                "Retries of steps.",
                "",
                self.by_plugin(&self.retries, at),
            ),
            metric(
                "orchestrator.lease.expiries",
                "Leases that expired.",
                "",
                self.by_plugin(&self.lease_expiries, at),
            ),
            metric(
                "orchestrator.ledger.events",
                "Events in the ledger.",
                "",
                Points::gauge(self.point(Attributes::default(), self.events, at)),
            ),
        ];
        all.into_iter().filter(|metric| !metric.points.is_empty()).collect()
    }

    fn by_plugin(&self, counts: &OfPlugin, at: Timestamp) -> Points {
        let point = |((dag, plugin), n): (&(Option<DagId>, Option<PluginName>), &u64)| {
            let mut attributes = of_dag(dag);
            attributes.put_some("plugin", plugin.as_ref());
            self.point(attributes, *n, at)
        };
        Points::sum(counts.iter().map(point).collect())
    }

    fn point(&self, attributes: Attributes, n: u64, at: Timestamp) -> NumberPoint {
        NumberPoint { attributes, start_time_unix_nano: self.from, time_unix_nano: at, as_int: n }
    }
}

fn of_dag(dag_id: &Option<DagId>) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.put_some("dag", dag_id.as_ref());
    attributes
}
