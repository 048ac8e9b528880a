//! Four processes write one tenant's ledger at the same time, two of them are killed: nothing that
//! was acknowledged is lost, and nothing stands there twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use harness::{
    acknowledged::{Acknowledged, OWN_DAG, SHARED_DAG, SHARED_TOKENS},
    history::History,
    mongo::Database,
};
use stella_commands::Commands;
use stella_domain::{
    event::RunEvent,
    ids::{FencingToken, RunId, StreamId, Tenant},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

const TENANT: &str = "acme";
/// Commands of each process. Those to be killed are given more than they get to do.
const COMMANDS: usize = 250;
const COMMANDS_OF_DOOMED: usize = 100_000;
/// Acknowledgements after which a doomed process is killed: the second one later than the first.
const KILLED_AFTER: [usize; 2] = [80, 250];
/// For all of it; a test that reaches this has failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_write_one_tenant_on_mongodb() {
    let database = Database::new().await;
    four_processes_write(&database.uri).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_write_one_tenant_in_one_sqlite_file() {
    let dir = tempfile::tempdir().unwrap();
    four_processes_write(&format!("sqlite:{}", dir.path().join("ledger.db").display())).await;
}

/// Run the processes, and check the ledger against all that they were told.
async fn four_processes_write(ledger: &str) {
    let doomed = KILLED_AFTER.iter().map(|after| (COMMANDS_OF_DOOMED, Some(*after)));
    let plans = [(COMMANDS, None), (COMMANDS, None)].into_iter().chain(doomed);
    let running: Vec<_> = plans
        .enumerate()
        .map(|(i, (commands, killed_after))| {
            let child = start(ledger, &format!("p{i}"), commands, i as u64);
            tokio::spawn(listen(child, killed_after))
        })
        .collect();
    let mut told = vec![];
    for process in running {
        let heard = tokio::time::timeout(PATIENCE, process).await;
        told.push(heard.expect("the processes come to an end").unwrap());
    }
    let history = History::read(ledger, TENANT).await;
    every_receipt_is_there(&history, &told);
    every_token_made_one_run(&history, &told);
    every_report_counts_once(&history, &told);
    nothing_else_is_there(&history);
}

fn start(ledger: &str, name: &str, commands: usize, seed: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_writing-process"))
        .args([ledger, TENANT, name, &commands.to_string(), &seed.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What the process says until it ends, by itself or by `kill -9` after so many acknowledgements.
async fn listen(mut child: Child, killed_after: Option<usize>) -> Vec<Acknowledged> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = vec![];
    while let Some(line) = lines.next_line().await.unwrap() {
        match serde_json::from_str(&line) {
            Ok(acknowledged) => heard.push(acknowledged),
            // A kill may cut the last line; one that was cut acknowledged nothing.
            Err(error) => assert!(killed_after.is_some(), "{line:?}: {error}"),
        }
        if Some(heard.len()) == killed_after {
            child.start_kill().unwrap();
        }
    }
    let ended = child.wait().await.unwrap();
    assert_eq!(ended.success(), killed_after.is_none(), "{ended}");
    assert!(ended.code() != Some(101), "the process failed");
    let done = matches!(heard.last(), Some(Acknowledged::Done));
    assert_eq!(done, killed_after.is_none(), "who was not killed answered all its commands");
    heard
}

fn every_receipt_is_there(history: &History, told: &[Vec<Acknowledged>]) {
    let mut places = BTreeSet::new();
    for acknowledged in told.iter().flatten() {
        let Acknowledged::Receipt { first_seq, last_seq, hash } = acknowledged else { continue };
        let commit = history.commit_at(*first_seq).expect("an acknowledged commit is there");
        assert_eq!((commit.last_seq(), commit.head().hash), (*last_seq, *hash));
        assert!(places.insert(*first_seq), "two commands were given the commit at {first_seq}");
    }
    assert!(places.len() > COMMANDS, "only {} commits were acknowledged", places.len());
}

fn every_token_made_one_run(history: &History, told: &[Vec<Acknowledged>]) {
    let mut creators: BTreeMap<&RunId, (&str, usize)> = BTreeMap::new();
    for acknowledged in told.iter().flatten() {
        match acknowledged {
            Acknowledged::Run { token, run_id, created } => {
                let (of_token, times) = creators.entry(run_id).or_insert((token, 0));
                assert_eq!(of_token, token, "two tokens, one run");
                *times += usize::from(*created);
            }
            Acknowledged::Cancelled { run_id } => {
                let asked = |(_, event): (_, &_)| matches!(event, RunEvent::RunCancelRequested(..));
                let holds = history.run_events(run_id).any(asked) || history.has_ended(run_id);
                assert!(holds, "the cancellation of {run_id} is lost");
            }
            _ => {}
        }
    }
    let shared = creators.values().filter(|(token, _)| token.starts_with("shared-")).count();
    assert!(shared > SHARED_TOKENS / 2, "only {shared} shared tokens were used");
    for (run_id, (token, times)) in creators {
        // Nobody, if who made it was killed before it could say so.
        assert!(times <= 1, "{token} was created {times} times");
        let made =
            history.run_events(run_id).filter(|(_, e)| matches!(e, RunEvent::RunCreated(..)));
        assert_eq!(made.count(), 1, "{token}");
    }
}

fn every_report_counts_once(history: &History, told: &[Vec<Acknowledged>]) {
    let reported: BTreeSet<&FencingToken> = told
        .iter()
        .flatten()
        .filter_map(|acknowledged| match acknowledged {
            Acknowledged::Completed { token } => Some(token),
            _ => None,
        })
        .collect();
    assert!(!reported.is_empty(), "no step was worked off");
    for token in reported {
        assert_eq!(history.closings(token), 1, "the report for {token}");
    }
}

/// Every stream is one that somebody asked for.
fn nothing_else_is_there(history: &History) {
    let tenant: Tenant = TENANT.parse().unwrap();
    let shared = (0..SHARED_TOKENS).map(|n| format!("shared-{n}"));
    let own = |p: usize, commands: usize| (0..commands).map(move |n| format!("p{p}-{n}"));
    let tokens = shared.chain((0..4).flat_map(|p| own(p, if p < 2 { COMMANDS } else { 5_000 })));
    let asked_for: BTreeSet<RunId> =
        tokens.map(|token| Commands::run_id(&tenant, Some(&token.parse().unwrap()))).collect();
    for stream in history.streams() {
        let expected = match stream {
            StreamId::Run(run_id) => asked_for.contains(run_id),
            StreamId::Dag(dag_id) => [SHARED_DAG, OWN_DAG].contains(&dag_id.as_str()),
            StreamId::Ledger(of) => *of == tenant,
            StreamId::Schedule(_) | StreamId::Plugin(_) | StreamId::Control(_) => false,
        };
        assert!(expected, "nobody asked for {stream}");
    }
}
