//! What was erased leaves the read models, their file and their recorded digests; and they are what
//! the ledger gives nevertheless.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{path::Path, sync::Arc, time::Duration};

use stella_projections::{DIGEST_INTERVAL, PageRequest, ProjectionError, Projections, RunFilter};
use support::{History, MemoryLedger, dump, long_history, projections, tenant};
use tokio::sync::oneshot;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const ALL: PageRequest = PageRequest { size: 500, after: None };

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let look = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Files of the directory that hold this text.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let holds = |path: &Path| {
        // It may go away under our eyes.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let found = files.filter(|file| holds(&file.path()));
    found.map(|file| file.file_name().into_string().unwrap()).collect()
}

struct Following {
    models: Arc<Projections>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Following {
    fn start(models: Projections) -> Self {
        let models = Arc::new(models);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let models = Arc::clone(&models);
            async move {
                models.follow(&tenant(), async { drop(stopped.await) }).await.unwrap();
            }
        });
        Self { models, stop, task }
    }

    async fn reached(&self, history: &History) {
        self.models.wait_for(&tenant(), history.head.next_seq - 1, PATIENCE).await.unwrap();
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        self.models.close().await;
    }
}

/// A history in which some runs have every kind of payload, and have ended.
fn history() -> History {
    let mut history = long_history(200);
    history.finish();
    history
}

#[tokio::test]
async fn rows_labels_and_the_file_forget() {
    let mut history = history();
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&history.commits);
    let following = Following::start(projections(dir.path(), ledger.clone()));
    let models = &following.models;
    following.reached(&history).await;
    // Every third run has a token, each its own.
    let (run, token) = (30, "token 30\"");
    let id = history.runs[run].0.clone();
    let before = models.run(&tenant(), &id).await.unwrap().unwrap();
    assert!(!before.labels.is_empty() && before.run_token.is_some());
    let steps = models.steps(&tenant(), &id, ALL).await.unwrap().items;
    assert!(steps.iter().any(|step| step.outputs.is_some()));
    assert!(!files_with(dir.path(), token).is_empty());

    let seen = history.commits.len();
    history.erase(run);
    ledger.put(&history.blanked());
    assert_eq!(history.commits.len(), seen + 1);
    following.reached(&history).await;
    let row = models.run(&tenant(), &id).await.unwrap().unwrap();
    assert_eq!(row.erased_seq, Some(history.head.next_seq - 1));
    assert!(row.labels.is_empty() && row.run_token.is_none());
    assert_eq!((row.status, row.last_seq), (before.status, before.last_seq));
    let steps = models.steps(&tenant(), &id, ALL).await.unwrap().items;
    assert!(steps.iter().all(|step| step.outputs.is_none() && step.message.is_none()));
    let label = ("team".to_owned(), before.labels["team"].clone());
    let filter = RunFilter { labels: vec![label], ..RunFilter::default() };
    let found = models.runs(&tenant(), &filter, ALL).await.unwrap().items;
    assert!(!found.is_empty() && found.iter().all(|run| run.run_id != id));
    // With the pages that the row had: reads go on while the files change places.
    until("the file is swept", async || {
        models.run(&tenant(), &id).await.unwrap();
        files_with(dir.path(), token).is_empty()
    })
    .await;
    assert!(models.check(&tenant(), &|_| {}).await.unwrap().is_identical());
    let live = dump(models).await;
    assert_eq!(models.rebuild(&tenant(), &|_| {}).await.unwrap().diverged, []);
    assert_eq!(dump(models).await, live);
    following.end().await;
}

/// A process that ends before it has swept leaves that to the next one.
#[tokio::test]
async fn a_sweep_that_did_not_happen_is_made_up_for() {
    let mut history = history();
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&history.commits);
    let models = projections(dir.path(), ledger.clone());
    models.verify(&tenant()).await.unwrap();
    let seen = history.commits.len();
    history.erase(30);
    ledger.put(&history.blanked());
    models.apply(&tenant(), &history.recorded()[seen..]).await.unwrap();
    models.close().await;
    drop(models);
    // What a rebuild that was cut off leaves behind goes, too.
    let left = ["acme.rebuild.db", "acme.check.db"].map(|name| dir.path().join(name));
    left.iter().for_each(|path| std::fs::write(path, "token 30\"").unwrap());
    let following = Following::start(projections(dir.path(), ledger));
    until("the file is swept", async || files_with(dir.path(), "token 30\"").is_empty()).await;
    assert!(following.models.check(&tenant(), &|_| {}).await.unwrap().is_identical());
    following.end().await;
}

/// Digests recorded between a payload and its erasure were digests of that payload.
#[tokio::test]
async fn digests_that_cannot_be_reached_again_are_dropped() {
    let mut history = long_history(1_200);
    history.finish();
    assert!(history.head.next_seq > 2 * DIGEST_INTERVAL);
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&[]);
    let models = projections(dir.path(), ledger.clone());
    models.apply(&tenant(), &history.recorded()).await.unwrap();
    let seen = history.commits.len();
    history.erase(600);
    ledger.put(&history.blanked());
    models.apply(&tenant(), &history.recorded()[seen..]).await.unwrap();
    let report = models.check(&tenant(), &|_| {}).await.unwrap();
    assert!(report.is_identical(), "{report:#?}");
    assert!(report.models.iter().all(|model| model.diverged.is_none()), "{report:#?}");
    assert_eq!(models.rebuild(&tenant(), &|_| {}).await.unwrap().diverged, []);
    // Those before it are still compared.
    assert_eq!(models.rebuild(&tenant(), &|_| {}).await.unwrap().diverged, []);
    models.close().await;
}

/// The storage may be blanked before the read models have heard of it.
#[tokio::test]
async fn a_check_waits_for_an_erasure_under_way() {
    let mut history = history();
    let dir = tempfile::tempdir().unwrap();
    let ledger = MemoryLedger::of(&history.commits);
    let models = projections(dir.path(), ledger.clone());
    models.verify(&tenant()).await.unwrap();
    history.erase(30);
    ledger.put(&history.blanked());
    let models = Arc::new(models);
    let checking = tokio::spawn({
        let models = Arc::clone(&models);
        async move { models.check(&tenant(), &|_| {}).await.unwrap() }
    });
    let seen = history.commits.len() - 1;
    models.apply(&tenant(), &history.recorded()[seen..]).await.unwrap();
    let report = checking.await.unwrap();
    assert!(report.is_identical(), "{report:#?}");
}

/// An erasure of what is under way, or never was, is not folded over.
#[tokio::test]
async fn an_erasure_that_contradicts_is_not_passed_over() {
    for started in [false, true] {
        let mut history = History::new();
        history.start(0, 0, 0);
        let (id, seq) = (history.runs[0].0.clone(), history.head.next_seq - 2);
        if !started {
            history = History::new();
        }
        history.record_erasure(id, vec![seq]);
        let dir = tempfile::tempdir().unwrap();
        let models = projections(dir.path(), MemoryLedger::of(&[]));
        let applied = models.apply(&tenant(), &history.recorded()).await;
        let error = applied.expect_err("a contradiction");
        assert!(matches!(error, ProjectionError::Contradiction { .. }), "{started}: {error}");
    }
}
