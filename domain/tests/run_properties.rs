//! Whatever is asked of a run, in whatever order, its history keeps the rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use stella_domain::{
    aggregate::{Aggregate, Outcome, Run, RunCommand, RunStatus, Standing, StartRun, StepPhase},
    chain::{Commit, Draft, Head},
    dag::{DagSpec, PluginCatalog},
    event::{ErrorCode, Event, RunEvent},
    ids::{Actor, LedgerId, PluginName, RunId, StepId, StreamId, WorkerId},
    json::CanonicalJson,
    limits::{COMMIT_BYTES, COMMIT_EVENTS, EVENT_PART_BYTES, LEASE_EXPIRIES, QUEUE_WAVE},
    time::Timestamp,
};

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned()])
    }
}

/// Each step needs some of those before it.
fn spec(needs: &[Vec<bool>], retries: u8) -> Arc<DagSpec> {
    let steps: Vec<serde_json::Value> = needs
        .iter()
        .enumerate()
        .map(|(i, needs)| {
            let needs: Vec<String> = needs
                .iter()
                .take(i)
                .enumerate()
                .filter(|(_, n)| **n)
                .map(|(j, _)| format!("s{j}"))
                .collect();
            serde_json::json!({
                "id": format!("s{i}"), "plugin": "p", "action": "noop", "needs": needs,
                "retries": retries,
            })
        })
        .collect();
    let text = serde_json::json!({"id": "d", "steps": steps}).to_string();
    Arc::new(DagSpec::parse(&text, &AnyPlugin).unwrap())
}

/// What a plugin may give or a caller may ask for: from nothing up to what an event's payload just
/// holds, also where every character takes six bytes.
fn object(size: u8) -> CanonicalJson {
    let text = match size {
        0 => return CanonicalJson::empty_object(),
        1 => "x".repeat(1_000),
        2 => "\u{1}".repeat((EVENT_PART_BYTES - 100) / 6),
        _ => "x".repeat(EVENT_PART_BYTES - 100),
    };
    CanonicalJson::from_value(&serde_json::json!({ "a": text })).unwrap()
}

/// The format's limits on what a commit carries, in canonical bytes.
fn check_sizes(events: &[RunEvent]) {
    assert!(events.len() <= COMMIT_EVENTS);
    let mut commit = 0;
    for event in events {
        let encoded = event.encode();
        for part in [Some(&encoded.data), encoded.payload.as_ref()].into_iter().flatten() {
            let bytes = part.as_str().len();
            assert!(
                bytes <= EVENT_PART_BYTES,
                "{bytes} bytes in one part of {}",
                event.event_type()
            );
            commit += bytes;
        }
    }
    assert!(commit <= COMMIT_BYTES, "{commit} bytes in one commit");
}

fn start(spec: &Arc<DagSpec>) -> RunCommand {
    start_with(spec, CanonicalJson::empty_object())
}

fn start_with(spec: &Arc<DagSpec>, inputs: CanonicalJson) -> RunCommand {
    RunCommand::Start(StartRun {
        spec: Arc::clone(spec),
        dag_version: 1,
        version_is_explicit: false,
        inputs,
        labels: Default::default(),
        priority: 0,
        run_token: None,
        attempt: 0,
        schedule: None,
    })
}

#[derive(Debug, Clone)]
enum Ask {
    Grant(usize, u8),
    Complete { lease: usize, by: u8, outcome: u8, size: u8 },
    Expire(usize),
    TimeOut(usize),
    Retry(usize, bool),
    Cancel,
    StartAgain,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        6 => (any::<usize>(), 0..2_u8).prop_map(|(s, w)| Ask::Grant(s, w)),
        8 => (any::<usize>(), 0..2_u8, 0..8_u8, 0..4_u8)
            .prop_map(|(lease, by, outcome, size)| Ask::Complete { lease, by, outcome, size }),
        2 => any::<usize>().prop_map(Ask::Expire),
        1 => any::<usize>().prop_map(Ask::TimeOut),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(s, due)| Ask::Retry(s, due)),
        1 => Just(Ask::Cancel),
        1 => Just(Ask::StartAgain),
    ]
}

fn worker(n: u8) -> WorkerId {
    format!("w{n}").parse().unwrap()
}

fn step_id(i: usize) -> StepId {
    format!("s{i}").parse().unwrap()
}

/// A history, and what it was checked for on the way.
struct History {
    spec: Arc<DagSpec>,
    run: Run,
    standing: Standing,
    events: Vec<RunEvent>,
    leases: Vec<u64>,
    now: Timestamp,
}

impl History {
    fn new(spec: Arc<DagSpec>, inputs: CanonicalJson) -> Self {
        let now = Timestamp::from_micros(1_000_000);
        let (run, standing) = (Run::default(), Standing::default());
        let mut history = Self { run, standing, events: vec![], leases: vec![], now, spec };
        history.ask(start_with(&history.spec.clone(), inputs));
        history
    }

    fn command(&self, ask: &Ask) -> RunCommand {
        let n = self.spec.steps().len();
        let lease = |i: usize| self.leases.get(i % self.leases.len().max(1)).copied().unwrap_or(99);
        match ask {
            Ask::Grant(i, w) => RunCommand::GrantLease {
                step_id: step_id(i % n),
                worker_id: worker(*w),
                lease_ms: 1_000,
            },
            Ask::Complete { lease: i, by, outcome, size } => RunCommand::Complete {
                token: lease(*i),
                worker_id: worker(*by),
                outcome: match outcome {
                    0..=3 => Outcome::Succeeded { outputs: object(*size) },
                    4 | 5 => Outcome::Failed {
                        code: ErrorCode::lenient("BOOM"),
                        // Longer than what is kept of it, and longer still where it is escaped.
                        message: "\u{1}".repeat(usize::from(*size) * 50_000),
                        retryable: *outcome == 4,
                    },
                    6 => Outcome::TimedOut,
                    _ => Outcome::Cancelled,
                },
                now: self.now,
            },
            Ask::Expire(i) => RunCommand::ExpireLease { token: lease(*i) },
            Ask::TimeOut(i) => RunCommand::TimeOut { token: lease(*i), now: self.now },
            Ask::Retry(i, due) => RunCommand::QueueRetry {
                step_id: step_id(i % n),
                now: if *due { self.now.plus_ms(3_600_000) } else { self.now },
            },
            Ask::Cancel => RunCommand::Cancel { reason: "because".to_owned() },
            Ask::StartAgain => start(&self.spec),
        }
    }

    /// Decide, and hold every rule on what comes of it.
    fn ask(&mut self, command: RunCommand) {
        let status = self.run.status();
        let ended_before = status.is_some_and(RunStatus::is_ended);
        let again = command.clone();
        let Ok(events) = self.run.decide(command) else { return };
        assert_eq!(self.run.decide(again).as_ref(), Ok(&events), "deciding is deterministic");
        check_sizes(&events);
        assert!(!ended_before || events.is_empty(), "nothing happens after the end: {events:?}");
        for event in events {
            self.check_before(&event, status.unwrap_or(RunStatus::Running));
            self.run.evolve(&event);
            self.standing.see(&event);
            if matches!(event, RunEvent::StepStarted(_)) {
                self.leases.push(self.run.version);
            }
            self.events.push(event);
        }
        assert_eq!(self.run.status(), Some(self.standing.status()), "{:?}", self.events);
        let open = self.run.open_leases().count();
        if self.run.status().is_some_and(RunStatus::is_ended) {
            assert_eq!(open, 0, "a run ends when nothing of it runs");
        }
    }

    fn check_before(&self, event: &RunEvent, status: RunStatus) {
        let starting = match event {
            RunEvent::StepQueued(data) => &data.step_id,
            RunEvent::StepStarted(data) => &data.step_id,
            _ => return,
        };
        assert_eq!(status, RunStatus::Running, "{event:?} while the run ends");
        let step = self.spec.step(self.spec.index_of(starting).unwrap());
        for need in &step.needs {
            let need = self.run.step(&self.spec.step(*need).id).unwrap();
            assert_eq!(need.phase, StepPhase::Succeeded, "{event:?} before its needs");
        }
    }

    /// Carry out whatever is open, well, until the run has ended.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.run.status().is_some_and(RunStatus::is_ended) {
                return;
            }
            self.now = self.now.plus_ms(3_600_000);
            let open: Vec<u64> = self.run.open_leases().map(|(_, l)| l.stream_version).collect();
            for token in open {
                let (worker_id, now) = (self.holder(token), self.now);
                let outcome = Outcome::Succeeded { outputs: CanonicalJson::empty_object() };
                self.ask(RunCommand::Complete { token, worker_id, outcome, now });
            }
            for i in 0..self.spec.steps().len() {
                self.ask(RunCommand::QueueRetry { step_id: step_id(i), now: self.now });
                let (step_id, worker_id) = (step_id(i), worker(0));
                self.ask(RunCommand::GrantLease { step_id, worker_id, lease_ms: 1 });
            }
        }
        panic!("the run does not end: {:?}", self.run);
    }

    fn holder(&self, token: u64) -> WorkerId {
        let held = self.run.open_leases().find(|(_, lease)| lease.stream_version == token);
        held.unwrap().1.worker_id.clone()
    }
}

/// The events as they come back from storage: sealed, decoded, the spec resolved again.
fn through_the_ledger(events: &[RunEvent], spec: &Arc<DagSpec>) -> Vec<RunEvent> {
    let ledger: Arc<LedgerId> = Arc::new("o/t".parse().unwrap());
    let run_id: RunId = "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap();
    let stream = StreamId::Run(run_id);
    let mut back = vec![];
    for (chunk, version) in events.chunks(COMMIT_EVENTS).zip((1..).step_by(COMMIT_EVENTS)) {
        let encoded = chunk.iter().map(|event| (event.encode(), [1; 16].into())).collect();
        let draft = Draft {
            stream: stream.clone(),
            stream_version: version,
            actor: Actor::user("a"),
            events: encoded,
        };
        let commit = Commit::seal(&ledger, &Head::EMPTY, Timestamp::ZERO, draft).unwrap();
        commit.verify().unwrap();
        for stored in &commit.events {
            match Event::decode(&stream, stored).unwrap() {
                Event::Run(RunEvent::RunCreated(mut created, request)) => {
                    created.spec = Some(Arc::clone(spec));
                    back.push(RunEvent::RunCreated(created, request));
                }
                Event::Run(event) => back.push(event),
                other => panic!("{other:?}"),
            }
        }
    }
    back
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_commands_keeps_the_rules(
        needs in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.3), 6), 1..7),
        retries in 0..3_u8,
        inputs in 0..4_u8,
        asks in prop::collection::vec(ask(), 0..120),
    ) {
        let spec = spec(&needs, retries);
        let mut history = History::new(Arc::clone(&spec), object(inputs));
        for ask in &asks {
            let command = history.command(ask);
            history.ask(command);
        }
        history.finish();
        let ends = history.events.iter().filter(|event| matches!(
            event,
            RunEvent::RunSucceeded(_) | RunEvent::RunFailed(_) | RunEvent::RunCancelled(_)
        ));
        prop_assert_eq!(ends.count(), 1, "a run ends once");
        let expired = history.events.iter().filter(|e| matches!(e, RunEvent::StepLeaseExpired(_)));
        let most = spec.steps().len() * (LEASE_EXPIRIES as usize + 1);
        prop_assert!(expired.count() <= most);

        let back = through_the_ledger(&history.events, &spec);
        prop_assert_eq!(&back, &history.events, "what is written is what is read");
        let mut folded = Run::default();
        back.iter().for_each(|event| folded.evolve(event));
        prop_assert_eq!(folded, history.run, "folding is deterministic");
    }
}

/// A fan-out wider than the wave stays within a commit's limits: steps queue in waves, also behind
/// outputs that are as large as they may be.
#[test]
fn a_wide_run_queues_in_waves_and_ends() {
    let mut needs = vec![vec![]; 1];
    needs.extend((1..700).map(|_| vec![true]));
    let spec = spec(&needs, 0);
    let mut history = History::new(spec, object(3));
    history.ask(RunCommand::GrantLease { step_id: step_id(0), worker_id: worker(0), lease_ms: 1 });
    let (token, now) = (history.leases[0], history.now);
    let outcome = Outcome::Succeeded { outputs: object(3) };
    history.ask(RunCommand::Complete { token, worker_id: worker(0), outcome, now });
    let queued = history.run.steps.iter().filter(|step| step.phase == StepPhase::Queued);
    assert_eq!(queued.count(), QUEUE_WAVE);
    history.finish();
    assert_eq!(history.run.status(), Some(RunStatus::Succeeded));
}
