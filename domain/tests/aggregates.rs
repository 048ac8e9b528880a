//! The aggregates, given / when / then: the cases of `fixtures/aggregates`.
//!
//! A case's name is the sentence that it proves. `given` is asked first and must be taken; the
//! outcome of `when` stands in the `.golden` sibling. `UPDATE_GOLDEN=1` rewrites them, for review
//! in the diff.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fmt::{Display, Write as _},
    fs,
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use stella_domain::{
    aggregate::{
        Aggregate, Control, ControlChange, ControlCommand, Dag, DagCommand, DagRefusal, Ledger,
        LedgerCommand, Outcome, Run, RunCommand, RunRefusal, RunStatus, RunToErase, StartRun,
        Verdict, VersionChange,
    },
    checkpoint::{SigningKey, SigningKeyRotated},
    dag::{DagSpec, PluginCatalog},
    event::{ControlEvent, DagEvent, EncodedEvent, ErrorCode, Labels, LedgerEvent, RunEvent},
    ids::{PluginName, RunId, RunToken, StepId, Tenant, WorkerId},
    json::CanonicalJson,
    plugin::WorkerPlugin,
    time::Timestamp,
};

/// 2026-11-23T09:00:00Z, where every case begins.
const START_MICROS: i64 = 1_795_424_400_000_000;

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned(), "echo".to_owned()])
    }
}

fn spec(json: &CanonicalJson) -> Arc<DagSpec> {
    Arc::new(DagSpec::parse(json.as_str(), &AnyPlugin).expect("a spec"))
}

/// One thing in a case: a command, or an event as it would come from storage.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Item<A, E> {
    Ask(A),
    Recorded(E),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case<A, E> {
    /// What runs follow unless they say otherwise.
    spec: Option<CanonicalJson>,
    given: Vec<Item<A, E>>,
    when: A,
}

/// An aggregate as its cases know it.
trait Subject: Aggregate<Error: Display> {
    type Ask: DeserializeOwned;
    type Fact: DeserializeOwned;
    fn command(ask: Self::Ask, spec: Option<&CanonicalJson>) -> Self::Command;
    fn event(fact: Self::Fact) -> Self::Event;
    fn encode(event: &Self::Event) -> EncodedEvent;
    /// What the refusal says beyond its text.
    fn details(_: &Self::Error) -> String {
        String::new()
    }
    /// What is worth seeing of the state afterwards.
    fn state(&self) -> String;
}

fn outcome<S: Subject>(case: Case<S::Ask, S::Fact>) -> String {
    let mut subject = S::default();
    for (i, item) in case.given.into_iter().enumerate() {
        let events = match item {
            Item::Recorded(fact) => vec![S::event(fact)],
            Item::Ask(ask) => {
                let command = S::command(ask, case.spec.as_ref());
                subject.decide(command).unwrap_or_else(|e| panic!("given[{i}] is refused: {e}"))
            }
        };
        events.iter().for_each(|event| subject.evolve(event));
    }
    let mut text = String::new();
    match subject.decide(S::command(case.when, case.spec.as_ref())) {
        Err(refusal) => write!(text, "refused: {refusal}\n{}", S::details(&refusal)).unwrap(),
        Ok(events) if events.is_empty() => text.push_str("nothing to append\n"),
        Ok(events) => {
            for event in &events {
                let EncodedEvent { event_type, data, payload, .. } = S::encode(event);
                writeln!(text, "{event_type} {data}").unwrap();
                if let Some(payload) = payload {
                    writeln!(text, "    payload {payload}").unwrap();
                }
                subject.evolve(event);
            }
        }
    }
    writeln!(text, "then {}", subject.state()).unwrap();
    text
}

/// Hold every case of the folder against its golden file.
#[track_caller]
fn check<S: Subject>(folder: &str) {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/aggregates"));
    let folder = root.join(folder);
    let rewrite = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut cases, mut goldens, mut failed) = (BTreeSet::new(), BTreeSet::new(), vec![]);
    for entry in fs::read_dir(&folder).expect("the folder of cases") {
        let path = entry.expect("a folder entry").path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_some_and(|extension| extension == "golden") {
            goldens.insert(name);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a case");
        let case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outcome = outcome::<S>(case);
        let golden = path.with_extension("golden");
        if rewrite {
            fs::write(&golden, &outcome).expect("a golden file written");
        } else if fs::read_to_string(&golden).ok().as_ref() != Some(&outcome) {
            failed.push(format!("{name}:\n{outcome}"));
        }
        cases.insert(name);
    }
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(rewrite || goldens.is_subset(&cases), "a golden file without its case");
}

#[test]
fn runs() {
    check::<Run>("run");
}

#[test]
fn dags() {
    check::<Dag>("dag");
}

#[test]
fn controls() {
    check::<Control>("control");
}

#[test]
fn ledgers() {
    check::<Ledger>("ledger");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum RunAsk {
    Start(StartAsk),
    #[serde(rename_all = "camelCase")]
    Grant {
        step: StepId,
        worker: WorkerId,
        plugin: Option<WorkerPlugin>,
        #[serde(default)]
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    Complete {
        token: u64,
        worker: WorkerId,
        outcome: OutcomeAsk,
        #[serde(default)]
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    Expire {
        token: u64,
        #[serde(default)]
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    Return {
        token: u64,
        #[serde(default)]
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    TimeOut {
        token: u64,
        #[serde(default)]
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    QueueRetry {
        step: StepId,
        at_ms: u64,
    },
    Cancel {
        reason: String,
    },
    Approve {
        step: StepId,
        reason: String,
    },
    Reject {
        step: StepId,
        reason: String,
    },
    #[serde(rename_all = "camelCase")]
    PassApproval {
        step: StepId,
        at_ms: u64,
    },
    #[serde(rename_all = "camelCase")]
    PassDeadline {
        at_ms: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StartAsk {
    #[serde(default = "CanonicalJson::empty_object")]
    inputs: CanonicalJson,
    spec: Option<CanonicalJson>,
    /// Named by the caller.
    version: Option<u32>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    priority: i32,
    run_token: Option<RunToken>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum OutcomeAsk {
    Succeeded(CanonicalJson),
    Failed { code: String, message: String, retryable: bool },
    TimedOut,
    Cancelled,
}

fn run_id() -> RunId {
    "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap()
}

fn decide(step_id: StepId, verdict: Verdict, reason: String) -> RunCommand {
    RunCommand::Decide { step_id, verdict, reason, now: at(0) }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_micros(START_MICROS).plus_ms(ms)
}

impl Subject for Run {
    type Ask = RunAsk;
    type Fact = RunEvent;

    fn command(ask: RunAsk, case_spec: Option<&CanonicalJson>) -> RunCommand {
        match ask {
            RunAsk::Start(start) => RunCommand::Start(StartRun {
                spec: spec(start.spec.as_ref().or(case_spec).expect("a spec")),
                dag_version: start.version.unwrap_or(1),
                version_is_explicit: start.version.is_some(),
                inputs: start.inputs,
                given: None,
                labels: start.labels,
                priority: start.priority,
                run_token: start.run_token,
                attempt: 0,
                rerun_of: None,
                reason: String::new(),
                schedule: None,
                now: at(0),
            }),
            RunAsk::Grant { step, worker, plugin, at_ms } => RunCommand::GrantLease {
                step_id: step,
                worker_id: worker,
                plugin: plugin.map(|plugin| plugin.build).unwrap_or_default(),
                lease_ms: 30_000,
                now: at(at_ms),
            },
            RunAsk::Complete { token, worker, outcome, at_ms } => {
                let outcome = match outcome {
                    OutcomeAsk::Succeeded(outputs) => Outcome::Succeeded { outputs },
                    OutcomeAsk::Failed { code, message, retryable } => {
                        Outcome::Failed { code: ErrorCode::lenient(&code), message, retryable }
                    }
                    OutcomeAsk::TimedOut => Outcome::TimedOut,
                    OutcomeAsk::Cancelled => Outcome::Cancelled,
                };
                let (run_id, now) = (run_id(), at(at_ms));
                RunCommand::Complete { token, worker_id: worker, outcome, log: None, run_id, now }
            }
            RunAsk::Expire { token, at_ms } => {
                RunCommand::ExpireLease { token, log: None, now: at(at_ms) }
            }
            RunAsk::Return { token, at_ms } => RunCommand::ReturnLease { token, now: at(at_ms) },
            RunAsk::TimeOut { token, at_ms } => {
                RunCommand::TimeOut { token, log: None, run_id: run_id(), now: at(at_ms) }
            }
            RunAsk::QueueRetry { step, at_ms } => {
                RunCommand::QueueRetry { step_id: step, now: at(at_ms) }
            }
            RunAsk::Cancel { reason } => RunCommand::Cancel { reason },
            RunAsk::Approve { step, reason } => decide(step, Verdict::Approved, reason),
            RunAsk::Reject { step, reason } => decide(step, Verdict::Rejected, reason),
            RunAsk::PassApproval { step, at_ms } => {
                RunCommand::PassApproval { step_id: step, now: at(at_ms) }
            }
            RunAsk::PassDeadline { at_ms } => RunCommand::PassDeadline { now: at(at_ms) },
        }
    }

    fn event(fact: RunEvent) -> RunEvent {
        fact
    }

    fn encode(event: &RunEvent) -> EncodedEvent {
        event.encode()
    }

    fn details(refusal: &RunRefusal) -> String {
        let RunRefusal::InputsInvalid { violations, .. } = refusal else { return String::new() };
        violations.listed.iter().map(|violation| format!("    {violation}\n")).collect()
    }

    fn state(&self) -> String {
        let status = self.status().map_or("there is no run", |status| status.as_str());
        let steps = self.records().map(|(id, record)| format!(", {id} {}", record.phase.as_str()));
        format!("{status}{}", steps.collect::<String>())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum DagAsk {
    Register(CanonicalJson),
    Activate(u32),
    RollBack(u32),
    Disable(u32),
    Enable(u32),
    Pause(bool),
}

impl Subject for Dag {
    type Ask = DagAsk;
    type Fact = DagEvent;

    fn command(ask: DagAsk, _: Option<&CanonicalJson>) -> DagCommand {
        let (version, change) = match ask {
            DagAsk::Register(json) => {
                return DagCommand::Register { spec: spec(&json), reason: String::new() };
            }
            DagAsk::Pause(paused) => {
                return DagCommand::Pause { paused, reason: "because".to_owned() };
            }
            DagAsk::Activate(version) => (version, VersionChange::Activate),
            DagAsk::RollBack(version) => (version, VersionChange::RollBack),
            DagAsk::Disable(version) => (version, VersionChange::Disable),
            DagAsk::Enable(version) => (version, VersionChange::Enable),
        };
        DagCommand::Version { version, change, reason: "because".to_owned() }
    }

    fn event(fact: DagEvent) -> DagEvent {
        fact
    }

    fn encode(event: &DagEvent) -> EncodedEvent {
        event.encode()
    }

    fn state(&self) -> String {
        let active = self.active.map_or("none".to_owned(), |version| version.to_string());
        let versions = self.versions.keys().collect::<Vec<_>>();
        let disabled: Vec<u32> = self.disabled().collect();
        let paused = if self.paused { ", paused" } else { "" };
        match disabled.as_slice() {
            [] => format!("versions {versions:?}, active {active}{paused}"),
            _ => format!("versions {versions:?}, active {active}, disabled {disabled:?}{paused}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum LedgerAsk {
    Open {
        tenant: Tenant,
    },
    Seal {
        reason: String,
    },
    AcceptClockFault {
        reason: String,
    },
    /// Between the keys whose seeds are these bytes, 32 times over.
    RotateKey {
        ledger: String,
        old: u8,
        new: u8,
    },
    /// The same, but what is said to be the old key's signature is the new one's.
    RotateKeyAlone {
        ledger: String,
        old: u8,
        new: u8,
    },
    #[serde(rename_all = "camelCase")]
    Erase {
        run_id: RunId,
        /// None: there is no such run.
        status: Option<RunStatus>,
        payloads: Vec<u64>,
        named: Option<u64>,
        as_of: u64,
        reason: String,
    },
}

fn rotation(ledger: &str, old: u8, new: u8) -> SigningKeyRotated {
    let key = |seed| SigningKey::from_bytes(&[seed; 32]);
    SigningKeyRotated::sign(&ledger.parse().expect("a ledger"), &key(old), &key(new))
}

impl Subject for Ledger {
    type Ask = LedgerAsk;
    type Fact = LedgerEvent;

    fn command(ask: LedgerAsk, _: Option<&CanonicalJson>) -> LedgerCommand {
        match ask {
            LedgerAsk::Open { tenant } => LedgerCommand::Open { tenant },
            LedgerAsk::Seal { reason } => LedgerCommand::Seal { reason },
            LedgerAsk::AcceptClockFault { reason } => LedgerCommand::AcceptClockFault { reason },
            LedgerAsk::RotateKey { ledger, old, new } => {
                LedgerCommand::RotateKey { rotation: Box::new(rotation(&ledger, old, new)) }
            }
            LedgerAsk::RotateKeyAlone { ledger, old, new } => {
                let mut rotation = rotation(&ledger, old, new);
                rotation.old_signature = rotation.new_signature.clone();
                LedgerCommand::RotateKey { rotation: Box::new(rotation) }
            }
            LedgerAsk::Erase { run_id, status, payloads, named, as_of, reason } => {
                LedgerCommand::Erase {
                    run: Arc::new(RunToErase { run_id, status, payloads, named, as_of }),
                    reason: reason.parse().expect("a reason"),
                }
            }
        }
    }

    fn event(fact: LedgerEvent) -> LedgerEvent {
        fact
    }

    fn encode(event: &LedgerEvent) -> EncodedEvent {
        event.encode()
    }

    fn state(&self) -> String {
        let opened = if self.opened { "opened" } else { "not opened" };
        let fault = self.clock_fault_accepted_at;
        let fault = fault.map(|at| format!("clock fault accepted at {at}"));
        let key = self.signing_key.as_ref().map(|key| format!("signed by {key}"));
        let erased = self.erased_at.map(|at| format!("erased at {at}"));
        let all = [Some(opened.to_owned()), fault, key, erased];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Subject for Control {
    type Ask = ControlChange;
    type Fact = ControlEvent;

    fn command(change: ControlChange, _: Option<&CanonicalJson>) -> ControlCommand {
        ControlCommand { change, reason: "because".to_owned() }
    }

    fn event(fact: ControlEvent) -> ControlEvent {
        fact
    }

    fn encode(event: &ControlEvent) -> EncodedEvent {
        event.encode()
    }

    fn state(&self) -> String {
        let Self { dispatch_paused, plugins_paused, schedulers_paused, draining, limits, .. } =
            self;
        let all = [
            dispatch_paused.then(|| "paused".to_owned()),
            (!plugins_paused.is_empty()).then(|| format!("paused {plugins_paused:?}")),
            schedulers_paused.then(|| "schedulers paused".to_owned()),
            draining.map(|drain| format!("draining, then pause {}", drain.then_pause)),
        ];
        let limits = limits.iter().map(|(scope, limit)| Some(format!("{scope}: {limit} at once")));
        let all: Vec<String> = all.into_iter().chain(limits).flatten().collect();
        if all.is_empty() { "nothing is held back".to_owned() } else { all.join(", ") }
    }
}

/// What a run starts with is asked of the DAG, not decided by it.
#[test]
fn a_run_starts_with_the_version_asked_for_or_the_active_one() {
    let registered = |dag: &mut Dag, action: &str| {
        let step = serde_json::json!({"id": "a", "plugin": "core", "action": action});
        let json = serde_json::json!({"id": "d", "steps": [step]});
        let spec = spec(&CanonicalJson::from_value(&json).unwrap());
        for event in dag.decide(DagCommand::Register { spec, reason: String::new() }).unwrap() {
            dag.evolve(&event);
        }
    };
    let mut dag = Dag::default();
    assert_eq!(dag.startable(None), Err(DagRefusal::Unknown));
    assert_eq!(dag.startable(Some(1)), Err(DagRefusal::Unknown));
    registered(&mut dag, "noop");
    registered(&mut dag, "echo");
    registered(&mut dag, "noop");
    assert_eq!(dag.startable(None).map(|(version, _)| version), Ok(2));
    assert_eq!(dag.startable(Some(1)).map(|(version, _)| version), Ok(1));
    assert_eq!(dag.startable(Some(3)), Err(DagRefusal::UnknownVersion { asked: 3, newest: 2 }));
    dag.versions.get_mut(&2).unwrap().spec = None;
    assert!(matches!(dag.startable(None), Err(DagRefusal::Unreadable { version: 2, .. })));
}
