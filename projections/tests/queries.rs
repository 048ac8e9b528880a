//! Lists, filters and pages, against the same asked of all rows in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use stella_domain::{
    aggregate::RunStatus,
    ids::{PluginName, RunId, StepId},
    time::Timestamp,
};
use stella_projections::{
    DagRow, PageRequest, Projections, QueueDepth, RunFilter, RunRow, StepRow, StepState,
};
use support::{Action, History, MemoryLedger, long_history, projections, tenant};

async fn listed(models: &Projections, filter: &RunFilter, size: u32) -> Vec<RunRow> {
    let (mut rows, mut after) = (vec![], None);
    loop {
        let request = PageRequest { size, after };
        let page = models.runs(&tenant(), filter, request).await.unwrap();
        assert!(page.items.len() <= size as usize);
        rows.extend(page.items);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

async fn dags(models: &Projections, size: u32) -> Vec<DagRow> {
    let (mut rows, mut after) = (vec![], None);
    loop {
        let page = models.dags(&tenant(), PageRequest { size, after }).await.unwrap();
        assert!(page.items.len() <= size as usize);
        rows.extend(page.items);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn filters_and_pages_give_every_fitting_run_once() {
    let history = long_history(150);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let all = listed(&models, &RunFilter::default(), 500).await;
    assert_eq!(all.len(), history.runs.len());
    assert!(all.is_sorted_by(|a, b| a.created_seq > b.created_seq));

    let (early, late) = (all[120].created_at, all[40].created_at);
    let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let none = RunFilter::default;
    let filters = [
        none(),
        RunFilter { status: Some(RunStatus::Cancelled), ..none() },
        RunFilter { status: Some(RunStatus::Running), ..none() },
        RunFilter { dag_id: Some("fan".parse().unwrap()), ..none() },
        RunFilter {
            dag_id: Some("fan".parse().unwrap()),
            status: Some(RunStatus::Succeeded),
            ..none()
        },
        RunFilter { from: Some(early), ..none() },
        RunFilter { to: Some(late), ..none() },
        RunFilter { from: Some(early), to: Some(late), ..none() },
        RunFilter { from: Some(late), to: Some(early), ..none() },
        RunFilter { from: Some(all[0].created_at.plus_ms(1)), ..none() },
        RunFilter { to: Some(all[0].created_at.plus_ms(1)), ..none() },
        RunFilter { labels: label("team", "t2"), ..none() },
        RunFilter { labels: label("team", "t9"), ..none() },
        RunFilter { labels: [label("team", "t1"), label("odd", "1")].concat(), ..none() },
        RunFilter { labels: label("team", "t3"), from: Some(early), to: Some(late), ..none() },
        RunFilter { error_code: Some("BOOM".to_owned()), ..none() },
        RunFilter { inputs_hash: Some(all[3].inputs_hash.clone()), ..none() },
        RunFilter { inputs_hash: Some("b3:".to_owned()), ..none() },
    ];
    for filter in filters {
        let fits = |run: &&RunRow| {
            filter.status.is_none_or(|status| run.status == status)
                && filter.dag_id.as_ref().is_none_or(|dag| run.dag_id == *dag)
                && filter.from.is_none_or(|from| run.created_at >= from)
                && filter.to.is_none_or(|to| run.created_at < to)
                && filter.labels.iter().all(|(name, value)| run.labels.get(name) == Some(value))
                && filter.inputs_hash.as_ref().is_none_or(|hash| run.inputs_hash == *hash)
                && filter.error_code.as_ref().is_none_or(|code| {
                    run.error_code.as_ref().is_some_and(|have| have.as_str() == code)
                })
        };
        let expected: Vec<RunRow> = all.iter().filter(fits).cloned().collect();
        for size in [1, 7, 500] {
            assert_eq!(listed(&models, &filter, size).await, expected, "{filter:?} by {size}");
        }
    }
}

#[tokio::test]
async fn dags_and_their_versions_are_shown() {
    let history = long_history(1);
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let dags = dags(&models, 500).await;
    assert_eq!(dags, self::dags(&models, 1).await, "pages hold every DAG once, in the same order");
    assert!(dags.is_sorted_by(|a, b| a.dag_id < b.dag_id));
    assert_eq!(
        dags.iter().map(|dag| dag.dag_id.as_str()).collect::<Vec<_>>(),
        ["chain", "fan", "rich"]
    );
    for (dag, spec) in dags.iter().zip(&history.specs) {
        assert_eq!(dag.active_version, Some(1));
        assert_eq!(models.dag(&tenant(), &dag.dag_id).await.unwrap().as_ref(), Some(dag));
        let version = models.dag_version(&tenant(), &dag.dag_id, 1).await.unwrap().unwrap();
        assert_eq!((&version.spec, version.digest.as_str()), (spec.canonical(), spec.digest()));
        let page = PageRequest { size: 500, after: None };
        let versions = models.dag_versions(&tenant(), &dag.dag_id, page).await.unwrap();
        assert_eq!((versions.items, versions.next), (vec![version], None));
        assert_eq!(models.dag_version(&tenant(), &dag.dag_id, 2).await.unwrap(), None);
    }
}

type Oldest = BTreeMap<PluginName, (Timestamp, RunId, StepId)>;

async fn steps(history: &History, models: &Projections) -> Vec<StepRow> {
    let (mut steps, page) = (vec![], PageRequest { size: 500, after: None });
    for (run_id, _) in &history.runs {
        steps.extend(models.steps(&tenant(), run_id, page).await.unwrap().items);
    }
    steps
}

/// By plugin, what began first of the running steps that come first by this in their DAGs.
fn oldest<K: Ord>(steps: &[StepRow], first: impl Fn(&StepRow) -> K) -> Oldest {
    let mut running: Vec<&StepRow> =
        steps.iter().filter(|step| step.phase == StepState::Running).collect();
    running.sort_by_key(|step| first(step));
    let (mut queues, mut oldest) = (BTreeSet::new(), Oldest::new());
    for step in running {
        let plugin = step.plugin.clone().unwrap();
        if queues.insert((&step.dag_id, plugin.clone())) {
            let began = (step.started_at.unwrap(), step.run_id.clone(), step.step_id.clone());
            let known = oldest.entry(plugin).or_insert_with(|| began.clone());
            *known = known.clone().min(began);
        }
    }
    oldest
}

/// Priorities let steps overtake each other: whichever waited longest, the one that has run for
/// longest is the one that may hang.
#[tokio::test]
async fn the_oldest_running_step_of_a_plugin_is_the_one_that_began_first() {
    let mut history = History::new();
    // Of several DAGs, as they use the same plugins.
    (0..9).for_each(|n| history.start(n, 0, 0));
    let mut overtaken = 0;
    // Each time the `pick`th of those that are queued begins; now and then the one that is at that
    // place of those that run ends, and readies steps of the other plugin.
    for (pick, ends) in [
        (8, false),
        (2, false),
        (0, false),
        (4, false),
        (1, true),
        (2, true),
        (3, true),
        (5, true),
        (7, false),
        (0, true),
        (6, true),
        (2, false),
    ] {
        history.act(&Action::Lease { pick });
        if ends {
            history.act(&Action::Succeed { pick, size: 1 });
        }
        let dir = tempfile::tempdir().unwrap();
        let models = projections(dir.path(), MemoryLedger::of(&history.commits));
        let running = models.running(&tenant()).await.unwrap();
        let told: Oldest = running
            .iter()
            .map(|of| {
                let (run_id, step_id) = of.oldest.clone().unwrap();
                (of.plugin.clone(), (of.oldest_started_at.unwrap(), run_id, step_id))
            })
            .collect();
        let steps = steps(&history, &models).await;
        let began = oldest(&steps, |step| step.started_at);
        assert_eq!(told, began, "after {pick}, {ends}");
        overtaken += usize::from(began != oldest(&steps, |step| step.queued_seq));
    }
    assert!(overtaken > 2, "what was queued first had begun first: {overtaken}");
}

/// Counters and the first entries of an index give what counting every step would.
#[tokio::test]
async fn depths_are_what_there_is_of_each_plugin_and_each_dag() {
    let mut history = long_history(100);
    (0..9).for_each(|n| history.start(n, 0, 0));
    // Some of them are retried.
    (0..40).for_each(|pick| history.act(&Action::Lease { pick }));
    (0..40).step_by(2).for_each(|pick| history.act(&Action::Fail { pick, retryable: true }));
    (0..9).for_each(|n| history.start(n, 0, 0));
    let dir = tempfile::tempdir().unwrap();
    let models = projections(dir.path(), MemoryLedger::of(&history.commits));
    let report = models.queue(&tenant()).await.unwrap();
    let steps = steps(&history, &models).await;
    let counted = |fits: &dyn Fn(&StepRow) -> bool| {
        let of = |phase| steps.iter().filter(move |step| step.phase == phase && fits(step));
        QueueDepth {
            queued: of(StepState::Queued).count() as u64,
            running: of(StepState::Running).count() as u64,
            backing_off: of(StepState::BackingOff).count() as u64,
            oldest_queued_at: of(StepState::Queued).map(|step| step.queued_at).min(),
        }
    };
    let all = counted(&|_| true);
    assert_eq!(report.total, all);
    assert!(all.queued > 3 && all.running > 0 && all.backing_off > 0, "{all:?}");
    for (dag_id, depth) in &report.by_dag {
        assert_eq!(*depth, counted(&|step| step.dag_id == *dag_id), "{dag_id}");
    }
    for (plugin, depth) in &report.by_plugin {
        assert_eq!(*depth, counted(&|step| step.plugin.as_ref() == Some(plugin)), "{plugin}");
    }
    assert_eq!((report.by_dag.len(), report.by_plugin.len()), (3, 2));
}
