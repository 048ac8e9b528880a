//! Schedules on a ledger: each fire is one run, whatever happens in between.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use stella_commands::{Refusal, engine::ScheduleChange};
use stella_domain::{
    aggregate::{ControlChange, ScheduleRefusal},
    event::{DagEvent, Event, MissReason, RunEvent, ScheduleEvent, ScheduleRequest},
    ids::{RunId, ScheduleId, StreamId},
    open_work::{OpenFireWork, OpenWork},
    schedule::{CatchUp, CompiledSchedule, Overlap, ScheduleSpec, Timing},
    time::Timestamp,
};
use stella_ledger::{clock::Clock as _, recorded::Recorded};
use tempfile::TempDir;

use crate::node::{Node, PATIENCE, TestClock, acme, json, open, operator, poll_of, refusal};

/// From one fire to the next: a lease holds for some of them.
const STEP_MS: i64 = 5_000;

fn id() -> ScheduleId {
    "often".parse().unwrap()
}

/// Every five seconds, on the DAG `one`.
fn spec(overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec {
        catch_up: CatchUp::Skip,
        dag_id: "one".parse().unwrap(),
        dag_version: None,
        end_at: None,
        fire_time_input: None,
        jitter_ms: 0,
        overlap,
        priority: 0,
        start_at: None,
        timing: Timing::Every { ms: 5_000 },
    }
}

async fn change(node: &Node, change: ScheduleChange) -> Vec<ScheduleEvent> {
    let changed = node.commands.change_schedule(&acme(), &operator(), &id(), change).await;
    changed.unwrap().0.events
}

fn set(spec: ScheduleSpec, inputs: &str) -> ScheduleChange {
    let spec = Arc::new(CompiledSchedule::compile(id(), spec).unwrap());
    let request = ScheduleRequest { inputs: json(inputs), labels: BTreeMap::new(), reason: None };
    ScheduleChange::Set { spec, request, exists: false }
}

/// Turn the clock, and have the node look at it.
async fn turn(node: &Node, ms: i64) {
    node.clock.turn_ms(ms);
    // The writer looks what is due whenever somebody asks for something; nobody gets anything here.
    let mut poll = poll_of("nobody", 1, Duration::ZERO);
    poll.plugins = Arc::new([Node::plugin("none").into()]);
    node.commands.poll(&acme(), poll).await;
}

/// What the ledger says of the schedule: fires by their time, with their run, and what was missed.
#[derive(Default, Debug)]
struct Told {
    fired: Vec<(Timestamp, RunId)>,
    missed: Vec<(Timestamp, Timestamp, MissReason)>,
    created: Vec<RunId>,
}

fn told(commits: &[Recorded]) -> Told {
    let mut told = Told::default();
    for recorded in commits {
        for event in &recorded.events {
            match (event, &recorded.commit.stream) {
                (Event::Schedule(ScheduleEvent::ScheduleFired(data, _)), _) => {
                    told.fired.push((data.fire_time, data.run_id.clone()));
                }
                (Event::Schedule(ScheduleEvent::ScheduleMissed(data)), _) => {
                    told.missed.push((data.from, data.to, data.reason));
                }
                (Event::Run(RunEvent::RunCreated(data, _)), StreamId::Run(run_id)) => {
                    assert!(data.schedule.is_some());
                    told.created.push(run_id.clone());
                }
                _ => {}
            }
        }
    }
    told
}

/// Wait until the ledger says so.
async fn until(node: &Node, what: &str, holds: impl Fn(&Told) -> bool) -> Told {
    let seen = async {
        loop {
            let told = told(&node.commits().await);
            if holds(&told) {
                return told;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(PATIENCE, seen).await {
        Ok(told) => told,
        Err(_) => panic!("{what}: {:?}", told(&node.commits().await)),
    }
}

async fn finish(node: &Node) -> RunId {
    let grant = node.lease("w1").await;
    node.succeed("w1", &grant, "{}").await;
    grant.token.run_id
}

#[tokio::test]
async fn a_schedule_fires_when_its_time_has_come_and_each_fire_is_one_run() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let mut with_time = spec(Overlap::Allow);
    with_time.fire_time_input = Some("at".to_owned());
    let created = change(&node, set(with_time.clone(), r#"{"n":1}"#)).await;
    assert_eq!(created.len(), 1);
    assert!(change(&node, set(with_time, r#"{"n":1}"#)).await.is_empty(), "the same again");
    for fires in 1..=3 {
        turn(&node, STEP_MS).await;
        until(&node, "it fires", |told| told.created.len() == fires).await;
    }
    let told = told(&node.commits().await);
    let fired: Vec<_> = told.fired.iter().map(|(_, run_id)| run_id.clone()).collect();
    assert_eq!(fired, told.created);
    assert!(told.fired.windows(2).all(|two| two[1].0 == two[0].0.plus_ms(5_000)));
    let commits = node.commits().await;
    let requests = commits.iter().flat_map(|recorded| &recorded.events);
    let inputs: Vec<_> = requests
        .filter_map(|event| match event {
            Event::Run(RunEvent::RunCreated(_, request)) => request.clone(),
            _ => None,
        })
        .collect();
    let expected = format!(r#"{{"at":"{}","n":1}}"#, told.fired[0].0);
    assert_eq!(inputs[0].inputs.as_str(), expected);
    assert!(inputs[0].run_token.as_ref().unwrap().starts_with("schedule/often/"));
}

#[tokio::test]
async fn while_a_run_goes_on_overlap_decides() {
    for (overlap, fired, created, missed) in [
        (Overlap::Allow, 3, 3, 0),
        (Overlap::Skip, 1, 1, 2),
        (Overlap::QueueOne, 2, 1, 1),
        (Overlap::CancelRunning, 2, 1, 1),
    ] {
        let dir = TempDir::new().unwrap();
        let node = Node::new(open(&dir).await, &TestClock::new()).await;
        change(&node, set(spec(overlap), "{}")).await;
        turn(&node, STEP_MS).await;
        until(&node, "the first", |told| told.created.len() == 1).await;
        // A worker holds it, so that it cannot end by itself.
        let held = node.lease("w1").await;
        turn(&node, STEP_MS).await;
        until(&node, "the second", |told| told.fired.len() + told.missed.len() == 2).await;
        turn(&node, STEP_MS).await;
        let told =
            until(&node, "the third", |told| told.fired.len() + told.missed.len() == 3).await;
        if overlap == Overlap::Allow {
            until(&node, "all run", |told| told.created.len() == 3).await;
            continue;
        }
        assert_eq!(
            (told.fired.len(), told.created.len(), told.missed.len()),
            (fired, created, missed),
            "{overlap:?}"
        );
        assert!(told.missed.iter().all(|(.., reason)| *reason == MissReason::Overlap));
        if overlap == Overlap::CancelRunning {
            node.recorded("RunCancelRequested").await;
            let outcome = stella_domain::aggregate::Outcome::Cancelled;
            node.report("w1", &held, outcome).await.unwrap();
        } else {
            node.succeed("w1", &held, "{}").await;
        }
        if overlap != Overlap::Skip {
            let told = until(&node, "its turn", |told| told.created.len() == 2).await;
            assert_eq!(told.created[1], told.fired[1].1, "the one that waited");
            assert_eq!(finish(&node).await, told.fired[1].1);
        }
    }
}

/// What holds a schedule back.
#[derive(Debug, Clone, Copy)]
enum Brake {
    All,
    Own,
    Dag,
}

async fn hold(node: &Node, brake: Brake, held: bool) {
    let (tenant, ann, reason) = (acme(), operator(), "r".to_owned());
    match brake {
        Brake::All => {
            let change =
                if held { ControlChange::PauseSchedulers } else { ControlChange::ResumeSchedulers };
            node.commands.change_control(&tenant, &ann, change, reason).await.unwrap();
        }
        Brake::Own => {
            let pause = ScheduleChange::Pause { paused: held, reason };
            assert_eq!(change(node, pause.clone()).await.len(), 1);
            assert!(change(node, pause).await.is_empty(), "the same again");
        }
        Brake::Dag => {
            let dag_id = Node::dag("one");
            node.commands.pause_dag(&tenant, &ann, &dag_id, held, reason).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_held_back_does_not_fire_and_is_caught_up_with_as_asked() {
    for brake in [Brake::All, Brake::Own, Brake::Dag] {
        let dir = TempDir::new().unwrap();
        let node = Node::new(open(&dir).await, &TestClock::new()).await;
        let mut catching = spec(Overlap::Allow);
        catching.catch_up = CatchUp::All(2.try_into().unwrap());
        change(&node, set(catching, "{}")).await;
        hold(&node, brake, true).await;
        for _ in 0..10 {
            turn(&node, 4 * STEP_MS).await;
        }
        turn(&node, 1).await;
        assert!(told(&node.commits().await).fired.is_empty(), "{brake:?}");
        hold(&node, brake, false).await;
        // The fires of the last minute were missed like those before: two are caught up with.
        turn(&node, STEP_MS).await;
        let told = until(&node, "it goes on", |told| told.created.len() == 3).await;
        assert_eq!(told.fired.len(), 3, "{brake:?}: {told:?}");
        assert_eq!(told.missed.len(), 1, "{brake:?}: {told:?}");
        let (first, last, reason) = told.missed[0];
        assert_eq!((last.ms_since(first), reason), (37 * 5_000, MissReason::Late));
        assert!(told.fired.windows(2).all(|two| two[1].0 == two[0].0.plus_ms(5_000)));
    }
}

/// The brake is recorded, although the fire's run is refused; whoever lets the DAG go on lets it start.
#[tokio::test]
async fn a_schedule_that_spends_a_budget_pauses_its_dag() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let budgeted = |step: &str| {
        let step = format!(r#"{{"id":"{step}","plugin":"core","action":"noop"}}"#);
        format!(r#"{{"id":"budgeted","budget":{{"starts":2,"window":"1h"}},"steps":[{step}]}}"#)
    };
    node.register(&budgeted("a")).await;
    let dag_id = Node::dag("budgeted");
    change(&node, set(ScheduleSpec { dag_id: dag_id.clone(), ..spec(Overlap::Allow) }, "{}")).await;
    for _ in 0..3 {
        turn(&node, STEP_MS).await;
    }
    until(&node, "three fires", |told| told.fired.len() == 3).await;
    let paused = async || {
        let commits = node.commits().await;
        commits.iter().flat_map(|recorded| &recorded.events).find_map(|event| match event {
            Event::Dag(DagEvent::DagPaused(data, _)) => data.brake.clone(),
            _ => None,
        })
    };
    let brake = tokio::time::timeout(PATIENCE, async {
        loop {
            match paused().await {
                Some(brake) => return brake,
                None => tokio::task::yield_now().await,
            }
        }
    });
    let brake = brake.await.expect("the DAG is paused");
    assert_eq!((brake.starts, brake.causes[0].schedule_id.clone()), (2, Some(id())));
    assert_eq!(told(&node.commits().await).created.len(), 2);
    // The DAG's stream goes on.
    node.register(&budgeted("b")).await;
    node.commands.pause_dag(&acme(), &operator(), &dag_id, false, "r".to_owned()).await.unwrap();
    until(&node, "the third run", |told| told.created.len() == 3).await;
}

#[tokio::test]
async fn a_trigger_fires_once_and_pending_ones_can_be_cleared() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    change(&node, set(spec(Overlap::QueueOne), "{}")).await;
    let fire_time = node.clock.now();
    let trigger = ScheduleChange::Trigger { fire_time, reason: String::new() };
    assert_eq!(change(&node, trigger.clone()).await.len(), 1);
    until(&node, "its run", |told| told.created.len() == 1).await;
    assert!(change(&node, trigger.clone()).await.is_empty(), "the same again");
    finish(&node).await;
    assert!(change(&node, trigger.clone()).await.is_empty(), "also when its run has ended");
    change(
        &node,
        ScheduleChange::Trigger { fire_time: fire_time.plus_ms(1), reason: String::new() },
    )
    .await;
    let held = node.lease("w1").await;
    turn(&node, STEP_MS).await;
    let told = until(&node, "one waits", |told| told.fired.len() == 3).await;
    let clear = ScheduleChange::Clear { reason: "stale".to_owned() };
    let cleared = change(&node, clear.clone()).await;
    let ScheduleEvent::TriggersCleared(data, _) = &cleared[0] else { panic!("{cleared:?}") };
    assert_eq!(data.fire_times, [told.fired[2].0]);
    assert!(change(&node, clear).await.is_empty());
    node.succeed("w1", &held, "{}").await;
    turn(&node, STEP_MS).await;
    let told = until(&node, "the next", |told| told.created.len() == 3).await;
    assert_ne!(told.created[2], told.fired[2].1, "what was cleared has no run");
    // Fired for the same time anew, it has one.
    let (fire_time, run_id) = told.fired[2].clone();
    let fired = change(&node, ScheduleChange::Trigger { fire_time, reason: String::new() }).await;
    assert_eq!(fired.len(), 1, "{fired:?}");
    let told = until(&node, "its run", |told| told.created.contains(&run_id)).await;
    assert_eq!(told.created.iter().filter(|created| **created == run_id).count(), 1);
    change(&node, ScheduleChange::Delete { reason: "r".to_owned() }).await;
    let again = node.commands.change_schedule(&acme(), &operator(), &id(), trigger).await;
    assert_eq!(refusal(again), Refusal::Schedule(id(), ScheduleRefusal::Unknown));
}

#[tokio::test]
async fn a_backfill_fires_a_few_at_a_time_and_passes_over_what_has_run() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    change(&node, set(spec(Overlap::Skip), "{}")).await;
    turn(&node, STEP_MS).await;
    let first = until(&node, "a fire", |told| told.created.len() == 1).await.fired[0].0;
    finish(&node).await;
    let until_then = |to, cap| ScheduleChange::Backfill {
        from: Timestamp::from_micros(first.as_micros() - 4 * STEP_MS * 1_000),
        to,
        cap,
        concurrency: NonZeroU32::new(2).unwrap(),
        reason: "r".to_owned(),
    };
    // The range ends before its end.
    node.clock.turn_ms(1);
    let backfill = |cap| until_then(first.plus_ms(1), cap);
    let ahead = until_then(first.plus_ms(3_600_000), 5);
    let refused = node.commands.change_schedule(&acme(), &operator(), &id(), ahead).await;
    let ahead = Refusal::Schedule(
        id(),
        ScheduleRefusal::BackfillAhead { to: first.plus_ms(3_600_000), now: node.clock.now() },
    );
    assert_eq!(refusal(refused), ahead, "what is not past fires by itself");
    let refused = node.commands.change_schedule(&acme(), &operator(), &id(), backfill(4)).await;
    let too_large = ScheduleRefusal::BackfillTooLarge { cap: 4 };
    assert_eq!(refusal(refused), Refusal::Schedule(id(), too_large));
    change(&node, backfill(5)).await;
    let refused = node.commands.change_schedule(&acme(), &operator(), &id(), backfill(5)).await;
    assert_eq!(refusal(refused), Refusal::Schedule(id(), ScheduleRefusal::BackfillUnderWay));
    until(&node, "two at once", |told| told.created.len() == 3).await;
    assert_eq!(told(&node.commits().await).fired.len(), 3, "and no more");
    for _ in 0..4 {
        finish(&node).await;
    }
    let told = until(&node, "the rest", |told| told.missed.len() == 1).await;
    assert_eq!(told.created.len(), 5);
    assert_eq!(told.missed, [(first, first, MissReason::HasRun)]);
    change(&node, backfill(5)).await;
    let told = until(&node, "all have run", |told| told.missed.len() == 6).await;
    assert_eq!(told.created.len(), 5, "nothing twice");
}

#[tokio::test]
async fn what_would_not_start_is_refused_when_it_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.register(
        r#"{"id":"typed","inputs":{"type":"object","properties":{"n":{"type":"integer"}},
            "required":["n"]},"steps":[{"id":"a","plugin":"core","action":"noop"}]}"#,
    )
    .await;
    let ask = async |dag: &str, inputs: &str| {
        let spec = ScheduleSpec { dag_id: dag.parse().unwrap(), ..spec(Overlap::Allow) };
        let change = set(spec, inputs);
        refusal(node.commands.change_schedule(&acme(), &operator(), &id(), change).await)
    };
    assert!(matches!(ask("nothere", "{}").await, Refusal::Dag(..)));
    assert!(matches!(ask("typed", "{}").await, Refusal::Run(_)));
    let next = node.next_seq().await;
    let unknown = ScheduleChange::Pause { paused: true, reason: String::new() };
    let unknown = node.commands.change_schedule(&acme(), &operator(), &id(), unknown).await;
    assert_eq!(refusal(unknown), Refusal::Schedule(id(), ScheduleRefusal::Unknown));
    assert_eq!(node.next_seq().await, next, "nothing was recorded");
}

/// A fire that is decided and whose run does not exist yet is work that is open: whoever starts next
/// carries it out, once.
#[tokio::test]
async fn a_fire_without_its_run_is_made_up_for_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let ledger = open(&dir).await;
    let clock = TestClock::new();
    let node = Node::new(Arc::clone(&ledger), &clock).await;
    change(&node, set(spec(Overlap::Allow), "{}")).await;
    // Paused, so that the fire is decided and its run refused.
    node.commands
        .pause_dag(&acme(), &operator(), &Node::dag("one"), true, String::new())
        .await
        .unwrap();
    change(&node, ScheduleChange::Trigger { fire_time: clock.now(), reason: String::new() }).await;
    let refused = async {
        while node.commands.refused_fires(&acme(), &id()).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is refused");
    assert!(node.commands.refused_fires(&acme(), &id())[0].1.contains("paused"));
    let fired = told(&node.commits().await).fired;
    node.stop().await;
    let fires = vec![OpenFireWork {
        schedule_id: id(),
        fire_time: fired[0].0,
        run_id: fired[0].1.clone(),
        after: None,
        cancels: false,
        backfill: false,
        started: false,
    }];
    let head = ledger.head(&acme()).await.unwrap();
    let work = OpenWork {
        head,
        paused_dags: vec![Node::dag("one")],
        schedules: vec![id()],
        fires,
        ..OpenWork::default()
    };
    // Two nodes at once: one run comes of it.
    let one = Node::start(Arc::clone(&ledger), &clock, Some(work.clone()));
    let other = Node::start(Arc::clone(&ledger), &clock, Some(work));
    let dag = Node::dag("one");
    one.commands.pause_dag(&acme(), &operator(), &dag, false, String::new()).await.unwrap();
    let told = until(&one, "its run", |told| told.created.len() == 1).await;
    assert_eq!(told.created[0], fired[0].1);
    turn(&one, STEP_MS).await;
    turn(&other, 0).await;
    until(&one, "the next fire", |told| told.created.len() == 2).await;
    turn(&other, 1).await;
    let told = self::told(&one.commits().await);
    assert_eq!((told.fired.len(), told.created.len()), (2, 2), "{told:?}");
}
