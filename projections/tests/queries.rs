//! Lists, filters and pages, against the same asked of all rows in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use stella_domain::aggregate::RunStatus;
use stella_projections::{DagRow, PageRequest, Projections, RunFilter, RunRow};
use support::{MemoryLedger, long_history, projections, tenant};

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
