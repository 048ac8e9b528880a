//! Streams that never end are read from their newest snapshot on.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use stella_commands::engine::ScheduleChange;
use stella_domain::{
    aggregate::{Control, ControlChange, Dag, Schedule},
    chain::{Commit, Head},
    event::{LimitScope, ScheduleRequest},
    hash::Hash32,
    ids::{DagId, ScheduleId, StreamId, Tenant},
    json::CanonicalJson,
    schedule::{CatchUp, CompiledSchedule, Overlap, ScheduleSpec, Timing},
    time::Timestamp,
};
use stella_ledger::{
    clock::Clock as _,
    port::{AppendError, Finding, Ledger, LedgerError, Prepared},
    snapshots::{SNAPSHOT_EVERY, Snapshot, SnapshotFiles, Snapshots},
};
use tempfile::TempDir;

use crate::node::{Node, PATIENCE, TestClock, acme, open, operator};

/// Counts the events of streams that are read; runs aside.
struct Counting {
    inner: Arc<dyn Ledger>,
    events: AtomicUsize,
}

impl Counting {
    fn new(inner: &Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), events: AtomicUsize::new(0) })
    }

    fn count(&self, commits: &[Commit]) {
        let long = commits.iter().filter(|commit| !matches!(commit.stream, StreamId::Run(_)));
        self.events.fetch_add(long.map(|commit| commit.events.len()).sum(), SeqCst);
    }

    fn so_far(&self) -> usize {
        self.events.load(SeqCst)
    }
}

#[async_trait]
impl Ledger for Counting {
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.inner.prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        self.inner.append_prepared(commits).await
    }
    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.inner.head(tenant).await
    }
    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.inner.is_head(tenant, next_seq).await
    }
    async fn read(&self, t: &Tenant, from: u64, limit: usize) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read(t, from, limit).await
    }
    async fn read_streams(&self, t: &Tenant, s: &[StreamId]) -> Result<Vec<Commit>, LedgerError> {
        let commits = self.inner.read_streams(t, s).await?;
        self.count(&commits);
        Ok(commits)
    }
    async fn read_stream(
        &self,
        tenant: &Tenant,
        stream: &StreamId,
        from_version: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let commits = self.inner.read_stream(tenant, stream, from_version, limit).await?;
        self.count(&commits);
        Ok(commits)
    }
    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.inner.first_at_or_after(tenant, time).await
    }
    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.inner.tenants(limit).await
    }
    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.inner.server_time().await
    }
    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.inner.findings().await
    }
}

fn id() -> ScheduleId {
    "old".parse().unwrap()
}

fn dag() -> DagId {
    "nothing".parse().unwrap()
}

async fn change(node: &Node, change: ScheduleChange) -> Schedule {
    node.commands.change_schedule(&acme(), &operator(), &id(), change).await.unwrap().0.schedule
}

fn paused(paused: bool) -> ScheduleChange {
    ScheduleChange::Pause { paused, reason: "a look".to_owned() }
}

const FIRES: u32 = 3_000;

/// A node with a schedule that has fired thousands of times, each for a run that ended at once.
async fn with_an_old_schedule(ledger: Arc<dyn Ledger>, snapshots: Arc<dyn Snapshots>) -> Node {
    let clock = TestClock::new();
    let node = Node::start_with(ledger, &clock, None, snapshots);
    node.commands.open_ledger(&acme(), &operator()).await.unwrap();
    let skipped = r#"{"id":"a","plugin":"core","action":"noop","when":"false"}"#;
    node.register(&format!(r#"{{"id":"nothing","steps":[{skipped}]}}"#)).await;
    let spec = ScheduleSpec {
        catch_up: CatchUp::Skip,
        dag_id: dag(),
        dag_version: None,
        end_at: None,
        fire_time_input: None,
        jitter_ms: 0,
        overlap: Overlap::Allow,
        priority: 0,
        start_at: None,
        timing: Timing::Every { ms: 60_000 },
    };
    let spec = Arc::new(CompiledSchedule::compile(id(), spec).unwrap());
    let inputs = CanonicalJson::empty_object();
    let request = ScheduleRequest { inputs, labels: BTreeMap::new(), reason: None };
    change(&node, ScheduleChange::Set { spec, request, exists: false }).await;
    change(&node, paused(true)).await;
    let to = clock.now();
    let from = Timestamp::from_micros(to.as_micros() - i64::from(FIRES) * 60_000_000);
    let concurrency = NonZeroU32::new(1_000).unwrap();
    let reason = "what was missed".to_owned();
    change(&node, ScheduleChange::Backfill { from, to, cap: FIRES, concurrency, reason }).await;
    let started = async {
        // Whoever asks for something has the writer look what is due.
        while change(&node, paused(true)).await.backfill.is_some() {}
    };
    tokio::time::timeout(PATIENCE, started).await.expect("all of it is started");
    node
}

/// Wait until the newest snapshot reaches at least this far.
async fn kept(snapshots: &dyn Snapshots, stream: &str, version: u64) -> Snapshot {
    let stream = stream.parse().unwrap();
    let kept = async {
        loop {
            match snapshots.newest(&acme(), &stream).await {
                Some(snapshot) if snapshot.version >= version => return snapshot,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("a snapshot is kept")
}

#[tokio::test]
async fn a_schedule_that_has_fired_for_years_is_at_hand_after_a_restart_by_reading_little() {
    let (dir, ledger_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = open(&ledger_dir).await;
    let snapshots = Arc::new(SnapshotFiles::new(dir.path().to_owned()));
    let node = with_an_old_schedule(Arc::clone(&ledger), snapshots.clone()).await;
    kept(&*snapshots, "schedule/old", u64::from(FIRES) - 500).await;
    let was = change(&node, paused(false)).await;
    node.stop().await;

    let counting = Counting::new(&ledger);
    let node = Node::start_with(counting.clone(), &TestClock::new(), None, snapshots);
    let is = change(&node, paused(false)).await;
    assert_eq!((is.version, is.seen, is.paused), (was.version, was.seen, false));
    assert_eq!((&is.request, &is.cleared), (&was.request, &was.cleared));
    assert_eq!(is.known().unwrap().spec(), was.known().unwrap().spec());
    assert!(counting.so_far() < 1_000, "{} events were read", counting.so_far());
    node.stop().await;

    // Without it, all are: what was counted is what is saved.
    let counting = Counting::new(&ledger);
    let node = Node::start(counting.clone(), &TestClock::new(), None);
    assert_eq!(change(&node, paused(false)).await.version, was.version);
    assert!(counting.so_far() > FIRES as usize, "{} events were read", counting.so_far());
    node.stop().await;
}

#[tokio::test]
async fn dags_and_what_holds_back_are_read_from_a_snapshot_on_too() {
    let (dir, ledger_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = open(&ledger_dir).await;
    let snapshots = Arc::new(SnapshotFiles::new(dir.path().to_owned()));
    let control = async |node: &Node, change| -> Arc<Control> {
        let reason = "to and fro".to_owned();
        node.commands.change_control(&acme(), &operator(), change, reason).await.unwrap().0
    };
    let pause = async |node: &Node, paused| -> Dag {
        let reason = "to and fro".to_owned();
        node.commands.pause_dag(&acme(), &operator(), &dag(), paused, reason).await.unwrap().0
    };
    let node = Node::start_with(Arc::clone(&ledger), &TestClock::new(), None, snapshots.clone());
    node.commands.open_ledger(&acme(), &operator()).await.unwrap();
    node.register(r#"{"id":"nothing","steps":[{"id":"a","plugin":"core","action":"noop"}]}"#).await;
    let scope = LimitScope::Plugin("core".parse().unwrap());
    control(&node, ControlChange::SetLimit { scope, limit: NonZeroU32::new(7) }).await;
    for _ in 0..SNAPSHOT_EVERY {
        control(&node, ControlChange::PauseSchedulers).await;
        control(&node, ControlChange::ResumeSchedulers).await;
        pause(&node, true).await;
        pause(&node, false).await;
    }
    kept(&*snapshots, "control/acme", 2 * SNAPSHOT_EVERY - 1).await;
    kept(&*snapshots, "dag/nothing", 2 * SNAPSHOT_EVERY - 1).await;
    let was = control(&node, ControlChange::PauseSchedulers).await;
    let dag_version = pause(&node, false).await.version;
    node.stop().await;

    let counting = Counting::new(&ledger);
    let node = Node::start_with(counting.clone(), &TestClock::new(), None, snapshots);
    assert_eq!(control(&node, ControlChange::PauseSchedulers).await, was);
    assert_eq!(pause(&node, true).await.version, dag_version + 1);
    // Its specs are compiled again: it starts what it started before.
    pause(&node, false).await;
    node.started("nothing").await;
    assert!(counting.so_far() < 50, "{} events were read", counting.so_far());
    node.stop().await;
}

/// Has a snapshot of another history.
struct Foreign(Snapshot);

#[async_trait]
impl Snapshots for Foreign {
    async fn newest(&self, _: &Tenant, stream: &StreamId) -> Option<Snapshot> {
        matches!(stream, StreamId::Schedule(_)).then(|| self.0.clone())
    }
    fn keep(&self, _: &Tenant, _: &StreamId, _: Snapshot) {}
}

#[tokio::test]
async fn a_snapshot_that_is_not_of_this_ledger_counts_for_nothing() {
    let (dir, ledger_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ledger = open(&ledger_dir).await;
    let snapshots = Arc::new(SnapshotFiles::new(dir.path().to_owned()));
    let node = with_an_old_schedule(Arc::clone(&ledger), snapshots.clone()).await;
    let snapshot = kept(&*snapshots, "schedule/old", u64::from(FIRES) - 500).await;
    let was = change(&node, paused(true)).await;
    node.stop().await;

    assert!(snapshot.state.contains(r#""paused":true"#));
    let state = snapshot.state.replace(r#""paused":true"#, r#""paused":false"#);
    let other = Snapshot { state, ..snapshot };
    let of_another_ledger = Snapshot { hash: Hash32::ZERO, ..other.clone() };
    let longer = Snapshot { version: was.version + 1, ..other.clone() };
    let elsewhere = Snapshot { version: other.version - 1, ..other.clone() };
    for foreign in [of_another_ledger, longer, elsewhere] {
        let foreign = Arc::new(Foreign(foreign));
        let node = Node::start_with(Arc::clone(&ledger), &TestClock::new(), None, foreign);
        let is = change(&node, paused(true)).await;
        assert_eq!((is.paused, is.version), (true, was.version));
        node.stop().await;
    }
    // One that fits is taken at its word, or nothing were shown above.
    let fits = Arc::new(Foreign(other));
    let node = Node::start_with(ledger, &TestClock::new(), None, fits);
    assert_eq!(change(&node, paused(true)).await.version, was.version + 1);
    node.stop().await;
}
