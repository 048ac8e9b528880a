//! Servers that are killed, or say nothing.

use std::{fs, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use stella_domain::chain::Commit;
use stella_ledger::{
    conformance::Samples,
    mongo::{MongoLedger, MongoOptions},
    port::{AppendError, AppendFailure, Ledger, LedgerError},
};
use stella_mongod::{Mongod, Options};
use tokio::sync::watch;

use super::{Place, is_unavailable};

/// Append `commits` in batches, as a writer does: what the server left open is read back and
/// compared, then sent again. Returns how often it was left open, and how often nothing went.
async fn append_stubbornly(
    ledger: &MongoLedger,
    commits: &[Arc<Commit>],
    acknowledged: &watch::Sender<usize>,
) -> (usize, usize) {
    let (mut done, mut unknown, mut unavailable) = (0, 0, 0);
    while done < commits.len() {
        let batch = &commits[done..commits.len().min(done + 20)];
        match ledger.append(batch).await {
            Ok(()) => done += batch.len(),
            Err(AppendError { landed, cause }) => {
                done += landed;
                match cause {
                    AppendFailure::Unknown(_) => unknown += 1,
                    AppendFailure::Unavailable(_) => unavailable += 1,
                    AppendFailure::Conflict => {
                        let commit = &commits[done];
                        let found = ledger.read(&commit.ledger.tenant, commit.seq, 1).await;
                        assert_eq!(found.unwrap(), [(**commit).clone()], "it is our own");
                        done += 1;
                    }
                }
            }
        }
        acknowledged.send_replace(done);
    }
    (unknown, unavailable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const COMMITS: usize = 4_000;
    let mut mongod = Mongod::start(Options::default()).await.unwrap();
    let place = Place::at(mongod.uri(), None).await;
    // As short as can be, so that the outage is met more than once.
    let connect_timeout = Duration::from_millis(200);
    let ledger = place.ledger(MongoOptions { connect_timeout, ..MongoOptions::default() }).await;
    ledger.setup().await.unwrap();
    let mut acme = Samples::new("acme");
    let commits: Vec<_> =
        (0..COMMITS as u64).map(|n| acme.commit("dag/x", 1 + n, 1, n as i64)).collect();

    let (acknowledged, mut seen) = watch::channel(0);
    let appending = append_stubbornly(&ledger, &commits, &acknowledged);
    let killing = async {
        for kill_at in [COMMITS / 4, COMMITS / 2] {
            let before = *seen.wait_for(|done| *done >= kill_at).await.unwrap();
            mongod.kill().await.unwrap();
            mongod.restart().await.unwrap();
            let after = place.ledger(MongoOptions::default()).await;
            let head = after.head(&commits[0].ledger.tenant).await.unwrap();
            assert!(head.next_seq >= before as u64, "{before} acknowledged, {head:?}");
        }
    };
    let ((unknown, unavailable), ()) = tokio::join!(appending, killing);
    assert!(unknown + unavailable > 0, "the kills were met");

    let mut found = vec![];
    while found.len() < COMMITS {
        let page = ledger.read(acme.tenant(), found.len() as u64, 1_000).await.unwrap();
        assert!(!page.is_empty());
        found.extend(page.into_iter().map(Arc::new));
    }
    assert_eq!(found, commits);

    mongod.kill().await.unwrap();
    let late = ledger.append(&[acme.commit("dag/y", 1, 1, 9_999)]).await;
    assert!(late.is_err());
    let options = MongoOptions { connect_timeout, ..MongoOptions::default() };
    let meanwhile = place.ledger(options).await;
    let refused = meanwhile.append(&[acme.commit("dag/z", 1, 1, 9_999)]).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    let unread = meanwhile.read(acme.tenant(), 0, 1).await;
    assert!(matches!(unread, Err(LedgerError::Unavailable(_))), "{unread:?}");
    mongod.restart().await.unwrap();
    assert_eq!(meanwhile.read(acme.tenant(), 0, 1).await.unwrap().len(), 1, "it recovers");
}

/// Whether every thread of the process stands still (proc(5): state `T`).
fn is_stopped(process: Pid) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.all(|thread| {
        // One that has ended meanwhile says nothing.
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}

#[tokio::test]
async fn a_server_that_says_nothing_leaves_the_outcome_open() {
    let mongod = Mongod::start(Options::default()).await.unwrap();
    let place = Place::at(mongod.uri(), None).await;
    let short = Duration::from_millis(200);
    let options = MongoOptions {
        connect_timeout: short,
        append_timeout: short,
        read_timeout: short,
        ..MongoOptions::default()
    };
    let ledger = place.ledger(options).await;
    ledger.setup().await.unwrap();
    let mut acme = Samples::new("acme");
    let commits = [acme.commit("dag/x", 1, 1, 1), acme.commit("dag/x", 2, 1, 1)];
    ledger.append(&commits[..1]).await.unwrap();

    let process = Pid::from_raw(mongod.id() as i32);
    kill(process, Signal::SIGSTOP).unwrap();
    // On a busy machine a thread of it may still be on its way to stop, and answer.
    while !is_stopped(process) {
        tokio::task::yield_now().await;
    }
    let halted = ledger.append(&commits[1..]).await;
    let unread = ledger.is_head(acme.tenant(), 1).await;
    kill(process, Signal::SIGCONT).unwrap();
    let open = matches!(&halted, Err(AppendError { landed: 0, cause: AppendFailure::Unknown(_) }));
    assert!(open, "{halted:?}");
    assert!(matches!(unread, Err(LedgerError::Unavailable(_))), "{unread:?}");

    let (acknowledged, _) = watch::channel(0);
    append_stubbornly(&ledger, &commits[1..], &acknowledged).await;
    let found = ledger.read(acme.tenant(), 0, 10).await.unwrap();
    assert_eq!(found, commits.map(|commit| (*commit).clone()));
}
