//! Whether what waits is being worked off.

use stella_domain::{
    ids::{DagId, Tenant},
    time::Timestamp,
};
use stella_projections::{
    ControlRow, DagRow, ProjectionError, QueueDepth, QueueReport, RunningPlugin,
};

use super::{Found, green, names, told};
use crate::{
    state::AppState,
    types::{HealthStatus, StuckPluginView},
};

/// How long a step may wait before somebody should look, in milliseconds.
const WAITS_LONG_MS: u64 = 60_000;
/// A step that runs this many times longer than its plugin's usually do, and at least so long, is
/// reported.
const STUCK_TIMES: u64 = 10;
const STUCK_MS: u64 = 60_000;

pub(super) async fn queue(app: &AppState, tenant: &Tenant) -> Found {
    match look(app, tenant).await {
        Ok(found) => found,
        Err(error) => (HealthStatus::Red, error.to_string()),
    }
}

async fn look(app: &AppState, tenant: &Tenant) -> Result<Found, ProjectionError> {
    let report = app.projections.queue(tenant).await?;
    let control = app.projections.control(tenant).await?;
    let paused = app.projections.paused_dags(tenant).await?;
    let running = app.projections.running(tenant).await?;
    Ok(judge(&report, control.as_ref(), &paused, running, app.clock.now()))
}

/// Plugins of which a step runs far longer than their steps usually do.
pub(crate) fn stuck(running: Vec<RunningPlugin>, now: Timestamp) -> Vec<StuckPluginView> {
    let stuck = running.into_iter().filter_map(|plugin| {
        let oldest_started_at = plugin.oldest_started_at?;
        let oldest_age_ms = now.ms_since(oldest_started_at);
        let usual_ms = plugin.attempts_ms.checked_div(plugin.attempts)?;
        let bound = STUCK_MS.max(usual_ms.saturating_mul(STUCK_TIMES));
        let (plugin, (run_id, step_id)) = (plugin.plugin, plugin.oldest.unzip());
        let view =
            StuckPluginView { plugin, oldest_started_at, run_id, step_id, oldest_age_ms, usual_ms };
        (oldest_age_ms > bound).then_some(view)
    });
    stuck.collect()
}

/// What somebody holds back is worth a look as soon as something waits for it.
fn judge(
    report: &QueueReport,
    control: Option<&ControlRow>,
    paused: &[DagRow],
    running: Vec<RunningPlugin>,
    now: Timestamp,
) -> Found {
    let total = &report.total;
    let mut said = control.map_or_else(Vec::new, |control| controlled(report, control));
    said.extend(listed(paused.iter().filter_map(|dag| held_dag(report, dag))));
    said.extend(long_wait(report, control, paused, now));
    said.extend(listed(stuck(running, now).into_iter().map(stuck_step)));
    let depth = format!(
        "{} queued, {} running, {} backing off",
        total.queued, total.running, total.backing_off
    );
    match said.is_empty() {
        true => green(depth),
        false => (HealthStatus::Yellow, format!("{depth}; {}", said.join("; "))),
    }
}

/// Some of them by name, and how many more there are; nothing of none.
fn listed(of: impl Iterator<Item = String>) -> Option<String> {
    let of: Vec<String> = of.collect();
    (!of.is_empty()).then(|| names(&of))
}

/// What an operator holds back of the whole tenant, or of a plugin.
fn controlled(report: &QueueReport, control: &ControlRow) -> Vec<String> {
    let mut said = vec![];
    if let Some(started) = control.draining() {
        said.push(format!("it is being drained {}: no run is admitted", told(&started.started)));
    }
    if let Some(mark) = control.dispatch_paused.as_ref().filter(|_| report.total.queued > 0) {
        said.push(format!("nothing is leased: dispatch is paused {}", told(mark)));
    }
    let plugins = control.plugins_paused.iter().filter_map(|(plugin, mark)| {
        let depth = report.by_plugin.get(plugin).filter(|depth| depth.queued > 0)?;
        Some(format!("plugin {plugin} is paused {} ({} steps wait)", told(mark), depth.queued))
    });
    said.extend(listed(plugins));
    said
}

/// A DAG that is paused and waited for, or that its brake paused, which nobody wanted.
fn held_dag(report: &QueueReport, dag: &DagRow) -> Option<String> {
    let queued = report.by_dag.get(&dag.dag_id).map_or(0, |depth| depth.queued);
    let (dag_id, mark) = (&dag.dag_id, told(dag.paused.as_ref()?));
    match &dag.brake {
        Some(brake) => Some(format!(
            "DAG {dag_id} is paused {mark}: its budget is spent, {} runs were started \
             ({queued} steps wait)",
            brake.starts
        )),
        None if queued > 0 => Some(format!("DAG {dag_id} is paused {mark} ({queued} steps wait)")),
        None => None,
    }
}

/// What nobody holds back is to be worked off.
fn long_wait(
    report: &QueueReport,
    control: Option<&ControlRow>,
    paused: &[DagRow],
    now: Timestamp,
) -> Option<String> {
    if control.is_some_and(|control| control.dispatch_paused.is_some()) {
        return None;
    }
    let waits_long = |depth: &QueueDepth| {
        let waits_ms = now.ms_since(depth.oldest_queued_at?);
        (waits_ms > WAITS_LONG_MS).then_some(waits_ms)
    };
    let is_paused = |dag_id: &DagId| paused.iter().any(|dag| dag.dag_id == *dag_id);
    let free = report.by_dag.iter().filter(|(dag_id, _)| !is_paused(dag_id));
    let oldest_ms = free.filter_map(|(_, depth)| waits_long(depth)).max()?;
    let held = control.map(|control| &control.plugins_paused);
    let late = report.by_plugin.iter().filter(|(plugin, depth)| {
        held.is_none_or(|held| !held.contains_key(*plugin)) && waits_long(depth).is_some()
    });
    let late = listed(late.map(|(plugin, _)| plugin.to_string()))?;
    Some(format!("the oldest waits for {} s, for plugin {late}", oldest_ms / 1_000))
}

fn stuck_step(stuck: StuckPluginView) -> String {
    let (seconds, usual_ms) = (stuck.oldest_age_ms / 1_000, stuck.usual_ms);
    let which = stuck.run_id.zip(stuck.step_id);
    let which = which.map_or(String::new(), |(run, step)| format!(" ({step} of run {run})"));
    let plugin = stuck.plugin;
    format!("a step of plugin {plugin} runs for {seconds} s{which}, usual is {usual_ms} ms")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-28T12:00:00.000000Z";

    fn depth(queued: u64, since: &str) -> QueueDepth {
        let oldest_queued_at = (queued > 0).then(|| since.parse().unwrap());
        QueueDepth { queued, running: 0, backing_off: 0, oldest_queued_at }
    }

    /// So many steps of the DAG `d` wait for the plugin `scan`, since then.
    fn judged(queued: u64, since: &str, control: &Value, paused: &[DagRow]) -> Found {
        let depth = depth(queued, since);
        let report = QueueReport {
            next_seq: 9,
            total: depth,
            by_dag: [("d".parse().unwrap(), depth)].into(),
            by_plugin: [("scan".parse().unwrap(), depth)].into(),
        };
        let mut row = json!({"limits": [], "pluginsPaused": {}, "tenant": "acme", "version": 1});
        row.as_object_mut().unwrap().extend(control.as_object().unwrap().clone());
        let control = serde_json::from_value(row).unwrap();
        judge(&report, Some(&control), paused, vec![], NOW.parse().unwrap())
    }

    #[test]
    fn what_is_held_back_is_told_as_soon_as_something_waits_for_it() {
        let by_ann = json!({"actor": "user:ann", "at": NOW, "reason": "moving", "seq": 9});
        let dag: DagRow = serde_json::from_value(json!({
            "dagId": "d", "createdAt": NOW, "updatedAt": NOW, "latestVersion": 1, "paused": by_ann,
        }))
        .unwrap();
        let dag = std::slice::from_ref(&dag);
        let told = "since 2026-11-28T12:00:00.000000Z by user:ann: moving";
        let cases: &[(Value, &[DagRow], String)] = &[
            (
                json!({"dispatchPaused": by_ann}),
                &[],
                format!("nothing is leased: dispatch is paused {told}"),
            ),
            (
                json!({"pluginsPaused": {"scan": by_ann}}),
                &[],
                format!("plugin scan is paused {told} (2 steps wait)"),
            ),
            (json!({}), dag, format!("DAG d is paused {told} (2 steps wait)")),
        ];
        for (control, dags, expected) in cases {
            assert_eq!(judged(0, NOW, control, dags).0, HealthStatus::Green, "nothing waits");
            let (status, text) = judged(2, NOW, control, dags);
            assert_eq!(status, HealthStatus::Yellow);
            assert_eq!(text, format!("2 queued, 0 running, 0 backing off; {expected}"));
        }
        let drain = json!({"drain": {"started": by_ann, "thenPause": false}});
        let (status, text) = judged(0, NOW, &drain, &[]);
        assert_eq!(status, HealthStatus::Yellow, "no run is admitted");
        assert!(text.contains(&format!("it is being drained {told}")), "{text}");
    }

    #[test]
    fn a_long_wait_is_told_with_its_plugin() {
        let none = json!({});
        assert_eq!(judged(1, "2026-11-28T11:59:00.000000Z", &none, &[]).0, HealthStatus::Green);
        let (status, text) = judged(1, "2026-11-28T11:58:59.000000Z", &none, &[]);
        assert_eq!(status, HealthStatus::Yellow);
        assert!(text.ends_with("the oldest waits for 61 s, for plugin scan"), "{text}");
    }

    #[test]
    fn a_plugin_is_stuck_when_a_step_runs_far_longer_than_usual() {
        let running = |attempts, attempts_ms, since: &str| {
            let (plugin, oldest_started_at) = ("scan".parse().unwrap(), since.parse().ok());
            let oldest = None;
            let running =
                RunningPlugin { plugin, attempts, attempts_ms, oldest_started_at, oldest };
            stuck(vec![running], NOW.parse().unwrap()).len()
        };
        // Ten seconds usually: a hundred are as long as they may be, but for the least of a minute.
        assert_eq!(running(6, 60_000, "2026-11-28T11:58:20.000000Z"), 0);
        assert_eq!(running(6, 60_000, "2026-11-28T11:58:19.999000Z"), 1);
        assert_eq!(running(6, 6_000, "2026-11-28T11:59:00.000000Z"), 0);
        assert_eq!(running(6, 6_000, "2026-11-28T11:58:59.999000Z"), 1);
        assert_eq!(running(0, 0, "2026-11-01T00:00:00.000000Z"), 0, "nothing to compare with");
    }
}
