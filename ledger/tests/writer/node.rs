//! A writer on a SQLite ledger, and what must hold of the ledger whatever happened.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use stella_domain::{
    chain::Head,
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::{
    clock::{Clock, SystemClock},
    feed::Feed,
    port::{Ledger, READ_LIMIT},
    recorded::Recorded,
    snapshots::NoSnapshots,
    sqlite::SqliteLedger,
    writer::{WriteError, Writer, WriterConfig, Written},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::counter::{Command, Counters, Watched, ids_of};

/// A running writer.
pub(crate) struct Node {
    pub(crate) writer: Writer<Counters>,
    pub(crate) task: JoinHandle<()>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) watched: Watched,
}

impl Node {
    pub(crate) fn start(ledger: Arc<dyn Ledger>) -> Self {
        Self::with_clock(ledger, Arc::new(SystemClock))
    }

    pub(crate) fn with_clock(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self::of_origin("stella.test", ledger, clock)
    }

    pub(crate) fn of_origin(origin: &str, ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        let feed = Feed::new(Arc::clone(&ledger));
        let watched = Watched::default();
        let origin = origin.parse().unwrap();
        let config =
            WriterConfig { origin, clock, snapshots: Arc::new(NoSnapshots), known: HashMap::new() };
        let decider = Counters::new(&watched);
        let (writer, task) = Writer::start(config, ledger, Arc::clone(&feed), decider);
        Self { writer, task, feed, watched }
    }

    pub(crate) async fn run(&self, command: Command) -> Result<Written<usize>, WriteError> {
        self.writer.execute(&tenant("acme"), command).await
    }

    /// Send `command` off; when this returns it has been decided.
    pub(crate) async fn send(&self, of: &str, command: Command) -> Answer {
        let (writer, of) = (self.writer.clone(), tenant(of));
        let decided = self.watched.decided_so_far();
        let answer = tokio::spawn(async move { writer.execute(&of, command).await });
        self.watched.decided(decided + 1).await;
        answer
    }

    /// What a client does: send it again until it is done.
    pub(crate) async fn run_until_done(&self, command: Command) -> Written<usize> {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..400 {
            match self.run(command.clone()).await {
                Ok(written) => return written,
                Err(WriteError::Unavailable(_) | WriteError::OutcomeUnknown(_)) => {}
                Err(other) => panic!("{other}"),
            }
            pause.tick().await;
        }
        panic!("the writer did not recover");
    }
}

pub(crate) type Answer = JoinHandle<Result<Written<usize>, WriteError>>;

pub(crate) async fn open(dir: &TempDir) -> Arc<SqliteLedger> {
    Arc::new(SqliteLedger::open(dir.path().join("ledger.sqlite")).await.unwrap())
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

/// The ids in the ledger, one for each event, once everything that must always hold was checked:
/// dense seq, an intact chain, dense stream versions.
pub(crate) async fn recorded_ids(ledger: &dyn Ledger, of: &str) -> Vec<u32> {
    let mut head = Head::EMPTY;
    let mut versions: HashMap<StreamId, u64> = HashMap::new();
    let mut ids = vec![];
    loop {
        let page = ledger.read(&tenant(of), head.next_seq, READ_LIMIT).await.unwrap();
        if page.is_empty() {
            return ids;
        }
        for commit in page {
            commit.verify().unwrap();
            commit.verify_follows(&head).unwrap();
            head = commit.head();
            let version = versions.entry(commit.stream.clone()).or_insert(1);
            assert_eq!(commit.stream_version, *version, "{}", commit.stream);
            *version += commit.events.len() as u64;
            ids.extend(ids_of(&Recorded::decode(commit).unwrap()));
        }
    }
}

/// A clock that the test turns.
#[derive(Default)]
pub(crate) struct TurnedClock(AtomicI64);

impl TurnedClock {
    pub(crate) fn set_ms(&self, ms: i64) {
        self.0.store(ms * 1_000, SeqCst);
    }
}

impl Clock for TurnedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(SeqCst))
    }
}
