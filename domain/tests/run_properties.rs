//! Whatever is asked of a run, in whatever order, its history keeps the rules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use stella_domain::{
    aggregate::{
        Aggregate, Outcome, Run, RunCommand, RunStatus, Standing, StartRun, StepPhase, Verdict,
    },
    artifact::{self, Artifact, ArtifactDigest},
    chain::{Commit, Draft, Head},
    dag::{DagSpec, PluginCatalog},
    event::{ErrorCode, Event, RunEvent},
    ids::{Actor, LedgerId, PluginName, RunId, StepId, StreamId, WorkerId},
    json::CanonicalJson,
    limits::{
        COMMIT_BYTES, COMMIT_EVENTS, EVENT_PART_BYTES, INLINE_BYTES, LEASE_EXPIRIES, LEASE_RETURNS,
        QUEUE_WAVE,
    },
    plugin::PluginBuild,
    time::Timestamp,
};

struct AnyPlugin;
impl PluginCatalog for AnyPlugin {
    fn actions(&self, _: &PluginName) -> Option<Vec<String>> {
        Some(vec!["noop".to_owned()])
    }
}

/// A step in the making: it needs some of those before it.
#[derive(Debug, Clone)]
struct Shape {
    needs: Vec<bool>,
    kind: Kind,
    when: Option<&'static str>,
    tolerated: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Once,
    /// For so many items, so many at once.
    Each(usize, u32),
    /// For the items that a step before it gave, if it gave any.
    EachOf,
    Approval,
}

fn shape() -> impl Strategy<Value = Shape> {
    let needs = prop::collection::vec(prop::bool::weighted(0.3), 6);
    let kind = prop_oneof![
        6 => Just(Kind::Once),
        2 => (0..5_usize, 1..4_u32).prop_map(|(items, at_once)| Kind::Each(items, at_once)),
        1 => Just(Kind::EachOf),
        1 => Just(Kind::Approval),
    ];
    let when = prop_oneof![
        6 => Just(None),
        1 => Just(Some("true")),
        1 => Just(Some("1 > 2")),
        1 => Just(Some("has(inputs.a)")),
        // Leads nowhere, unless there are inputs.
        1 => Just(Some("inputs.a.size() > 3")),
        2 => Just(Some("NEED == 'succeeded'")),
    ];
    let tolerated = prop::bool::weighted(0.3);
    (needs, kind, when, tolerated).prop_map(|(needs, kind, when, tolerated)| Shape {
        needs,
        kind,
        when,
        tolerated,
    })
}

fn plain(needs: &[Vec<bool>]) -> Vec<Shape> {
    let plain = |needs: &Vec<bool>| Shape {
        needs: needs.clone(),
        kind: Kind::Once,
        when: None,
        tolerated: false,
    };
    needs.iter().map(plain).collect()
}

fn spec(shapes: &[Shape], retries: u8, limited: bool) -> Arc<DagSpec> {
    let steps: Vec<serde_json::Value> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| {
            let needs = shape.needs.iter().take(i).enumerate().filter(|(_, n)| **n);
            let needs: Vec<String> = needs.map(|(j, _)| format!("s{j}")).collect();
            let mut step = serde_json::json!({ "id": format!("s{i}"), "needs": needs });
            if shape.tolerated {
                step["continueOnFailure"] = true.into();
            }
            match &shape.kind {
                Kind::Approval if shape.tolerated => {
                    step["approval"] = serde_json::json!({"message": "well?", "timeout": "1h"});
                }
                Kind::Approval => step["approval"] = serde_json::json!({"message": "well?"}),
                Kind::Once | Kind::Each(..) | Kind::EachOf => {
                    step["plugin"] = "p".into();
                    step["action"] = "noop".into();
                    step["retries"] = retries.into();
                    if limited {
                        step["totalTimeout"] = "90m".into();
                    }
                }
            }
            match (&shape.kind, needs.first()) {
                (Kind::Each(items, at_once), _) => {
                    step["forEach"] = vec![1; *items].into();
                    step["parallelism"] = (*at_once).into();
                    step["with"] = serde_json::json!({"i": "${item}", "n": "${index}"});
                }
                (Kind::EachOf, Some(need)) => {
                    step["forEach"] = format!("${{steps.{need}.outputs.list}}").into();
                }
                (Kind::Once | Kind::EachOf | Kind::Approval, _) => {}
            }
            match (shape.when, needs.last()) {
                (Some("NEED == 'succeeded'"), Some(need)) => {
                    step["when"] = format!("steps.{need}.status == 'succeeded'").into();
                }
                (Some("NEED == 'succeeded'") | None, _) => {}
                (Some(when), _) => step["when"] = when.into(),
            }
            step
        })
        .collect();
    let mut dag = serde_json::json!({
        "id": "d", "steps": steps, "outputs": {"last": "${steps.s0.outputs}"},
    });
    if limited {
        dag["timeout"] = "12h".into();
    }
    Arc::new(DagSpec::parse(&dag.to_string(), &AnyPlugin).unwrap())
}

/// What a plugin may give or a caller may ask for: from nothing up to what an event's payload just
/// holds, also where every character takes six bytes.
fn object(size: u8) -> CanonicalJson {
    let text = match size {
        0 => return CanonicalJson::empty_object(),
        1 => "x".repeat(1_000),
        2 => "\u{1}".repeat((INLINE_BYTES - 100) / 6),
        _ => "x".repeat(INLINE_BYTES - 100),
    };
    CanonicalJson::from_value(&serde_json::json!({ "a": text })).unwrap()
}

/// The same, with a list.
fn given(size: u8) -> CanonicalJson {
    let list = serde_json::json!({"list": [1, {"b": 2}, "three"]});
    if size == 1 { CanonicalJson::from_value(&list).unwrap() } else { object(size) }
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

fn log() -> Artifact {
    let digest = ArtifactDigest::of(b"what a plugin wrote");
    Artifact { digest, media_type: artifact::LOG.into(), name: None, size: 19 }
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
        given: None,
        labels: Default::default(),
        priority: 0,
        run_token: None,
        attempt: 0,
        rerun_of: None,
        reason: String::new(),
        schedule: None,
        now: Timestamp::from_micros(1_000_000),
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
    Decide(usize, bool),
    PassApproval(usize, bool),
    PassDeadline(bool),
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
        3 => (any::<usize>(), any::<bool>()).prop_map(|(s, yes)| Ask::Decide(s, yes)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(s, due)| Ask::PassApproval(s, due)),
        1 => prop::bool::weighted(0.2).prop_map(Ask::PassDeadline),
        1 => Just(Ask::StartAgain),
    ]
}

fn worker(n: u8) -> WorkerId {
    format!("w{n}").parse().unwrap()
}

fn step_id(i: usize) -> StepId {
    format!("s{i}").parse().unwrap()
}

fn run_id() -> RunId {
    "0RQ9CWTXP9BPJR3KTYEG0MB9FF".parse().unwrap()
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
        let n = self.run.steps.len();
        let step_id = |i: usize| self.run.records().nth(i).unwrap().0;
        let lease = |i: usize| self.leases.get(i % self.leases.len().max(1)).copied().unwrap_or(99);
        match ask {
            Ask::Grant(i, w) => RunCommand::GrantLease {
                step_id: step_id(i % n),
                worker_id: worker(*w),
                plugin: PluginBuild::default(),
                lease_ms: 1_000,
                now: self.now,
            },
            Ask::Complete { lease: i, by, outcome, size } => RunCommand::Complete {
                token: lease(*i),
                worker_id: worker(*by),
                outcome: match outcome {
                    0..=3 => Outcome::Succeeded { outputs: given(*size) },
                    4 | 5 => Outcome::Failed {
                        code: ErrorCode::lenient("BOOM"),
                        // Longer than what is kept of it, and longer still where it is escaped.
                        message: "\u{1}".repeat(usize::from(*size) * 50_000),
                        retryable: *outcome == 4,
                    },
                    6 => Outcome::TimedOut,
                    _ => Outcome::Cancelled,
                },
                log: (*size % 2 == 1).then(log),
                run_id: run_id(),
                now: self.now,
            },
            Ask::Expire(i) => {
                RunCommand::ExpireLease { token: lease(*i), log: Some(log()), now: self.now }
            }
            Ask::TimeOut(i) => RunCommand::TimeOut {
                token: lease(*i),
                log: Some(log()),
                run_id: run_id(),
                now: self.now,
            },
            Ask::Retry(i, due) => RunCommand::QueueRetry {
                step_id: step_id(i % n),
                now: if *due { self.now.plus_ms(3_600_000) } else { self.now },
            },
            Ask::Decide(i, yes) => RunCommand::Decide {
                step_id: step_id(i % n),
                verdict: if *yes { Verdict::Approved } else { Verdict::Rejected },
                reason: "because".to_owned(),
                now: self.now,
            },
            Ask::PassApproval(i, due) => RunCommand::PassApproval {
                step_id: step_id(i % n),
                now: if *due { self.now.plus_ms(3_600_000) } else { self.now },
            },
            Ask::PassDeadline(late) => RunCommand::PassDeadline {
                now: if *late { self.now.plus_ms(50_000_000) } else { self.now },
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
        self.check_lists();
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
        let step = self.run.step_spec(starting).unwrap();
        if step.id != *starting {
            let list = self.run.step(&step.id).unwrap();
            assert_eq!(list.phase, StepPhase::Expanded, "{event:?} before its list was expanded");
        }
        for need in &step.needs {
            let need = self.spec.step(*need);
            let phase = self.run.step(&need.id).unwrap().phase;
            let met = match phase {
                StepPhase::Succeeded => true,
                StepPhase::Failed => need.continue_on_failure,
                StepPhase::Skipped => step.when.is_some(),
                _ => false,
            };
            assert!(met, "{event:?} while {} is {phase:?}", need.id);
        }
    }

    /// No list has more items under way than it may.
    fn check_lists(&self) {
        for (id, record) in self.run.records() {
            let Some(items) = &record.items else { continue };
            let at_once = self.run.step_spec(&id).unwrap().for_each().unwrap().parallelism;
            let under_way = items.started.iter().filter(|at| {
                let phase = self.run.steps[**at].phase;
                !matches!(phase, StepPhase::Succeeded | StepPhase::Failed | StepPhase::Cancelled)
            });
            assert!(under_way.count() <= at_once as usize, "{id}: {items:?}");
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
                let run_id = run_id();
                self.ask(RunCommand::Complete {
                    token,
                    worker_id,
                    outcome,
                    log: None,
                    run_id,
                    now,
                });
            }
            let open: Vec<(StepId, StepPhase)> =
                self.run.records().map(|(id, record)| (id, record.phase)).collect();
            let now = self.now;
            for (step_id, phase) in open {
                let (verdict, reason) = (Verdict::Approved, String::new());
                match phase {
                    StepPhase::BackingOff { .. } => {
                        self.ask(RunCommand::QueueRetry { step_id, now });
                    }
                    StepPhase::Queued => {
                        let worker_id = worker(0);
                        self.ask(RunCommand::GrantLease {
                            step_id,
                            worker_id,
                            plugin: PluginBuild::default(),
                            lease_ms: 1,
                            now,
                        });
                    }
                    StepPhase::AwaitingApproval => {
                        self.ask(RunCommand::Decide { step_id, verdict, reason, now });
                    }
                    _ => {}
                }
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
        shapes in prop::collection::vec(shape(), 1..7),
        limited in any::<bool>(),
        retries in 0..3_u8,
        inputs in 0..4_u8,
        asks in prop::collection::vec(ask(), 0..120),
    ) {
        let spec = spec(&shapes, retries, limited);
        let mut history = History::new(Arc::clone(&spec), object(inputs));
        for ask in &asks {
            let command = history.command(ask);
            history.ask(command);
        }
        history.finish();
        let ends = history.events.iter().filter(|event| matches!(
            event,
            RunEvent::RunSucceeded(..)
                | RunEvent::RunFailed(_)
                | RunEvent::RunCancelled(_)
                | RunEvent::RunTimedOut(_)
        ));
        prop_assert_eq!(ends.count(), 1, "a run ends once");
        let expired = history.events.iter().filter(|e| matches!(e, RunEvent::StepLeaseExpired(..)));
        let most = history.run.steps.len() * (LEASE_EXPIRIES as usize + 1);
        prop_assert!(expired.count() <= most);
        let returned = history.events.iter().filter(|e| matches!(e, RunEvent::StepLeaseReturned(..)));
        let most = history.run.steps.len() * (LEASE_RETURNS as usize + 1);
        prop_assert!(returned.count() <= most);

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
    let spec = spec(&plain(&needs), 0, false);
    let mut history = History::new(spec, object(3));
    let (now, worker_id) = (history.now, worker(0));
    history.ask(RunCommand::GrantLease {
        step_id: step_id(0),
        worker_id,
        plugin: PluginBuild::default(),
        lease_ms: 1,
        now,
    });
    let (token, worker_id, run_id) = (history.leases[0], worker(0), run_id());
    let outcome = Outcome::Succeeded { outputs: object(3) };
    history.ask(RunCommand::Complete { token, worker_id, outcome, log: None, run_id, now });
    let queued = history.run.steps.iter().filter(|step| step.phase == StepPhase::Queued);
    assert_eq!(queued.count(), QUEUE_WAVE);
    history.finish();
    assert_eq!(history.run.status(), Some(RunStatus::Succeeded));
}

/// A worker that stops gives its steps back, and a long step survives each deploy; but not without end.
#[test]
fn a_step_is_given_back_many_times_and_not_for_ever() {
    let mut history = History::new(spec(&plain(&[vec![]]), 0, false), object(0));
    for returns in 0..=LEASE_RETURNS {
        assert_eq!(history.run.status(), Some(RunStatus::Running), "after {returns} returns");
        let (now, worker_id) = (history.now, worker(0));
        let (step_id, plugin) = (step_id(0), PluginBuild::default());
        history.ask(RunCommand::GrantLease { step_id, worker_id, plugin, lease_ms: 1, now });
        let token = *history.leases.last().unwrap();
        let (worker_id, run_id) = (worker(0), run_id());
        let outcome = Outcome::Cancelled;
        history.ask(RunCommand::Complete { token, worker_id, outcome, log: None, run_id, now });
    }
    let code = ErrorCode::lenient(ErrorCode::LEASE_RETURNED);
    let failed = RunEvent::RunFailed(stella_domain::event::RunFailed {
        error_code: code,
        step_id: step_id(0),
    });
    assert_eq!(history.events.last(), Some(&failed));
}

/// Ten thousand items: every one is carried out, and no commit is larger for there being so many.
#[test]
fn a_list_of_ten_thousand_items_is_carried_out_and_no_commit_grows_with_it() {
    let items: Vec<u32> = (0..10_000).collect();
    let dag = serde_json::json!({
        "id": "d",
        "outputs": {"first": "${steps.each.outputs.items[0].n}"},
        "steps": [
            {"id": "each", "plugin": "p", "action": "noop", "forEach": "${inputs.list}",
             "parallelism": 40, "with": {"n": "${item}"}, "retries": 1},
            {"id": "after", "plugin": "p", "action": "noop", "needs": ["each"]},
        ],
    });
    let spec = Arc::new(DagSpec::parse(&dag.to_string(), &AnyPlugin).unwrap());
    let inputs = CanonicalJson::from_value(&serde_json::json!({ "list": items })).unwrap();
    let mut run = Run::default();
    let record = |run: &mut Run, command: RunCommand| {
        let events = run.decide(command).unwrap();
        events.iter().for_each(|event| run.evolve(event));
        events
    };
    let started = record(&mut run, start_with(&spec, inputs));
    assert_eq!(started.len(), 2 + 40, "created, expanded, and what may run at once");
    let now = Timestamp::from_micros(2_000_000);
    let mut most = 0;
    for n in 0..10_000_u32 {
        let id: StepId = format!("each.{n}").parse().unwrap();
        assert_eq!(run.render_with(&id).unwrap().as_str(), format!("{{\"n\":{n}}}"));
        let (step_id, worker_id) = (id, worker(0));
        let lease = RunCommand::GrantLease {
            step_id,
            worker_id,
            plugin: PluginBuild::default(),
            lease_ms: 1,
            now,
        };
        let granted = record(&mut run, lease);
        let (token, worker_id, run_id) = (run.version, worker(0), run_id());
        let outputs = serde_json::json!({ "n": n });
        let outputs = CanonicalJson::from_value(&outputs).unwrap();
        let outcome = Outcome::Succeeded { outputs };
        let done = RunCommand::Complete { token, worker_id, outcome, log: None, run_id, now };
        most = most.max(granted.len()).max(record(&mut run, done).len());
    }
    assert_eq!(most, 3, "an item, its list and what needs it; else the item and the next");
    let (step_id, worker_id) = ("after".parse().unwrap(), worker(0));
    record(
        &mut run,
        RunCommand::GrantLease {
            step_id,
            worker_id,
            plugin: PluginBuild::default(),
            lease_ms: 1,
            now,
        },
    );
    let (token, worker_id, run_id) = (run.version, worker(0), run_id());
    let outcome = Outcome::Succeeded { outputs: CanonicalJson::empty_object() };
    record(&mut run, RunCommand::Complete { token, worker_id, outcome, log: None, run_id, now });
    assert_eq!(run.status(), Some(RunStatus::Succeeded));
    assert_eq!(run.outputs.unwrap().as_str(), "{\"first\":0}");
}
