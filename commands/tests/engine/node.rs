//! The write side on a SQLite ledger, with a clock that the test turns and workers that it plays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use stella_commands::{
    CommandError, Commands, CommandsConfig, Completion, Poll, Refusal,
    dispatch::Grant,
    engine::{NewRun, RunStarted},
};
use stella_domain::{
    aggregate::Outcome,
    dag::{DagSpec, PluginCatalog},
    event::ErrorCode,
    ids::{Actor, DagId, PluginName, RunId, StreamId, Tenant, WorkerId},
    json::CanonicalJson,
    open_work::OpenWork,
    plugin::WorkerPlugin,
    time::Timestamp,
};
use stella_ledger::{
    clock::Clock,
    feed::Feed,
    port::Ledger,
    recorded::Recorded,
    snapshots::{NoSnapshots, Snapshots},
    sqlite::SqliteLedger,
    writer::Written,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const LEASE_MS: u64 = 30_000;
/// Longer than anything takes: a wait that comes to its end fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that stands until it is turned.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_795_424_400_000_000)))
    }

    pub(crate) fn turn_ms(&self, ms: i64) {
        self.0.fetch_add(ms * 1_000, SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(SeqCst))
    }
}

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned()])
    }
}

pub(crate) struct Node {
    pub(crate) commands: Commands,
    pub(crate) task: JoinHandle<()>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<TestClock>,
    feed: Arc<Feed>,
}

pub(crate) async fn open(dir: &TempDir) -> Arc<dyn Ledger> {
    Arc::new(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap())
}

pub(crate) fn acme() -> Tenant {
    "acme".parse().unwrap()
}

pub(crate) fn operator() -> Actor {
    Actor::user("ann")
}

pub(crate) fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

pub(crate) fn json(text: &str) -> CanonicalJson {
    CanonicalJson::parse(text).unwrap()
}

pub(crate) fn poll_of(name: &str, max: u32, wait: Duration) -> Poll {
    let core: PluginName = "core".parse().unwrap();
    let plugins: Arc<[WorkerPlugin]> = Arc::new([core.into()]);
    Poll { worker_id: worker(name), plugins, max, wait }
}

pub(crate) fn new_run(dag: &str, run_token: Option<&str>) -> NewRun {
    let run_token = run_token.map(|token| token.parse().unwrap());
    NewRun {
        run_id: Commands::run_id(&acme(), run_token.as_ref()),
        dag_id: dag.parse().unwrap(),
        dag_version: None,
        inputs: CanonicalJson::empty_object(),
        given: None,
        labels: Default::default(),
        priority: 0,
        run_token,
        attempt: 0,
        rerun_of: None,
        reason: String::new(),
        schedule: None,
    }
}

pub(crate) fn failed(code: &str) -> Outcome {
    let message = "it broke".to_owned();
    Outcome::Failed { code: ErrorCode::lenient(code), message, retryable: true }
}

pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, CommandError>) -> Refusal {
    match outcome {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

impl Node {
    /// A node with the DAGs `one`, `chain`, `pair`, `retry`, `hour` and
    /// `rich`.
    pub(crate) async fn new(ledger: Arc<dyn Ledger>, clock: &Arc<TestClock>) -> Self {
        let node = Self::start(ledger, clock, None);
        node.commands.open_ledger(&acme(), &operator()).await.unwrap();
        let steps = [
            ("one", r#"{"id":"a","plugin":"core","action":"noop","timeout":"1h"}"#),
            (
                "chain",
                r#"{"id":"a","plugin":"core","action":"noop"},
                   {"id":"b","plugin":"core","action":"noop","needs":["a"],
                    "with":{"n":"${steps.a.outputs.n}"}},
                   {"id":"c","plugin":"core","action":"noop","needs":["b"]}"#,
            ),
            (
                "pair",
                r#"{"id":"a","plugin":"core","action":"noop"},
                   {"id":"b","plugin":"core","action":"noop"}"#,
            ),
            (
                "retry",
                r#"{"id":"a","plugin":"core","action":"noop","timeout":"10s",
                    "retries":{"max":1,"backoff":"1s"}}"#,
            ),
            (
                "hour",
                r#"{"id":"a","plugin":"core","action":"noop","timeout":"2h"},
                   {"id":"b","plugin":"core","action":"noop","needs":["a"]}"#,
            ),
            (
                "rich",
                r#"{"id":"a","plugin":"core","action":"noop","continueOnFailure":true,
                    "with":{"x":"${inputs.nothing}"}},
                   {"id":"each","plugin":"core","action":"noop","needs":["a"],"forEach":[7,8],
                    "parallelism":1,"with":{"n":"${item}","at":"${index}"}},
                   {"id":"gate","needs":["each"],"approval":{"message":"well?"}},
                   {"id":"last","plugin":"core","action":"noop","needs":["gate"],
                    "when":"steps.a.status == 'failed'"}"#,
            ),
        ];
        for (id, steps) in steps {
            let timeout = if id == "hour" { r#""timeout":"1h","# } else { "" };
            node.register(&format!(r#"{{"id":"{id}",{timeout}"steps":[{steps}]}}"#)).await;
        }
        node
    }

    pub(crate) async fn register(&self, spec: &str) {
        let spec = Arc::new(DagSpec::parse(spec, &AnyPlugin).unwrap());
        self.commands.register_dag(&acme(), &operator(), spec, String::new()).await.unwrap();
    }

    /// As after a restart: nothing is known but the open work.
    pub(crate) fn start(
        ledger: Arc<dyn Ledger>,
        clock: &Arc<TestClock>,
        work: Option<OpenWork>,
    ) -> Self {
        Self::start_with(ledger, clock, work, Arc::new(NoSnapshots))
    }

    pub(crate) fn start_with(
        ledger: Arc<dyn Ledger>,
        clock: &Arc<TestClock>,
        work: Option<OpenWork>,
        snapshots: Arc<dyn Snapshots>,
    ) -> Self {
        let config = CommandsConfig {
            origin: "stella.test".parse().unwrap(),
            clock: clock.clone(),
            lease_ms: LEASE_MS,
            logs: Arc::new(stella_commands::NoLogs),
            snapshots,
            open_work: work.map(|work| (acme(), work)).into_iter().collect(),
        };
        let feed = Feed::new(Arc::clone(&ledger));
        let (commands, task) = Commands::start(config, Arc::clone(&ledger), Arc::clone(&feed));
        Self { commands, task, ledger, clock: Arc::clone(clock), feed }
    }

    /// End the node and wait until it has.
    pub(crate) async fn stop(self) {
        let Self { commands, task, .. } = self;
        drop(commands);
        tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
    }

    pub(crate) async fn run(&self, new: NewRun) -> Result<Written<RunStarted>, CommandError> {
        self.commands.start_run(&acme(), &operator(), new).await
    }

    pub(crate) async fn started(&self, dag: &str) -> RunId {
        self.run(new_run(dag, None)).await.unwrap().answer.run_id
    }

    /// What a worker gets that waits for it; fails when nothing comes.
    pub(crate) async fn lease(&self, name: &str) -> Grant {
        let mut grants = self.commands.poll(&acme(), poll_of(name, 1, PATIENCE)).await;
        assert_eq!(grants.len(), 1, "one place, one lease");
        grants.remove(0)
    }

    /// What a worker gets that does not wait.
    pub(crate) async fn at_hand(&self, name: &str) -> Vec<Grant> {
        self.commands.poll(&acme(), poll_of(name, 100, Duration::ZERO)).await
    }

    pub(crate) async fn report(
        &self,
        name: &str,
        grant: &Grant,
        outcome: Outcome,
    ) -> Result<Completion, CommandError> {
        self.commands.complete(&acme(), &worker(name), &grant.token, outcome, None, None).await
    }

    pub(crate) async fn succeed(&self, name: &str, grant: &Grant, outputs: &str) {
        let outcome = Outcome::Succeeded { outputs: json(outputs) };
        self.report(name, grant, outcome).await.unwrap();
    }

    pub(crate) async fn succeed_and_poll(&self, name: &str, grant: &Grant) -> Vec<Grant> {
        let outcome = Outcome::Succeeded { outputs: json(r#"{"n":1}"#) };
        let poll = poll_of(name, 1, Duration::ZERO);
        let (worker, token) = (worker(name), &grant.token);
        let done =
            self.commands.complete(&acme(), &worker, token, outcome, None, Some(&poll)).await;
        done.unwrap().next
    }

    pub(crate) async fn commits(&self) -> Vec<Recorded> {
        let mut all: Vec<Recorded> = vec![];
        loop {
            let from = all.last().map_or(0, |last| last.commit.last_seq() + 1);
            let commits = self.ledger.read(&acme(), from, 4_096).await.unwrap();
            if commits.is_empty() {
                return all;
            }
            all.extend(commits.into_iter().map(|commit| Recorded::decode(commit).unwrap()));
        }
    }

    /// What followers on this node get, from the beginning.
    pub(crate) async fn followed(&self) -> Vec<Arc<Recorded>> {
        let (mut follower, mut all) = (self.feed.follow(&acme(), 0), vec![]);
        loop {
            let more = follower.try_next(100).await.unwrap();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Wait until an event of this type is recorded.
    pub(crate) async fn recorded(&self, event_type: &str) {
        let mut follower = self.feed.follow(&acme(), 0);
        let seen = async {
            loop {
                let commits = follower.next(100).await.unwrap();
                let mut events = commits.iter().flat_map(|recorded| &recorded.events);
                if events.any(|event| event.event_type() == event_type) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("it is recorded");
    }

    /// The types of the run's events, commit by commit.
    pub(crate) async fn history(&self, run_id: &RunId) -> Vec<Vec<&'static str>> {
        let stream = StreamId::Run(run_id.clone());
        let commits = self.commits().await;
        let of_run = commits.iter().filter(|recorded| recorded.commit.stream == stream);
        of_run.map(|recorded| recorded.events.iter().map(|e| e.event_type()).collect()).collect()
    }

    pub(crate) async fn next_seq(&self) -> u64 {
        self.ledger.head(&acme()).await.unwrap().next_seq
    }

    pub(crate) fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    pub(crate) fn dag(id: &str) -> DagId {
        id.parse().unwrap()
    }
}
