//! `/metrics`: counters folded from the ledger, for Prometheus. They survive restarts and can be
//! recomputed; what is not a fold is said to be of the moment, or of the process.

use std::{collections::HashSet, fmt};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use stella_domain::{limits::DURATION_BUCKETS_MS, time::Timestamp};
use stella_ledger::append_times::{APPEND_BUCKETS_MICROS, AppendTally};
use stella_projections::{Metrics, Position, QueueDepth, TallyRow};

use crate::{auth::Caller, problem::ApiError, state::AppState};

/// Stands for DAGs that have no counters of their own: no DAG can be called so.
const OTHERS: &str = "(others)";
/// The media type of OpenMetrics, which Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text";
/// Full names of the two formats.
const OPENMETRICS_1_0: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_0_0_4: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters and gauges for Prometheus: as OpenMetrics 1.0 where that is accepted, else in its own text
/// format, which is what `promtool` and most other readers know.
#[utoipa::path(get, path = "/metrics", tag = "probes",
    responses((status = 200, description = "The metrics.", content(
        (String = "application/openmetrics-text"), (String = "text/plain")))))]
pub(crate) async fn metrics(
    State(app): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let signed = match app.record().map(|record| record.checkpoints) {
        Ok(checkpoints) => match checkpoints.signer() {
            Ok(signer) => signer.signed().await.map(|signed| Signed {
                events: signed.checkpoint.size,
                cosignatures: checkpoints.cosigned_by(&signed) as u64,
                witnesses: checkpoints.witnesses.len() as u64,
            }),
            Err(_) => None,
        },
        Err(_) => None,
    };
    let snapshot = Snapshot {
        signed,
        metrics: app.projections.metrics(&caller.tenant).await?,
        queue: app.projections.queue(&caller.tenant).await?.by_plugin.into_iter().collect(),
        position: app.projections.position(&caller.tenant).await?,
        now: app.clock.now(),
        appends: app.gate.append_times().tally(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut body = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut body, &registry);
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (media_type, body) = match accepted.into_iter().any(|value| value.contains(OPENMETRICS)) {
        true => (OPENMETRICS_1_0, body),
        false => (TEXT_0_0_4, prometheus_text(&body)),
    };
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

/// OpenMetrics in the older text format: it knows no end mark, and a counter's `HELP` and `TYPE` have
/// the name that its samples have.
fn prometheus_text(openmetrics: &str) -> String {
    let counter = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: HashSet<String> = openmetrics.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
                text.push_str(&format!("# {word} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Snapshot {
    metrics: Metrics,
    queue: Vec<(stella_domain::ids::PluginName, QueueDepth)>,
    position: Position,
    now: Timestamp,
    appends: AppendTally,
    signed: Option<Signed>,
}

/// The newest checkpoint, where this node signs.
#[derive(Debug)]
struct Signed {
    events: u64,
    cosignatures: u64,
    witnesses: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.runs(&mut encoder)?;
        self.durations(&mut encoder)?;
        self.by_plugin(&mut encoder, "step_retries", "Retries of steps.", |tally| &tally.retries)?;
        self.by_plugin(&mut encoder, "lease_expiries", "Leases that expired.", |tally| {
            &tally.lease_expiries
        })?;
        self.queue(&mut encoder)?;
        self.queue_age(&mut encoder)?;
        self.lag(&mut encoder)?;
        self.appends(&mut encoder)?;
        self.signed.iter().try_for_each(|signed| signed.encode(&mut encoder))
    }
}

impl Signed {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, n) in [
            ("checkpoint_events", "Events in the newest signed checkpoint.", self.events),
            ("witnesses", "Witnesses that are asked to cosign.", self.witnesses),
            (
                "checkpoint_cosignatures",
                "Witnesses that cosigned the newest checkpoint.",
                self.cosignatures,
            ),
        ] {
            let name = format!("orchestrator_{name}");
            gauge(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?, n)?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// DAGs as label values, which are bounded, and what is counted of each.
    fn dags(&self) -> impl Iterator<Item = (&str, &TallyRow)> {
        let dags = self.metrics.dags.iter().map(|tally| (tally.dag_id.as_str(), tally));
        dags.chain(self.metrics.others.iter().map(|tally| (OTHERS, tally)))
    }

    fn runs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "orchestrator_runs_started";
        let mut family = encoder.encode_descriptor(
            name,
            "Runs that were created.",
            None,
            MetricType::Counter,
        )?;
        for (dag, tally) in self.dags() {
            count(&mut family, &[("dag", dag)], tally.runs_created)?;
        }
        let name = "orchestrator_runs";
        let mut family =
            encoder.encode_descriptor(name, "Runs that ended.", None, MetricType::Counter)?;
        for (dag, tally) in self.dags() {
            for (status, runs) in [
                ("succeeded", tally.runs_succeeded),
                ("failed", tally.runs_failed),
                ("cancelled", tally.runs_cancelled),
                ("timedOut", tally.runs_timed_out),
            ] {
                let labels = [("dag", dag), ("status", status)];
                count(&mut family, &labels, runs)?;
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "orchestrator_run_duration_seconds";
        let help = "Time from a run's creation to its end, of runs that were not cancelled.";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (dag, tally) in self.dags() {
            let bounds = DURATION_BUCKETS_MS.iter().map(|ms| *ms as f64 / 1000.0);
            let bounds = bounds.chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(tally.duration_buckets.iter().copied()).collect();
            let runs = tally.duration_buckets.iter().sum();
            let sum = tally.duration_sum_ms as f64 / 1000.0;
            let labels = [("dag", dag)];
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, runs, &buckets, None)?;
        }
        Ok(())
    }

    fn by_plugin(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        counts: impl Fn(&TallyRow) -> &std::collections::BTreeMap<stella_domain::ids::PluginName, u64>,
    ) -> fmt::Result {
        let name = format!("orchestrator_{name}");
        let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (dag, tally) in self.dags() {
            for (plugin, n) in counts(tally) {
                let labels = [("dag", dag), ("plugin", plugin.as_str())];
                count(&mut family, &labels, *n)?;
            }
        }
        Ok(())
    }

    fn queue(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) =
            ("orchestrator_queue_depth", "Steps that are open, by where they stand.");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (plugin, depth) in &self.queue {
            for (state, steps) in [
                ("queued", depth.queued),
                ("running", depth.running),
                ("backingOff", depth.backing_off),
            ] {
                let labels = [("plugin", plugin.as_str()), ("state", state)];
                gauge(family.encode_family(&labels)?, steps)?;
            }
        }
        Ok(())
    }

    fn queue_age(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "orchestrator_queue_oldest_age_seconds";
        let help = "How long the step has waited that waits longest for a worker.";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (plugin, depth) in &self.queue {
            let age_ms = depth.oldest_queued_at.map_or(0, |since| self.now.ms_since(since));
            let labels = [("plugin", plugin.as_str())];
            ConstGauge::new(age_ms as f64 / 1000.0).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn appends(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let AppendTally { buckets, sum_micros, failures } = &self.appends;
        let name = "orchestrator_ledger_append_duration_seconds";
        let help = "Time that the storage took for a batch of commits, since this process began.";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds = APPEND_BUCKETS_MICROS.iter().map(|micros| *micros as f64 / 1e6);
        let counts: Vec<_> = bounds.chain([f64::MAX]).zip(buckets.iter().copied()).collect();
        let (sum, count) = (*sum_micros as f64 / 1e6, buckets.iter().sum());
        family.encode_histogram::<NoLabelSet>(sum, count, &counts, None)?;
        let name = "orchestrator_ledger_append_failures";
        let help = "Batches that the storage did not take as a whole, since this process began.";
        let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(*failures).encode(family)
    }

    fn lag(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("orchestrator_ledger_events", "Events in the ledger.");
        let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge(family, self.position.ledger_next_seq)?;
        let (name, help) = ("orchestrator_projection_lag_events", "Events not projected yet.");
        let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge(family, self.position.lag())
    }
}

fn count<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    n: u64,
) -> fmt::Result {
    ConstCounter::new(n).encode(family.encode_family(labels)?)
}

fn gauge(encoder: MetricEncoder<'_>, n: u64) -> fmt::Result {
    ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX)).encode(encoder)
}
