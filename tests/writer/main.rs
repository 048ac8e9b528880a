//! One of several processes that write one tenant's ledger at the same time: it sends commands of
//! every kind, works off steps, and prints each acknowledgement as a line of JSON.
//!
//! `writing-process LEDGER TENANT NAME COMMANDS SEED`; it ends when its commands are answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // It fails its test.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::future::{join_all, select};
use harness::acknowledged::{Acknowledged, OWN_DAG, SHARED_DAG, SHARED_TOKENS, spec};
use stella_commands::{CommandError, Commands, CommandsConfig, Poll, Refusal, engine::NewRun};
use stella_domain::{
    aggregate::Outcome,
    event::{ErrorCode, Labels},
    ids::{Actor, DagId, PluginName, RunId, RunToken, Tenant, WorkerId},
    json::CanonicalJson,
    open_work::OpenWork,
};
use stella_ledger::{
    clock::SystemClock,
    feed::Feed,
    snapshots::NoSnapshots,
    uri::LedgerUri,
    writer::{Receipt, WriteError},
};

/// Commands under way at a time.
const CALLERS: usize = 6;
const WORKERS: usize = 3;
/// Times that a command is sent again when the ledger was too busy, or did not say.
const ATTEMPTS: usize = 200;
/// Between two of them: while the storage is down the writer answers at once.
const PAUSE: Duration = Duration::from_millis(25);
const LEASE_MS: u64 = 2_000;

struct Process {
    commands: Commands,
    tenant: Tenant,
    name: String,
    actor: Actor,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ledger, tenant, name, count, seed] = args.as_slice() else {
        panic!("usage: writing-process LEDGER TENANT NAME COMMANDS SEED")
    };
    let (count, seed): (usize, u64) = (count.parse().unwrap(), seed.parse().unwrap());
    let process = Process::start(ledger.parse().unwrap(), tenant.parse().unwrap(), name).await;
    process.open().await;
    let sent = join_all((0..CALLERS).map(|i| process.send((i..count).step_by(CALLERS), seed)));
    let works = join_all((0..WORKERS).map(|i| process.work(i, seed)));
    // Work never ends by itself.
    select(pin!(sent), pin!(works)).await;
    say(Acknowledged::Done);
}

fn nothing_open() -> OpenWork {
    OpenWork::default()
}

/// A line goes out in one write, so that a kill leaves whole lines.
fn say(acknowledged: Acknowledged) {
    println!("{}", serde_json::to_string(&acknowledged).unwrap());
}

fn say_receipt(receipt: Option<Receipt>) {
    if let Some(Receipt { first_seq, last_seq, hash, .. }) = receipt {
        say(Acknowledged::Receipt { first_seq, last_seq, hash });
    }
}

impl Process {
    async fn start(uri: LedgerUri, tenant: Tenant, name: &str) -> Self {
        let ledger = uri.open().await.unwrap();
        let feed = Feed::new(Arc::clone(&ledger));
        let config = CommandsConfig {
            origin: "stella.test".parse().unwrap(),
            clock: Arc::new(SystemClock),
            lease_ms: LEASE_MS,
            logs: Arc::new(stella_commands::NoLogs),
            snapshots: Arc::new(NoSnapshots),
            // Nothing is known before the first event: dispatch follows the ledger from there.
            open_work: vec![(tenant.clone(), nothing_open())],
        };
        let (commands, _) = Commands::start(config, ledger, feed);
        Self { commands, tenant, name: name.to_owned(), actor: Actor::user(name) }
    }

    async fn open(&self) {
        again(async || self.commands.open_ledger(&self.tenant, &self.actor).await).await;
        for version in 0..2 {
            self.register(SHARED_DAG, version).await;
        }
    }

    async fn register(&self, dag: &str, version: u64) {
        let spec = Arc::new(spec(dag, version));
        let register = async || {
            self.commands
                .register_dag(&self.tenant, &self.actor, Arc::clone(&spec), String::new())
                .await
        };
        let (version, receipt) = again(register).await;
        assert!(version > 0, "a registered DAG has a version");
        say_receipt(receipt);
    }

    async fn send(&self, commands: impl Iterator<Item = usize>, seed: u64) {
        for n in commands {
            // Each command depends on its number alone, so that every interleaving is reachable.
            let mut chance = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) + n as u64);
            match chance.u32(0..10) {
                0..=3 => {
                    self.start_run(&format!("{}-{n}", self.name), SHARED_DAG).await;
                }
                4..=6 => {
                    let shared = chance.usize(0..SHARED_TOKENS);
                    self.start_run(&format!("shared-{shared}"), SHARED_DAG).await;
                }
                7 => {
                    let run_id = self.start_run(&format!("{}-{n}", self.name), SHARED_DAG).await;
                    self.cancel(&run_id).await;
                }
                8 => self.register(OWN_DAG, chance.u64(0..20)).await,
                _ => {
                    let seal = async || {
                        let reason = format!("{n}");
                        self.commands.seal_ledger(&self.tenant, &self.actor, reason).await
                    };
                    say_receipt(again(seal).await);
                }
            }
        }
    }

    async fn start_run(&self, token: &str, dag: &str) -> RunId {
        let token: RunToken = token.parse().unwrap();
        let dag_id: DagId = dag.parse().unwrap();
        let new = NewRun {
            run_id: Commands::run_id(&self.tenant, Some(&token)),
            dag_id,
            dag_version: Some(1),
            inputs: CanonicalJson::empty_object(),
            given: None,
            labels: Labels::new(),
            priority: 0,
            run_token: Some(token.clone()),
            attempt: 0,
            rerun_of: None,
            reason: String::new(),
            schedule: None,
        };
        let start = async || self.commands.start_run(&self.tenant, &self.actor, new.clone()).await;
        let written = again(start).await;
        assert_eq!(written.receipt.is_none(), written.answer.replayed, "{token}");
        let run_id = written.answer.run_id;
        let (token, created) = (token.to_string(), !written.answer.replayed);
        say(Acknowledged::Run { token, run_id: run_id.clone(), created });
        say_receipt(written.receipt);
        run_id
    }

    async fn cancel(&self, run_id: &RunId) {
        let cancel = async || {
            let reason = "no longer needed".to_owned();
            self.commands.cancel_run(&self.tenant, &self.actor, run_id, reason).await
        };
        let written = again(cancel).await;
        say(Acknowledged::Cancelled { run_id: run_id.clone() });
        say_receipt(written.receipt);
    }

    /// Work off steps. A refusal is part of the game: leases expire and are granted elsewhere.
    async fn work(&self, i: usize, seed: u64) {
        let mut chance = fastrand::Rng::with_seed(seed.wrapping_add(i as u64));
        let worker_id: WorkerId = format!("{}-{i}", self.name).parse().unwrap();
        let poll = Poll {
            worker_id: worker_id.clone(),
            plugins: Arc::new([PluginName::into("core".parse().unwrap())]),
            max: 2,
            wait: Duration::from_millis(500),
        };
        loop {
            for grant in self.commands.poll(&self.tenant, poll.clone()).await {
                let outcome = if chance.u32(0..8) == 0 {
                    let message = "by chance".to_owned();
                    Outcome::Failed { code: ErrorCode::lenient("CHANCE"), message, retryable: true }
                } else {
                    Outcome::Succeeded { outputs: CanonicalJson::empty_object() }
                };
                let token = &grant.token;
                // Twice now and then: the second report must append nothing.
                for _ in 0..1 + usize::from(chance.u32(0..4) == 0) {
                    let complete = async || {
                        let outcome = outcome.clone();
                        self.commands
                            .complete(&self.tenant, &worker_id, token, outcome, None, None)
                            .await
                    };
                    match attempt(complete).await {
                        Ok(_) => say(Acknowledged::Completed { token: token.clone() }),
                        Err(CommandError::Refused(Refusal::Run(_))) => break,
                        Err(error) => panic!("completing {token}: {error}"),
                    }
                }
            }
        }
    }
}

/// Send the command until there is an answer other than "busy" or "unknown".
async fn attempt<T>(send: impl AsyncFn() -> Result<T, CommandError>) -> Result<T, CommandError> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match send().await {
            Err(
                CommandError::Refused(Refusal::Conflict { .. })
                | CommandError::Write(WriteError::OutcomeUnknown(_) | WriteError::Unavailable(_)),
            ) if left > 0 => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

async fn again<T>(send: impl AsyncFn() -> Result<T, CommandError>) -> T {
    attempt(send).await.unwrap_or_else(|error| panic!("{error}"))
}
