//! The worker's loop against a lease source in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use common::{PATIENCE, bundle, is_running, lease, pid_in, wait_until};
use serde_json::json;
use stella_domain::{
    artifact::Artifact,
    ids::{FencingToken, RunId, WorkerId},
    json::CanonicalJson,
};
use stella_worker::{
    ArtifactBytes, BuiltIn, Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome,
    Plugins, PollRequest, Shelf, StepError, Verdict, Worker, WorkerConfig,
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Hands out what is in its queue, remembers what it is told, and answers as it is set up to.
#[derive(Default)]
struct Source {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Lease>,
    polls: Vec<u32>,
    /// Leases that a completion brought.
    brought: usize,
    held: HashSet<FencingToken>,
    most_held: usize,
    outcomes: Vec<(FencingToken, Outcome)>,
    verdicts: HashMap<FencingToken, Verdict>,
    heartbeats: usize,
    /// Errors for the calls to come, first the next.
    poll_errors: VecDeque<LeaseError>,
    complete_errors: VecDeque<LeaseError>,
    log_errors: VecDeque<LeaseError>,
    logs: HashMap<FencingToken, Vec<u8>>,
    completions: usize,
    deaf: bool,
}

impl State {
    fn take(&mut self, max: u32) -> Vec<Lease> {
        let n = (max as usize).min(self.queue.len());
        let leases: Vec<_> = self.queue.drain(..n).collect();
        self.held.extend(leases.iter().map(|lease| lease.token.clone()));
        self.most_held = self.most_held.max(self.held.len());
        leases
    }
}

#[async_trait]
impl LeaseSource for Source {
    async fn poll(&self, request: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        let deadline = tokio::time::sleep(Duration::from_millis(request.wait_ms));
        tokio::pin!(deadline);
        self.state.lock().unwrap().polls.push(request.max);
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock().unwrap();
                if let Some(error) = state.poll_errors.pop_front() {
                    return Err(error);
                }
                let leases = state.take(request.max);
                if !leases.is_empty() {
                    return Ok(leases);
                }
            }
            tokio::select! {
                () = changed => {}
                () = &mut deadline => return Ok(vec![]),
            }
        }
    }

    async fn complete(
        &self,
        _worker: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        and_poll: Option<PollRequest>,
    ) -> Result<Completed, LeaseError> {
        tokio::task::yield_now().await;
        let mut state = self.state.lock().unwrap();
        state.completions += 1;
        if let Some(error) = state.complete_errors.pop_front() {
            return Err(error);
        }
        assert!(state.held.remove(token), "{token} is completed once, and only when held");
        state.outcomes.push((token.clone(), outcome));
        let next = and_poll.map(|request| state.take(request.max)).unwrap_or_default();
        state.brought += next.len();
        Ok(Completed { next })
    }

    async fn heartbeat(
        &self,
        _worker: &WorkerId,
        tokens: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError> {
        let mut state = self.state.lock().unwrap();
        state.heartbeats += 1;
        if state.deaf {
            return Err(LeaseError::Unavailable("deaf".into()));
        }
        let verdict =
            |token: &FencingToken| state.verdicts.get(token).copied().unwrap_or(Verdict::Continue);
        let answer = |token: &FencingToken| HeartbeatAnswer {
            token: token.clone(),
            verdict: verdict(token),
        };
        Ok(tokens.iter().map(answer).collect())
    }

    async fn append_log(
        &self,
        _worker: &WorkerId,
        token: &FencingToken,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), LeaseError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.log_errors.pop_front() {
            return Err(error);
        }
        assert!(state.held.contains(token), "nothing is written after the end is reported");
        let log = state.logs.entry(token.clone()).or_default();
        assert_eq!(offset, log.len() as u64);
        log.extend(bytes);
        Ok(())
    }

    async fn put_artifact(
        &self,
        _worker: &WorkerId,
        _token: &FencingToken,
        _name: &str,
        _media_type: &str,
        _path: &Path,
    ) -> Result<Artifact, LeaseError> {
        Err(LeaseError::Refused("no artifacts here".into()))
    }

    async fn get_artifact(
        &self,
        _run_id: &RunId,
        _artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError> {
        Err(LeaseError::Refused("no artifacts here".into()))
    }
}

/// A worker that runs against a [`Source`].
struct Harness {
    source: Arc<Source>,
    shutdown: CancellationToken,
    worker: JoinHandle<()>,
}

impl Harness {
    fn start(concurrency: u32, plugins: Plugins, leases: Vec<Lease>) -> Self {
        Self::prepared(concurrency, plugins, leases, |_| ())
    }

    fn prepared(
        concurrency: u32,
        plugins: Plugins,
        leases: Vec<Lease>,
        prepare: impl FnOnce(&mut State),
    ) -> Self {
        let mut state = State { queue: leases.into(), ..State::default() };
        prepare(&mut state);
        let source = Arc::new(Source { state: Mutex::new(state), ..Source::default() });
        let config = WorkerConfig::new("worker-1".parse().unwrap(), concurrency);
        let worker = Worker::new(config, source.clone(), Arc::new(Shelf::new(plugins, vec![])));
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        Self { source, shutdown, worker }
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.source.state.lock().unwrap())
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        wait_until(what, || self.with(|state| holds(state))).await;
    }

    /// The outcomes of `n` leases, in the order of their tokens.
    async fn outcomes(&self, n: usize) -> Vec<Outcome> {
        self.until("all leases have an outcome", |state| state.outcomes.len() >= n).await;
        let mut outcomes = self.with(|state| state.outcomes.clone());
        outcomes.sort_by(|a, b| a.0.cmp(&b.0));
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn stop(self) -> Arc<Source> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.worker).await.expect("the worker ends").unwrap();
        self.source
    }
}

fn noop(n: u64) -> Lease {
    lease(n, "core", "noop", json!({}))
}

fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Succeeded { .. } => "ok",
        Outcome::Failed { code, .. } => code.as_str(),
        Outcome::TimedOut => "timed out",
        Outcome::Cancelled => "cancelled",
    }
}

#[tokio::test]
async fn core_actions_do_what_they_say() {
    let mut second_attempt = lease(7, "core", "fail", json!({ "untilAttempt": 2 }));
    second_attempt.attempt = 2;
    let mut slow = lease(8, "core", "sleep", json!({ "ms": 3_600_000 }));
    slow.timeout_ms = 10;
    let harness = Harness::start(
        4,
        Plugins::core(),
        vec![
            noop(1),
            lease(2, "core", "echo", json!({ "b": [1], "a": null })),
            lease(3, "core", "sleep", json!({ "ms": 1 })),
            lease(4, "core", "fail", json!({ "code": "OWN", "message": "so", "retryable": false })),
            lease(5, "core", "fail", json!({})),
            lease(6, "core", "fail", json!({ "untilAttempt": 2 })),
            second_attempt,
            slow,
            lease(9, "core", "sleep", json!({ "seconds": 1 })),
            lease(10, "core", "nap", json!({})),
            lease(11, "missing", "noop", json!({})),
        ],
    );
    let outcomes = harness.outcomes(11).await;
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            "ok",
            "ok",
            "ok",
            "OWN",
            "CORE_FAIL",
            "CORE_FAIL",
            "ok",
            "timed out",
            "PLUGIN_INPUT_INVALID",
            "PLUGIN_NOT_FOUND",
            "PLUGIN_NOT_FOUND",
        ]
    );
    let outputs = CanonicalJson::parse(r#"{"a":null,"b":[1]}"#).unwrap();
    assert_eq!(outcomes[1], Outcome::Succeeded { outputs });
    let Outcome::Failed { message, retryable, .. } = &outcomes[3] else { panic!() };
    assert_eq!((message.as_str(), *retryable), ("so", false));
    harness.stop().await;
}

#[tokio::test]
async fn many_steps_run_with_few_polls_and_never_more_than_there_are_slots() {
    let harness = Harness::start(8, Plugins::core(), (1..=5_000).map(noop).collect());
    assert_eq!(harness.outcomes(5_000).await.len(), 5_000);
    let source = harness.stop().await;
    let state = source.state.lock().unwrap();
    assert!(state.most_held <= 8, "{} leases at once", state.most_held);
    assert!(state.polls.iter().all(|max| (1..=8).contains(max)), "{:?}", state.polls);
    // Completions bring the next lease, so that hardly anything is left for polls.
    assert!(state.brought >= 4_900, "only {} came with a completion", state.brought);
}

struct Panics;

#[async_trait]
impl BuiltIn for Panics {
    fn actions(&self) -> Vec<String> {
        vec!["go".into()]
    }
    async fn execute(
        &self,
        _lease: &Lease,
        _cancel: &CancellationToken,
    ) -> Result<CanonicalJson, StepError> {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_and_costs_no_slot() {
    let mut plugins = Plugins::core();
    plugins.add_built_in("panics".parse().unwrap(), Arc::new(Panics)).unwrap();
    let leases = vec![lease(1, "panics", "go", json!({})), lease(2, "panics", "go", json!({}))];
    let harness = Harness::start(1, plugins, leases);
    harness.outcomes(2).await;
    harness.with(|state| state.queue.push_back(noop(3)));
    harness.source.changed.notify_waiters();
    let outcomes = harness.outcomes(3).await;
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    assert_eq!(codes, ["WORKER_PANIC", "WORKER_PANIC", "ok"]);
    let Outcome::Failed { message, .. } = &outcomes[0] else { panic!() };
    assert!(message.contains("on purpose"), "{message}");
    harness.stop().await;
}

/// A lease of a step that runs for an hour, with a term so short that heartbeats are frequent.
fn long(n: u64) -> Lease {
    let mut lease = lease(n, "core", "sleep", json!({ "ms": 3_600_000 }));
    lease.timeout_ms = 3_600_000;
    lease.lease_ttl_ms = 90;
    lease
}

#[tokio::test]
async fn a_cancel_verdict_ends_the_step_and_is_reported() {
    let harness = Harness::start(2, Plugins::core(), vec![long(1), long(2)]);
    harness.until("it is kept alive", |state| state.heartbeats >= 3).await;
    harness.with(|state| state.verdicts.insert(long(1).token, Verdict::Cancel));
    harness.until("it is reported", |state| !state.outcomes.is_empty()).await;
    harness.with(|state| assert_eq!(state.outcomes, [(long(1).token, Outcome::Cancelled)]));
    harness.stop().await;
}

#[tokio::test]
async fn a_lost_verdict_drops_the_step_in_silence() {
    let harness = Harness::prepared(1, Plugins::core(), vec![long(1), noop(2)], |state| {
        state.verdicts.insert(long(1).token, Verdict::Lost);
    });
    harness.until("the slot is free again", |state| !state.outcomes.is_empty()).await;
    harness.with(|state| assert_eq!(state.outcomes[0].0, noop(2).token));
    let source = harness.stop().await;
    assert_eq!(source.state.lock().unwrap().completions, 1);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_for_its_term_is_dropped() {
    let leases = vec![long(1), noop(2)];
    let harness = Harness::prepared(1, Plugins::core(), leases, |state| state.deaf = true);
    harness.until("the slot is free again", |state| !state.outcomes.is_empty()).await;
    harness.with(|state| assert_eq!(state.outcomes[0].0, noop(2).token));
    harness.stop().await;
}

#[tokio::test]
async fn an_outcome_is_reported_until_it_is_recorded() {
    let unavailable = || LeaseError::Unavailable("down".into());
    let harness = Harness::prepared(1, Plugins::core(), vec![noop(1)], |state| {
        state.poll_errors = [unavailable(), LeaseError::Refused("no".into())].into();
        state.complete_errors = [unavailable(), unavailable()].into();
    });
    assert_eq!(code(&harness.outcomes(1).await[0]), "ok");
    let source = harness.stop().await;
    assert_eq!(source.state.lock().unwrap().completions, 3);
}

#[tokio::test]
async fn an_outcome_is_given_up_with_its_lease() {
    let harness = Harness::prepared(1, Plugins::core(), vec![noop(1), noop(2)], |state| {
        state.queue[0].lease_ttl_ms = 90;
        state.verdicts.insert(noop(1).token, Verdict::Lost);
        // More than fit into the life of the lease, and the pauses double.
        state.complete_errors = vec![LeaseError::Unavailable("down".into()); 3].into();
    });
    harness.until("the slot is free again", |state| !state.outcomes.is_empty()).await;
    harness.with(|state| assert_eq!(state.outcomes[0].0, noop(2).token));
    harness.stop().await;
}

#[tokio::test]
async fn a_stale_lease_is_dropped_at_once() {
    let harness = Harness::prepared(1, Plugins::core(), vec![noop(1), noop(2)], |state| {
        state.complete_errors = [LeaseError::Stale].into();
    });
    harness.until("the slot is free again", |state| !state.outcomes.is_empty()).await;
    harness.with(|state| assert_eq!(state.outcomes[0].0, noop(2).token));
    let source = harness.stop().await;
    assert_eq!(source.state.lock().unwrap().completions, 2);
}

#[tokio::test]
async fn a_refused_outcome_is_reported_as_a_failure() {
    let harness = Harness::prepared(1, Plugins::core(), vec![noop(1)], |state| {
        state.complete_errors = [LeaseError::Refused("too large".into())].into();
    });
    let outcomes = harness.outcomes(1).await;
    assert_eq!(code(&outcomes[0]), "OUTCOME_REFUSED");
    harness.stop().await;
}

#[tokio::test]
async fn a_stop_ends_process_groups_and_gives_the_leases_back() {
    let script = r#"sleep 1000 & echo $! > "$(dirname "$0")/grandchild"; wait"#;
    let (dir, bundle) = bundle(script, |_| ());
    let mut plugins = Plugins::core();
    plugins.add_bundle(bundle).unwrap();
    let harness = Harness::start(2, plugins, vec![lease(1, "test", "go", json!({}))]);
    let pid = pid_in(&dir.path().join("grandchild")).await;
    assert!(is_running(pid));
    let source = harness.stop().await;
    wait_until("the group is gone", || !is_running(pid)).await;
    let state = source.state.lock().unwrap();
    assert_eq!(state.outcomes, [(noop(1).token, Outcome::Cancelled)]);
}

#[tokio::test]
async fn a_dropped_worker_leaves_no_process_behind() {
    let script = r#"sleep 1000 & echo $! > "$(dirname "$0")/grandchild"; wait"#;
    let (dir, bundle) = bundle(script, |_| ());
    let mut plugins = Plugins::core();
    plugins.add_bundle(bundle).unwrap();
    let harness = Harness::start(2, plugins, vec![lease(1, "test", "go", json!({}))]);
    let pid = pid_in(&dir.path().join("grandchild")).await;
    harness.worker.abort();
    wait_until("the group is gone", || !is_running(pid)).await;
    assert!(fs::exists(dir.path()).unwrap());
}

#[test]
fn leases_and_outcomes_travel_as_json() {
    let lease = lease(3, "core", "echo", json!({ "a": 1 }));
    let text = serde_json::to_string(&lease).unwrap();
    assert!(text.contains(r#""with":{"a":1}"#) && text.contains(r#""leaseTtlMs":60000"#), "{text}");
    assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
    for outcome in [
        Outcome::Succeeded { outputs: CanonicalJson::empty_object() },
        Outcome::TimedOut,
        Outcome::Cancelled,
    ] {
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome, "{text}");
    }
}
