//! What operators hold back is not leased, from the very event on that says so.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{future::join_all, poll};
use stella_commands::{
    Refusal,
    dispatch::{Hold, Wait},
};
use stella_domain::{
    aggregate::{Aggregate as _, Control, ControlChange, ControlRefusal, DagRefusal},
    event::{DagEvent, Event, LimitScope, RunEvent},
    ids::{RunId, StreamId},
    open_work::{CountedStart, OpenWork},
};
use stella_ledger::clock::Clock as _;
use tempfile::TempDir;

use crate::node::{
    Node, PATIENCE, TestClock, acme, json, new_run, open, operator, poll_of, refusal,
};

async fn change(node: &Node, change: ControlChange) {
    let reason = "because".to_owned();
    node.commands.change_control(&acme(), &operator(), change, reason).await.unwrap();
}

async fn pause_dag(node: &Node, dag: &str, paused: bool) {
    let dag = Node::dag(dag);
    node.commands.pause_dag(&acme(), &operator(), &dag, paused, String::new()).await.unwrap();
}

fn why(node: &Node, run_id: &RunId) -> Option<Wait> {
    let step = "a".parse().unwrap();
    node.commands.why(&acme(), [(run_id, &step)]).remove(0)
}

fn limit(scope: LimitScope, limit: u32) -> ControlChange {
    ControlChange::SetLimit { scope, limit: limit.try_into().ok() }
}

#[tokio::test]
async fn while_dispatch_is_paused_runs_are_admitted_and_wait() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let tenant = acme();
    let mut waiting = Box::pin(node.commands.poll(&tenant, poll_of("w1", 1, PATIENCE)));
    assert!(poll!(&mut waiting).is_pending());
    change(&node, ControlChange::PauseDispatch { plugin: None }).await;
    let run_id = node.started("one").await;
    assert_eq!(node.history(&run_id).await, [vec!["RunCreated", "StepQueued"]]);
    assert_eq!(why(&node, &run_id), Some(Wait::Held(Hold::DispatchPaused)));
    assert!(poll!(&mut waiting).is_pending());
    change(&node, ControlChange::ResumeDispatch { plugin: None }).await;
    assert_eq!(waiting.await.remove(0).token.run_id, run_id);
    assert_eq!(why(&node, &run_id), None, "it runs");
}

#[tokio::test]
async fn of_a_paused_plugin_nothing_is_leased() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let core = Node::plugin("core");
    change(&node, ControlChange::PauseDispatch { plugin: Some(core.clone()) }).await;
    let run_id = node.started("one").await;
    assert!(node.at_hand("w1").await.is_empty());
    assert_eq!(why(&node, &run_id), Some(Wait::Held(Hold::PluginPaused(core.clone()))));
    change(&node, ControlChange::ResumeDispatch { plugin: Some(core) }).await;
    assert_eq!(node.lease("w1").await.token.run_id, run_id);
}

#[tokio::test]
async fn of_a_paused_dag_nothing_starts_and_others_go_on() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let before = node.run(new_run("one", Some("t"))).await.unwrap().answer.run_id;
    let other = node.started("pair").await;
    pause_dag(&node, "one", true).await;
    let refused = refusal(node.run(new_run("one", None)).await);
    assert_eq!(refused, Refusal::Dag(Node::dag("one"), DagRefusal::Paused));
    let again = node.run(new_run("one", Some("t"))).await.unwrap().answer;
    assert!(again.replayed, "what was started is found");
    let held: HashSet<_> = node.at_hand("w1").await.into_iter().map(|g| g.token.run_id).collect();
    assert_eq!(held, HashSet::from([other]), "although the other is older");
    let hold = Hold::DagPaused(Node::dag("one"));
    assert_eq!(why(&node, &before), Some(Wait::Held(hold)));
    pause_dag(&node, "one", false).await;
    assert_eq!(node.lease("w1").await.token.run_id, before);
    node.started("one").await;
}

#[tokio::test]
async fn a_drain_works_off_what_there_is_oldest_first_and_ends() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let first = node.started("one").await;
    let mut urgent = new_run("one", Some("urgent"));
    urgent.priority = 5;
    let second = node.run(urgent.clone()).await.unwrap().answer.run_id;
    change(&node, ControlChange::StartDrain { then_pause: None }).await;
    let refused = refusal(node.run(new_run("one", None)).await);
    assert_eq!(refused, Refusal::Control(ControlRefusal::Draining));
    assert!(node.run(urgent).await.unwrap().answer.replayed, "what was admitted is found");
    for expected in [&first, &second] {
        let grant = node.lease("w1").await;
        assert_eq!(grant.token.run_id, *expected);
        node.succeed("w1", &grant, "{}").await;
    }
    node.recorded("DrainEnded").await;
    node.started("one").await;
}

#[tokio::test]
async fn a_drain_of_nothing_ends_at_once_and_may_end_in_a_pause() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    change(&node, ControlChange::StartDrain { then_pause: Some(true) }).await;
    node.recorded("DispatchPaused").await;
    let run_id = node.started("one").await;
    assert!(node.at_hand("w1").await.is_empty());
    assert_eq!(why(&node, &run_id), Some(Wait::Held(Hold::DispatchPaused)));
}

#[tokio::test]
async fn limits_of_tenant_plugin_and_dag_hold() {
    let one = || LimitScope::Dag(Node::dag("one"));
    for scope in [LimitScope::Tenant, LimitScope::Plugin(Node::plugin("core")), one()] {
        let dir = TempDir::new().unwrap();
        let node = Node::new(open(&dir).await, &TestClock::new()).await;
        change(&node, limit(scope.clone(), 2)).await;
        let mut runs = vec![];
        for _ in 0..4 {
            runs.push(node.started("one").await);
        }
        let held = node.at_hand("w1").await;
        assert_eq!(held.len(), 2, "{scope}");
        let at = Hold::Limit { scope: scope.clone(), limit: 2.try_into().unwrap() };
        assert_eq!(why(&node, &runs[3]), Some(Wait::Held(at)));
        assert!(node.at_hand("w2").await.is_empty(), "{scope}");
        node.succeed("w1", &held[0], "{}").await;
        assert_eq!(node.at_hand("w2").await.len(), 1, "{scope}");
        change(&node, limit(scope.clone(), 0)).await;
        assert_eq!(node.at_hand("w2").await.len(), 1, "{scope}: it is lifted");
    }
}

#[tokio::test]
async fn steps_that_share_a_concurrency_key_wait_for_each_other() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.register(
        r#"{"id":"keyed","concurrency":{"limit":1,"key":"${inputs.customer}"},
            "steps":[{"id":"a","plugin":"core","action":"noop"}]}"#,
    )
    .await;
    let start = async |customer: &str| {
        let mut new = new_run("keyed", None);
        new.inputs = json(&format!(r#"{{"customer":"{customer}"}}"#));
        node.run(new).await.unwrap().answer.run_id
    };
    let (ann, ann_too, bob) = (start("ann").await, start("ann").await, start("bob").await);
    let held = node.at_hand("w1").await;
    let runs: Vec<_> = held.iter().map(|grant| &grant.token.run_id).collect();
    assert_eq!(runs, [&ann, &bob]);
    let at = Hold::Concurrency { limit: 1.try_into().unwrap(), keyed: true };
    assert_eq!(why(&node, &ann_too), Some(Wait::Held(at)));
    // A waiting worker gets no step past the limit either.
    let ann_last = start("ann").await;
    assert!(node.at_hand("w2").await.is_empty());
    node.succeed("w1", &held[0], "{}").await;
    assert_eq!(node.lease("w2").await.token.run_id, ann_too);
    assert!(node.at_hand("w2").await.is_empty());
    assert!(why(&node, &ann_last).is_some());
}

#[tokio::test]
async fn a_step_for_whose_plugin_there_is_no_worker_says_so() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let run_id = node.started("one").await;
    let none = Some(Wait::NoWorker(Node::plugin("core")));
    assert_eq!(why(&node, &run_id), none);
    assert_eq!(node.at_hand("w1").await.len(), 1);
    let run_id = node.started("one").await;
    assert_eq!(why(&node, &run_id), Some(Wait::Worker));
    assert_eq!(node.commands.workers(&acme())[0].worker_id.as_str(), "w1");
    clock.turn_ms(121_000);
    assert_eq!(why(&node, &run_id), none);
    assert!(node.commands.workers(&acme()).is_empty());
}

/// Whatever is paused, resumed and limited while many workers ask: in the order of the ledger no
/// lease begins while it is held back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_overtakes_a_pause() {
    const CHANGES: usize = 60;
    let dir = TempDir::new().unwrap();
    let node = Arc::new(Node::new(open(&dir).await, &TestClock::new()).await);
    let over = Arc::new(AtomicBool::new(false));
    let starter = async |n: usize| {
        while !over.load(SeqCst) {
            let started = node.run(new_run(if n == 0 { "chain" } else { "pair" }, None)).await;
            // Refused while its DAG is paused.
            if started.is_err() {
                tokio::task::yield_now().await;
            }
        }
    };
    let worker = async |n: usize| {
        let name = format!("w{n}");
        while !over.load(SeqCst) {
            let wait = Duration::from_millis(50);
            for grant in node.commands.poll(&acme(), poll_of(&name, 2, wait)).await {
                node.succeed(&name, &grant, r#"{"n":1}"#).await;
            }
        }
    };
    let operator = async {
        let pair = || LimitScope::Dag(Node::dag("pair"));
        for i in 0..CHANGES {
            match i % 6 {
                0 => change(&node, ControlChange::PauseDispatch { plugin: None }).await,
                1 => change(&node, ControlChange::ResumeDispatch { plugin: None }).await,
                2 => pause_dag(&node, "chain", true).await,
                3 => pause_dag(&node, "chain", false).await,
                4 => change(&node, limit(pair(), 1 + (i as u32 % 3))).await,
                _ => change(&node, limit(LimitScope::Tenant, (i as u32 % 4) + 2)).await,
            }
            // So that something happens in between.
            let before = node.next_seq().await;
            let moved = async {
                while node.next_seq().await < before + 3 && i % 6 != 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, moved).await.expect("work goes on");
        }
        over.store(true, SeqCst);
    };
    futures::join!(operator, join_all((0..2).map(starter)), join_all((0..4).map(worker)));
    let (mut control, mut dag_paused, mut dags) = (Control::default(), false, HashMap::new());
    let mut leases = 0;
    for recorded in node.commits().await {
        for (seq, event) in recorded.with_seq() {
            match (event, &recorded.commit.stream) {
                (Event::Control(event), _) => control.evolve(event),
                (Event::Dag(event), _) => match event.event_type() {
                    "DagPaused" => dag_paused = true,
                    "DagResumed" => dag_paused = false,
                    _ => {}
                },
                (Event::Run(event), StreamId::Run(run_id)) => match event {
                    RunEvent::RunCreated(data, _) => {
                        dags.insert(run_id.clone(), data.dag_id.clone());
                    }
                    RunEvent::StepStarted(_) => {
                        let dag = &dags[run_id];
                        leases += 1;
                        assert!(!control.dispatch_paused, "leased at {seq} while paused");
                        let paused = dag_paused && dag.as_str() == "chain";
                        assert!(!paused, "leased at {seq} while its DAG is paused");
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }
    assert!(leases > CHANGES, "only {leases} leases");
}

#[tokio::test]
async fn a_dag_of_which_too_many_runs_start_is_paused_and_the_causes_are_named() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    node.register(
        r#"{"id":"budgeted","budget":{"starts":3,"window":"1m"},
            "steps":[{"id":"a","plugin":"core","action":"noop"}]}"#,
    )
    .await;
    let start = async |token: &str| node.run(new_run("budgeted", Some(token))).await;
    start("a").await.unwrap();
    clock.turn_ms(30_000);
    start("b").await.unwrap();
    start("a").await.unwrap();
    clock.turn_ms(30_000);
    // The first is a minute old and counts no more.
    start("c").await.unwrap();
    start("d").await.unwrap();
    let next = node.next_seq().await;
    let refused = refusal(start("e").await);
    let spent = DagRefusal::BudgetSpent { starts: 3, window_ms: 60_000 };
    assert_eq!(refused, Refusal::Dag(Node::dag("budgeted"), spent));
    let commits = node.commits().await;
    let last = commits.last().unwrap();
    let Event::Dag(DagEvent::DagPaused(data, _)) = &last.events[0] else { panic!("{last:?}") };
    let brake = data.brake.as_ref().unwrap();
    assert_eq!((brake.starts, brake.causes[0].starts), (3, 3));
    assert_eq!(brake.causes[0].actor, operator());
    assert_eq!(node.next_seq().await, next + 1, "that, and no run");
    let refused = refusal(start("e").await);
    assert_eq!(refused, Refusal::Dag(Node::dag("budgeted"), DagRefusal::Paused));
    assert!(start("d").await.unwrap().answer.replayed, "what was started is found");
    // Whoever lets it go on gives it its whole budget back.
    pause_dag(&node, "budgeted", false).await;
    for token in ["e", "f", "g"] {
        start(token).await.unwrap();
    }
    refusal(start("h").await);
}

/// What a projection has seen comes as open work, what it has not as news; both count.
#[tokio::test]
async fn starts_count_against_a_budget_over_restarts_until_the_dag_is_resumed() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let node = Node::new(open(&dir).await, &clock).await;
    let step = r#""steps":[{"id":"a","plugin":"core","action":"noop"}]"#;
    node.register(&format!(r#"{{"id":"d",{step}}}"#)).await;
    let free = node.started("d").await;
    node.register(&format!(r#"{{"id":"d","budget":{{"starts":3,"window":"1m"}},{step}}}"#)).await;
    let seen = node.started("d").await;
    let head = node.ledger.head(&acme()).await.unwrap();
    node.started("d").await;
    node.stop().await;

    let start = |dag_version, run_id| CountedStart {
        dag_id: Node::dag("d"),
        dag_version,
        run_id,
        at: clock.now(),
        actor: operator(),
        schedule_id: None,
    };
    let starts = vec![start(1, free), start(2, seen)];
    let work = OpenWork { head, starts, ..OpenWork::default() };
    let node = Node::start(open(&dir).await, &clock, Some(work));
    node.started("d").await;
    let spent = DagRefusal::BudgetSpent { starts: 3, window_ms: 60_000 };
    let one_more = node.run(new_run("d", None)).await;
    assert_eq!(refusal(one_more), Refusal::Dag(Node::dag("d"), spent.clone()));
    let head = node.ledger.head(&acme()).await.unwrap();
    pause_dag(&node, "d", false).await;
    node.started("d").await;
    node.stop().await;

    let stale = vec![start(2, new_run("d", None).run_id)];
    let work = OpenWork { head, starts: stale, ..OpenWork::default() };
    let node = Node::start(open(&dir).await, &clock, Some(work));
    // It was resumed since, and one run was started.
    node.started("d").await;
    node.started("d").await;
    let one_more = node.run(new_run("d", None)).await;
    assert_eq!(refusal(one_more), Refusal::Dag(Node::dag("d"), spent));
}
