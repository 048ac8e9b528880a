//! A ledger in memory, and histories made by the domain's own decisions.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub)]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use stella_domain::{
    aggregate::{
        Aggregate, Dag, DagCommand, Ledger as LedgerAggregate, LedgerCommand, Outcome, Run,
        RunCommand, RunStatus, RunToErase, StartRun, StepPhase, Verdict,
    },
    artifact::{self, Artifact, ArtifactDigest},
    chain::{Commit, Draft, Head},
    dag::DagSpec,
    event::{DataErased, ErrorCode, Event, LedgerEvent, LedgerOpened},
    hash::Salt,
    ids::{Actor, LedgerId, RunId, StepId, StreamId, Tenant},
    json::CanonicalJson,
    plugin::PluginBuild,
    time::Timestamp,
};
use stella_ledger::{
    erasure::Blanking,
    feed::Feed,
    port::{AppendError, Finding, Ledger, LedgerError, Prepared, READ_LIMIT},
    recorded::Recorded,
};
use stella_projections::Projections;

/// What workers say of their plugin.
fn plugin_build() -> PluginBuild {
    PluginBuild {
        digest: format!("b3:{}", "0".repeat(64)).parse().ok(),
        version: "1.0.0".parse().ok(),
    }
}

pub fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

/// A ledger in memory.
#[derive(Default)]
pub struct MemoryLedger(Mutex<Vec<Arc<Commit>>>);

impl MemoryLedger {
    pub fn of(commits: &[Arc<Commit>]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(commits.to_vec())))
    }

    /// These commits and no others: what erasing does to a storage.
    pub fn put(&self, commits: &[Arc<Commit>]) {
        *self.0.lock().unwrap() = commits.to_vec();
    }

    pub fn push(&self, commits: &[Arc<Commit>]) {
        self.0.lock().unwrap().extend_from_slice(commits);
    }
}

#[async_trait::async_trait]
impl Ledger for MemoryLedger {
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        commit.into()
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        self.push(&commits.iter().map(|p| Arc::clone(&p.commit)).collect::<Vec<_>>());
        Ok(())
    }

    async fn head(&self, _: &Tenant) -> Result<Head, LedgerError> {
        Ok(self.0.lock().unwrap().last().map_or(Head::EMPTY, |commit| commit.head()))
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        Ok(self.head(tenant).await?.next_seq == next_seq)
    }

    async fn read(
        &self,
        _: &Tenant,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Commit>, LedgerError> {
        let commits = self.0.lock().unwrap();
        let start = commits.partition_point(|commit| commit.last_seq() < from_seq);
        let limit = limit.min(READ_LIMIT);
        Ok(commits[start..].iter().take(limit).map(|commit| Commit::clone(commit)).collect())
    }

    async fn read_streams(
        &self,
        _: &Tenant,
        streams: &[StreamId],
    ) -> Result<Vec<Commit>, LedgerError> {
        let commits = self.0.lock().unwrap();
        let wanted = commits.iter().filter(|commit| streams.contains(&commit.stream));
        Ok(wanted.map(|commit| Commit::clone(commit)).collect())
    }

    async fn first_at_or_after(
        &self,
        _: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        let commits = self.0.lock().unwrap();
        Ok(commits.iter().find(|commit| commit.recorded_at >= time).map(|commit| commit.seq))
    }

    async fn tenants(&self, _: usize) -> Result<Vec<Tenant>, LedgerError> {
        Ok(vec![tenant()])
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        Ok(None)
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        Ok(vec![])
    }
}

/// A ledger's content, made commit by commit.
pub struct History {
    id: Arc<LedgerId>,
    pub head: Head,
    pub commits: Vec<Arc<Commit>>,
    pub specs: Vec<Arc<DagSpec>>,
    versions: BTreeMap<StreamId, u64>,
    ledger: LedgerAggregate,
    pub runs: Vec<(RunId, Run)>,
    now: Timestamp,
    /// The first run that may not have ended.
    settled: usize,
}

/// One thing that somebody asks for; numbers pick among what there is.
#[derive(Debug, Clone)]
pub enum Action {
    Start { dag: usize, label: u8, priority: i32 },
    Lease { pick: usize },
    Succeed { pick: usize, size: u8 },
    Fail { pick: usize, retryable: bool },
    TimeOut { pick: usize },
    Expire { pick: usize },
    GiveBack { pick: usize },
    RetryDue { pick: usize },
    Cancel { pick: usize },
    Approve { pick: usize, approved: bool },
    PassDeadline { pick: usize },
    Erase { pick: usize },
}

pub fn actions(most: usize) -> impl Strategy<Value = Vec<Action>> {
    let pick = any::<usize>;
    let action = prop_oneof![
        4 => (pick(), 0..4_u8, -1..2_i32).prop_map(|(dag, label, priority)| Action::Start {
            dag,
            label,
            priority
        }),
        12 => pick().prop_map(|pick| Action::Lease { pick }),
        10 => (pick(), any::<u8>()).prop_map(|(pick, size)| Action::Succeed { pick, size }),
        4 => (pick(), any::<bool>()).prop_map(|(pick, retryable)| Action::Fail { pick, retryable }),
        1 => pick().prop_map(|pick| Action::TimeOut { pick }),
        2 => pick().prop_map(|pick| Action::Expire { pick }),
        1 => pick().prop_map(|pick| Action::GiveBack { pick }),
        4 => pick().prop_map(|pick| Action::RetryDue { pick }),
        1 => pick().prop_map(|pick| Action::Cancel { pick }),
        3 => (pick(), any::<bool>()).prop_map(|(pick, approved)| Action::Approve { pick, approved }),
        1 => pick().prop_map(|pick| Action::PassDeadline { pick }),
        2 => pick().prop_map(|pick| Action::Erase { pick }),
    ];
    prop::collection::vec(action, 1..most)
}

/// What a plugin left to read.
fn log() -> Artifact {
    let digest = ArtifactDigest::of(b"log");
    Artifact { digest, media_type: artifact::LOG.into(), name: None, size: 3 }
}

fn id_of(run: &Run, step: usize) -> StepId {
    run.records().nth(step).unwrap().0
}

/// Which run it is decides how long it waits, and nothing else.
fn some_run() -> RunId {
    RunId::from_bytes([7; 16])
}

fn specs() -> Vec<Arc<DagSpec>> {
    [
        r#"{"id":"chain","steps":[{"id":"a","plugin":"core","action":"noop"},
            {"id":"b","plugin":"core","action":"noop","needs":["a"]},
            {"id":"c","plugin":"core","action":"noop","needs":["b"]}]}"#,
        r#"{"id":"fan","steps":[{"id":"split","plugin":"core","action":"noop"},
            {"id":"x","plugin":"other","action":"go","needs":["split"],"retries":2},
            {"id":"y","plugin":"other","action":"go","needs":["split"],
             "with":{"n":"${steps.split.outputs.n}"}},
            {"id":"z","plugin":"core","action":"noop","needs":["split"],"retries":1}]}"#,
        r#"{"id":"rich","timeout":"1h","outputs":{"n":"${steps.each.outputs.items}"},"steps":[
            {"id":"a","plugin":"core","action":"noop","continueOnFailure":true},
            {"id":"each","plugin":"other","action":"go","needs":["a"],"forEach":[1,2,3],
             "parallelism":2,"with":{"i":"${item}"},"retries":1,"continueOnFailure":true},
            {"id":"odd","plugin":"core","action":"noop","needs":["a"],
             "when":"inputs.n == 1 || steps.a.outputs.n == 1"},
            {"id":"after","plugin":"core","action":"noop","needs":["odd"]},
            {"id":"gate","needs":["each"],"approval":{"message":"may it go on?","timeout":"2d"}},
            {"id":"last","plugin":"core","action":"noop","needs":["gate","after"],"when":"true"}]}"#,
    ]
    .map(|text| {
        let canonical = CanonicalJson::parse(text).unwrap();
        Arc::new(DagSpec::from_stored(&canonical).expect("the spec is good"))
    })
    .into()
}

impl History {
    /// A ledger that was opened and has two DAGs.
    pub fn new() -> Self {
        let id = LedgerId { origin: "stella.local".parse().unwrap(), tenant: tenant() };
        let mut history = Self {
            id: Arc::new(id),
            head: Head::EMPTY,
            commits: vec![],
            specs: specs(),
            versions: BTreeMap::new(),
            ledger: LedgerAggregate { opened: true, version: 1, ..LedgerAggregate::default() },
            runs: vec![],
            now: Timestamp::from_micros(1_790_000_000_000_000),
            settled: 0,
        };
        let opened = LedgerEvent::LedgerOpened(LedgerOpened { format: 1, tenant: tenant() });
        history.commit(StreamId::Ledger(tenant()), vec![Event::Ledger(opened)]);
        for spec in history.specs.clone() {
            let events = Dag::default()
                .decide(DagCommand::Register { spec: spec.clone(), reason: String::new() })
                .unwrap();
            let events = events.into_iter().map(Event::Dag).collect();
            history.commit(StreamId::Dag(spec.id().clone()), events);
        }
        history
    }

    pub fn made_by(actions: &[Action]) -> Self {
        let mut history = Self::new();
        actions.iter().for_each(|action| history.act(action));
        history
    }

    fn commit(&mut self, stream: StreamId, events: Vec<Event>) {
        let version = self.versions.entry(stream.clone()).or_insert(0);
        let draft = Draft {
            stream,
            stream_version: *version + 1,
            actor: Actor::system("test").unwrap(),
            events: events.iter().map(|event| (event.encode(), Salt::ZERO)).collect(),
        };
        *version += events.len() as u64;
        self.now = self.now.plus_ms(7);
        let commit = Commit::seal(&self.id, &self.head, self.now, draft).unwrap();
        self.head = commit.head();
        self.commits.push(Arc::new(commit));
    }

    /// Do it if it can be done; what the run refuses is not done.
    pub fn act(&mut self, action: &Action) {
        match action {
            Action::Start { dag, label, priority } => self.start(*dag, *label, *priority),
            Action::Lease { pick } => {
                let now = self.now;
                let lease = |run: &Run, step: usize| RunCommand::GrantLease {
                    step_id: id_of(run, step),
                    worker_id: format!("w{}", step % 3).parse().unwrap(),
                    plugin: plugin_build(),
                    lease_ms: 30_000,
                    now,
                };
                self.on_step(*pick, |phase| *phase == StepPhase::Queued, lease);
            }
            Action::Succeed { pick, size } => {
                // Sometimes without what `fan.y` refers to.
                let text = match size % 3 {
                    0 => "{}".to_owned(),
                    n => format!(r#"{{"n":{n},"text":"{}"}}"#, "é\\n".repeat(usize::from(*size))),
                };
                let outputs = CanonicalJson::parse(&text).unwrap();
                self.complete(*pick, Outcome::Succeeded { outputs });
            }
            Action::Fail { pick, retryable } => self.complete(
                *pick,
                Outcome::Failed {
                    code: ErrorCode::lenient("BOOM"),
                    message: "it \"broke\"\u{1}".to_owned(),
                    retryable: *retryable,
                },
            ),
            Action::GiveBack { pick } => self.complete(*pick, Outcome::Cancelled),
            Action::TimeOut { pick } => {
                let now = self.now;
                self.on_lease(*pick, |token, _| RunCommand::TimeOut {
                    token,
                    log: None,
                    run_id: some_run(),
                    now,
                });
            }
            Action::Expire { pick } => {
                let now = self.now;
                self.on_lease(*pick, |token, _| RunCommand::ExpireLease {
                    token,
                    log: Some(log()),
                    now,
                });
            }
            Action::RetryDue { pick } => {
                self.now = self.now.plus_ms(60_000);
                let now = self.now;
                let waits = |phase: &StepPhase| matches!(phase, StepPhase::BackingOff { .. });
                self.on_step(*pick, waits, |run, step| RunCommand::QueueRetry {
                    step_id: id_of(run, step),
                    now,
                });
            }
            Action::Cancel { pick } => {
                let Some(run) = pick.checked_rem(self.runs.len()) else { return };
                self.command(run, RunCommand::Cancel { reason: "enough".to_owned() });
            }
            Action::Approve { pick, approved } => {
                let (now, approved) = (self.now, *approved);
                let waits = |phase: &StepPhase| *phase == StepPhase::AwaitingApproval;
                self.on_step(*pick, waits, |run, step| RunCommand::Decide {
                    step_id: id_of(run, step),
                    verdict: if approved { Verdict::Approved } else { Verdict::Rejected },
                    reason: "as agreed".to_owned(),
                    now,
                });
            }
            Action::PassDeadline { pick } => {
                let Some(run) = pick.checked_rem(self.runs.len()) else { return };
                let now = self.now.plus_ms(3_600_000);
                self.command(run, RunCommand::PassDeadline { now });
            }
            Action::Erase { pick } => {
                let Some(run) = pick.checked_rem(self.runs.len()) else { return };
                self.erase(run);
            }
        }
    }

    /// Erase a run's payloads if it has ended; they are still in `commits`.
    pub fn erase(&mut self, run: usize) {
        let (id, folded) = &mut self.runs[run];
        let of_run =
            |recorded: &&Arc<Recorded>| recorded.commit.stream == StreamId::Run(id.clone());
        let recorded: Vec<Arc<Recorded>> = self
            .commits
            .iter()
            .map(|commit| Arc::new(Recorded::decode(Arc::clone(commit)).unwrap()))
            .collect();
        let history = recorded.iter().filter(of_run).map(|r| (&*r.commit, &*r.events));
        let mut to_erase = RunToErase::read(id.clone(), history);
        to_erase.as_of = self.ledger.version;
        for (_, erased) in recorded.iter().flat_map(|recorded| recorded.erasures()) {
            to_erase.is_named_by(erased);
        }
        let reason = "somebody asked".parse().unwrap();
        let command = LedgerCommand::Erase { run: Arc::new(to_erase), reason };
        let events = self.ledger.decide(command).unwrap_or_default();
        if events.is_empty() {
            return;
        }
        folded.request = None;
        folded.outputs = None;
        folded.steps.iter_mut().for_each(|step| step.outputs = None);
        events.iter().for_each(|event| self.ledger.evolve(event));
        let events = events.into_iter().map(Event::Ledger).collect();
        self.commit(StreamId::Ledger(tenant()), events);
    }

    /// Whatever the run says to it.
    pub fn record_erasure(&mut self, run_id: RunId, seqs: Vec<u64>) {
        let erased = LedgerEvent::DataErased(DataErased { run_id, seqs }, None);
        self.commit(StreamId::Ledger(tenant()), vec![Event::Ledger(erased)]);
    }

    /// The commits as they are once every erasure is carried out.
    pub fn blanked(&self) -> Vec<Arc<Commit>> {
        let recorded = self.recorded();
        let erasures = recorded.iter().flat_map(|recorded| recorded.erasures());
        let seqs = erasures.flat_map(|(_, erased)| erased.seqs.iter().copied()).collect();
        let blank = |commit: &Arc<Commit>| match Blanking::of(commit, &seqs) {
            Some(blanking) => Arc::new(blanking.after()),
            None => Arc::clone(commit),
        };
        self.commits.iter().map(blank).collect()
    }

    pub fn start(&mut self, dag: usize, label: u8, priority: i32) {
        let n = self.runs.len();
        let spec = Arc::clone(&self.specs[dag % self.specs.len()]);
        let labels = [("team", format!("t{label}")), ("odd", (n % 2).to_string())];
        let command = RunCommand::Start(StartRun {
            spec,
            dag_version: 1,
            version_is_explicit: false,
            inputs: CanonicalJson::parse(&format!(r#"{{"n":{}}}"#, n % 5)).unwrap(),
            given: None,
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            priority,
            run_token: n.is_multiple_of(3).then(|| format!("token {n}").parse().unwrap()),
            attempt: 0,
            rerun_of: None,
            reason: String::new(),
            schedule: None,
            now: self.now,
        });
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        self.runs.push((RunId::from_bytes(id), Run::default()));
        self.command(n, command);
    }

    fn complete(&mut self, pick: usize, outcome: Outcome) {
        let now = self.now;
        self.on_lease(pick, |token, worker| RunCommand::Complete {
            token,
            worker_id: worker.parse().unwrap(),
            outcome,
            log: pick.is_multiple_of(2).then(log),
            run_id: some_run(),
            now,
        });
    }

    fn on_lease(&mut self, pick: usize, command: impl FnOnce(u64, &str) -> RunCommand) {
        self.on_step(
            pick,
            |phase| *phase == StepPhase::Running,
            |run, step| {
                let lease = run.steps[step].lease.as_ref().unwrap();
                command(lease.stream_version, lease.worker_id.as_str())
            },
        );
    }

    fn on_step(
        &mut self,
        pick: usize,
        fits: impl Fn(&StepPhase) -> bool,
        command: impl FnOnce(&Run, usize) -> RunCommand,
    ) {
        // What waits in a run that starts nothing more waits for ever; only leases still end.
        let acts = |run: &Run, phase: &StepPhase| {
            *phase == StepPhase::Running || run.status() == Some(RunStatus::Running)
        };
        let fitting: Vec<(usize, usize)> = (self.settled..self.runs.len())
            .flat_map(|r| (0..self.runs[r].1.steps.len()).map(move |step| (r, step)))
            .filter(|(r, step)| {
                let run = &self.runs[*r].1;
                let phase = &run.steps[*step].phase;
                fits(phase) && acts(run, phase)
            })
            .collect();
        let Some(at) = pick.checked_rem(fitting.len()) else { return };
        let (run, step) = fitting[at];
        let command = command(&self.runs[run].1, step);
        self.command(run, command);
    }

    fn command(&mut self, run: usize, command: RunCommand) {
        let Ok(events) = self.runs[run].1.decide(command) else { return };
        if events.is_empty() {
            return;
        }
        events.iter().for_each(|event| self.runs[run].1.evolve(event));
        let stream = StreamId::Run(self.runs[run].0.clone());
        self.commit(stream, events.into_iter().map(Event::Run).collect());
    }

    pub fn recorded(&self) -> Vec<Arc<Recorded>> {
        let decode = |commit: &Arc<Commit>| Recorded::decode(Arc::clone(commit)).unwrap();
        self.commits.iter().map(decode).map(Arc::new).collect()
    }
}

/// A history long enough for several recorded digests, with every kind of event.
pub fn long_history(starts: usize) -> History {
    let mut history = History::new();
    for n in 0..starts {
        history.start(n, (n % 4) as u8, 0);
        for pick in [n, 0, n / 2] {
            history.act(&Action::Lease { pick });
            history.act(&match n % 11 {
                3 => Action::Fail { pick, retryable: true },
                5 => Action::Expire { pick },
                7 => Action::Cancel { pick: n },
                _ => Action::Succeed { pick, size: 1 },
            });
        }
        history.act(&Action::RetryDue { pick: n });
        if n % 64 == 63 {
            history.finish();
        }
    }
    history
}

impl History {
    /// Let every run come to an end.
    pub fn finish(&mut self) {
        loop {
            let before = self.commits.len();
            self.act(&Action::Lease { pick: 0 });
            self.act(&Action::Succeed { pick: 0, size: 1 });
            self.act(&Action::RetryDue { pick: 0 });
            self.act(&Action::Approve { pick: 0, approved: true });
            if self.commits.len() == before {
                break;
            }
        }
        self.settled = self.runs.len();
    }
}

/// Read models in `dir` that do not follow anything by themselves.
pub fn projections(dir: &Path, ledger: Arc<MemoryLedger>) -> Projections {
    let feed = Feed::new(ledger.clone());
    Projections::open(dir, ledger, feed).unwrap()
}

pub async fn dump(projections: &Projections) -> String {
    let mut out = vec![];
    projections.dump(&tenant(), &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}
