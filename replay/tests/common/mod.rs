//! Ledgers told as stories: decided by the real aggregates, on a fixed clock with fixed salts.
// Each test file is a crate of its own and uses a part of this one.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub)]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use stella_domain::{
    aggregate::{
        Aggregate, Dag, DagCommand, Ledger as LedgerAggregate, LedgerCommand, Outcome, Run,
        RunCommand, StartRun,
    },
    chain::{Commit, Draft, Head},
    dag::{DagSpec, PluginCatalog},
    event::{ErrorCode, Event},
    hash::Salt,
    ids::{Actor, PluginName, RunId, StreamId, Tenant, WorkerId},
    json::CanonicalJson,
    plugin::PluginBuild,
    time::Timestamp,
};
use stella_ledger::{port::Ledger as _, sqlite::SqliteLedger};

/// 2026-11-23T09:00:00Z in microseconds.
const START: i64 = 1_795_424_400_000_000;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

pub fn golden(name: &str) -> String {
    fs::read_to_string(fixture(&format!("ledgers/{name}.ndjson"))).expect("golden ledger")
}

pub fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

struct Catalog;

impl PluginCatalog for Catalog {
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>> {
        (plugin.as_str() == "core").then(|| vec!["noop".to_owned(), "echo".to_owned()])
    }
}

pub struct Story {
    pub commits: Vec<Arc<Commit>>,
    head: Head,
    versions: HashMap<StreamId, u64>,
    ledger: LedgerAggregate,
    dag: Dag,
    run: Run,
    run_id: RunId,
    micros: i64,
    salts: u8,
}

impl Story {
    /// A ledger that was just opened.
    pub fn open() -> Self {
        let mut story = Self {
            commits: vec![],
            head: Head::EMPTY,
            versions: HashMap::new(),
            ledger: LedgerAggregate::default(),
            dag: Dag::default(),
            run: Run::default(),
            run_id: "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap(),
            micros: START,
            salts: 0,
        };
        story.ledger(LedgerCommand::Open { tenant: tenant() });
        story
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.micros)
    }

    pub fn wait_ms(&mut self, ms: i64) {
        self.micros += ms * 1000;
    }

    pub fn next_seq(&self) -> u64 {
        self.head.next_seq
    }

    pub fn ndjson(&self) -> String {
        let mut text = String::new();
        self.commits.iter().for_each(|commit| commit.write_ndjson(&mut text));
        text
    }

    pub async fn in_sqlite(&self, directory: &Path) -> Arc<SqliteLedger> {
        let ledger = SqliteLedger::open(directory.join("ledger.sqlite")).await.unwrap();
        ledger.append(&self.commits).await.unwrap();
        Arc::new(ledger)
    }

    pub fn ledger(&mut self, command: LedgerCommand) {
        let events = self.ledger.decide(command).unwrap();
        events.iter().for_each(|event| self.ledger.evolve(event));
        let events = events.into_iter().map(Event::Ledger).collect();
        self.record(StreamId::Ledger(tenant()), "system:ledger", events);
    }

    pub fn seal(&mut self, reason: &str) {
        self.ledger(LedgerCommand::Seal { reason: reason.to_owned() });
    }

    pub fn register(&mut self, spec: &str) -> Arc<DagSpec> {
        let spec = Arc::new(DagSpec::parse(spec, &Catalog).unwrap());
        let events = self
            .dag
            .decide(DagCommand::Register { spec: Arc::clone(&spec), reason: String::new() })
            .unwrap();
        events.iter().for_each(|event| self.dag.evolve(event));
        let events = events.into_iter().map(Event::Dag).collect();
        self.record(StreamId::Dag(spec.id().clone()), "user:alice", events);
        spec
    }

    /// From here on, [`run`](Self::run) is about a new run.
    pub fn start(&mut self, run_id: &str, spec: &Arc<DagSpec>, inputs: &str) {
        let now = self.now();
        self.run = Run::default();
        self.run_id = run_id.parse().unwrap();
        self.run(
            "user:bob",
            RunCommand::Start(StartRun {
                spec: Arc::clone(spec),
                dag_version: self.dag.active.unwrap(),
                version_is_explicit: false,
                inputs: CanonicalJson::parse(inputs).unwrap(),
                given: None,
                labels: [("purpose".to_owned(), "a golden ledger".to_owned())].into(),
                priority: 0,
                run_token: None,
                attempt: 0,
                rerun_of: None,
                reason: String::new(),
                schedule: None,
                now,
            }),
        );
    }

    pub fn run(&mut self, actor: &str, command: RunCommand) {
        let events = self.run.decide(command).unwrap();
        assert!(!events.is_empty(), "the story does not go on");
        events.iter().for_each(|event| self.run.evolve(event));
        let events = events.into_iter().map(Event::Run).collect();
        self.record(StreamId::Run(self.run_id.clone()), actor, events);
    }

    /// Lease `step`; the answer is the lease's token.
    pub fn grant(&mut self, step: &str) -> u64 {
        let version = self.run.version + 1;
        let worker_id = worker();
        let step_id = step.parse().unwrap();
        let now = self.now();
        let command = RunCommand::GrantLease {
            step_id,
            worker_id,
            plugin: PluginBuild::default(),
            lease_ms: 30_000,
            now,
        };
        self.run("worker:w-1", command);
        version
    }

    pub fn complete(&mut self, token: u64, outcome: Outcome) {
        let now = self.now();
        let run_id = self.run_id.clone();
        let command =
            RunCommand::Complete { token, worker_id: worker(), outcome, log: None, run_id, now };
        self.run("worker:w-1", command);
    }

    pub fn succeed(&mut self, step: &str, outputs: &str) {
        let token = self.grant(step);
        let outputs = CanonicalJson::parse(outputs).unwrap();
        self.complete(token, Outcome::Succeeded { outputs });
    }

    pub fn fail(&mut self, step: &str, code: &str, message: &str) {
        let token = self.grant(step);
        let (code, message) = (ErrorCode::lenient(code), message.to_owned());
        self.complete(token, Outcome::Failed { code, message, retryable: true });
    }

    fn record(&mut self, stream: StreamId, actor: &str, events: Vec<Event>) {
        let version = self.versions.entry(stream.clone()).or_insert(0);
        let stream_version = *version + 1;
        *version += events.len() as u64;
        let encoded = events.iter().map(|event| {
            self.salts = self.salts.wrapping_add(1);
            (event.encode(), Salt::from([self.salts; 16]))
        });
        let events = encoded.collect();
        let actor: Actor = actor.parse().unwrap();
        let draft = Draft { stream, stream_version, actor, events };
        let ledger = Arc::new("stella.example/acme".parse().unwrap());
        let now = Timestamp::from_micros(self.micros);
        let commit = Commit::seal(&ledger, &self.head, now, draft).unwrap();
        self.head = commit.head();
        self.commits.push(Arc::new(commit));
        self.micros += 125_001;
    }
}

fn worker() -> WorkerId {
    "w-1".parse().unwrap()
}

pub const SUCCEEDS: &str = "01KAR5T0000000000000000001";
pub const RETRIES: &str = "01KAR5T0000000000000000002";
pub const CANCELLED: &str = "01KAR5T0000000000000000003";

/// A diamond of four steps that goes well.
pub fn a_run_that_succeeds() -> Story {
    let mut story = Story::open();
    let spec = story.register(
        "id: diamond
inputs: {type: object}
steps:
- {id: a, plugin: core, action: echo, with: {text: '${inputs.text}'}}
- {id: b, plugin: core, action: noop, needs: [a]}
- {id: c, plugin: core, action: noop, needs: [a]}
- {id: d, plugin: core, action: noop, needs: [b, c]}",
    );
    story.start(SUCCEEDS, &spec, r#"{"text":"naïve – “quotes” \\ / \u0001 € 😀"}"#);
    story.succeed("a", r#"{"echo":{"big":1e21,"list":[0.1,-1,1e-7],"text":"x"}}"#);
    let b = story.grant("b");
    story.succeed("c", "{}");
    let outputs = CanonicalJson::empty_object();
    story.complete(b, Outcome::Succeeded { outputs });
    story.succeed("d", "{}");
    story.seal("end of the window");
    story
}

/// Two versions of a DAG; a run of the second that retries, times out, loses a worker and fails,
/// and one that is cancelled while a step runs.
pub fn retries_and_a_cancel() -> Story {
    let mut story = Story::open();
    story.register("id: flaky\nsteps: [{id: only, plugin: core, action: noop}]");
    let spec = story.register(
        "id: flaky
steps:
- {id: only, plugin: core, action: noop, retries: {max: 1, backoff: 1s}}
- {id: after, plugin: core, action: noop, needs: [only]}",
    );
    story.start(RETRIES, &spec, "{}");
    story.fail("only", "PLUGIN_EXIT", "exit status 2\nand a second line");
    story.wait_ms(2_000);
    let (step_id, now) = ("only".parse().unwrap(), story.now());
    story.run("system:dispatch", RunCommand::QueueRetry { step_id, now });
    let token = story.grant("only");
    story.wait_ms(30_000);
    let now = story.now();
    story.run("system:dispatch", RunCommand::ExpireLease { token, log: None, now });
    let token = story.grant("only");
    story.complete(token, Outcome::TimedOut);
    story.ledger(LedgerCommand::AcceptClockFault { reason: "the battery was empty".to_owned() });
    story.start(CANCELLED, &spec, r#"{"n":1.5}"#);
    let token = story.grant("only");
    story.run("user:bob", RunCommand::Cancel { reason: String::new() });
    story.complete(token, Outcome::Cancelled);
    story.seal("");
    story
}
