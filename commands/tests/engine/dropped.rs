//! Workers that go away at the wrong moment: no step is lost, and nobody waits for a lease's end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::poll;
use stella_domain::{
    aggregate::Outcome,
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::port::{AppendError, AppendFailure, Finding, Ledger, LedgerError, Prepared};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use crate::node::{Node, PATIENCE, TestClock, acme, json, new_run, open, poll_of, refusal, worker};

#[tokio::test]
async fn a_poll_that_is_dropped_while_a_grant_is_under_way_loses_no_step() {
    let dir = TempDir::new().unwrap();
    let gated = Arc::new(Gated::new(open(&dir).await));
    let node = Node::new(gated.clone(), &TestClock::new()).await;
    let run_id = node.started("one").await;
    gated.shut();
    let before = *gated.appends.borrow();
    let tenant = acme();
    let mut waiting = Box::pin(node.commands.poll(&tenant, poll_of("w1", 1, PATIENCE)));
    assert!(poll!(&mut waiting).is_pending());
    gated.appends.subscribe().wait_for(|appends| *appends > before).await.unwrap();
    drop(waiting);
    gated.open();
    let held = node.lease("w2").await;
    assert_eq!((&held.token.run_id, held.attempt), (&run_id, 2));
    node.succeed("w2", &held, "{}").await;
}

#[tokio::test]
async fn a_poll_that_is_dropped_with_its_grant_unread_loses_no_step() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let tenant = acme();
    let mut waiting = Box::pin(node.commands.poll(&tenant, poll_of("w1", 1, PATIENCE)));
    assert!(poll!(&mut waiting).is_pending());
    let run_id = node.started("one").await;
    drop(waiting);
    let held = node.lease("w2").await;
    assert_eq!((&held.token.run_id, held.attempt), (&run_id, 2));
}

/// A node that is about to end still gives back what it leased and could not hand over.
#[tokio::test]
async fn a_grant_that_is_unread_when_the_node_closes_is_given_back() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    let tenant = acme();
    let mut waiting = Box::pin(node.commands.poll(&tenant, poll_of("w1", 1, PATIENCE)));
    assert!(poll!(&mut waiting).is_pending());
    node.started("one").await;
    node.recorded("StepStarted").await;
    node.commands.close();
    drop(waiting);
    node.recorded("StepLeaseReturned").await;
}

#[tokio::test]
async fn a_refused_report_loses_no_step_that_came_with_it() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(open(&dir).await, &TestClock::new()).await;
    node.started("one").await;
    let done = node.lease("w1").await;
    node.succeed("w1", &done, r#"{"n":1}"#).await;
    let waiting = node.started("one").await;
    let (w1, outcome) = (worker("w1"), Outcome::Succeeded { outputs: json("{}") });
    let poll = poll_of("w1", 1, Duration::ZERO);
    let done = node.commands.complete(&acme(), &w1, &done.token, outcome, None, Some(&poll)).await;
    refusal(done);
    assert_eq!(node.lease("w2").await.token.run_id, waiting);
}

/// The lease is in the ledger, and nobody was told so: it ends at once, not after its term.
#[tokio::test]
async fn a_lease_that_was_written_unheard_keeps_nobody_waiting() {
    let dir = TempDir::new().unwrap();
    let ledger = Arc::new(Gated::new(open(&dir).await));
    let clock = TestClock::new();
    let node = Node::new(ledger.clone(), &clock).await;
    let run_id = node.started("one").await;
    let before = *ledger.appends.borrow();
    ledger.silent.store(true, SeqCst);
    let leased = node.lease("w1");
    let outage = async {
        ledger.appends.subscribe().wait_for(|appends| *appends > before).await.unwrap();
        // Staged behind the lease, and refused when the writer gives up.
        node.run(new_run("one", None)).await.unwrap_err();
        ledger.silent.store(false, SeqCst);
        // No more than it takes until work that could not be done is tried again.
        clock.turn_ms(1_000);
    };
    let (held, ()) = futures::join!(leased, outage);
    assert_eq!((&held.token.run_id, held.attempt), (&run_id, 2));
    node.succeed("w1", &held, "{}").await;
}

/// A ledger whose appends can be held up.
struct Gated {
    inner: Arc<dyn Ledger>,
    gate: Semaphore,
    /// What is written is not acknowledged, and nothing can be read.
    silent: AtomicBool,
    appends: watch::Sender<usize>,
}

impl Gated {
    fn new(inner: Arc<dyn Ledger>) -> Self {
        let (gate, appends) = (Semaphore::new(1), watch::Sender::new(0));
        Self { inner, gate, silent: AtomicBool::new(false), appends }
    }

    fn shut(&self) {
        self.gate.try_acquire().expect("no append is under way").forget();
    }

    fn open(&self) {
        self.gate.add_permits(1);
    }

    fn readable(&self) -> Result<&dyn Ledger, LedgerError> {
        match self.silent.load(SeqCst) {
            true => Err(LedgerError::Unavailable("it is silent".to_owned())),
            false => Ok(&*self.inner),
        }
    }
}

#[async_trait]
impl Ledger for Gated {
    fn prepare(&self, commit: Arc<Commit>) -> Prepared {
        self.inner.prepare(commit)
    }

    async fn append_prepared(&self, commits: &[Prepared]) -> Result<(), AppendError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.appends.send_modify(|appends| *appends += 1);
        let _through = self.gate.acquire().await.unwrap();
        self.inner.append_prepared(commits).await?;
        match self.silent.load(SeqCst) {
            true => Err(AppendError { landed: 0, cause: AppendFailure::Unknown("silence".into()) }),
            false => Ok(()),
        }
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.inner.head(tenant).await
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.readable()?.is_head(tenant, next_seq).await
    }

    async fn read(&self, t: &Tenant, from: u64, limit: usize) -> Result<Vec<Commit>, LedgerError> {
        self.readable()?.read(t, from, limit).await
    }

    async fn read_streams(&self, t: &Tenant, s: &[StreamId]) -> Result<Vec<Commit>, LedgerError> {
        self.readable()?.read_streams(t, s).await
    }

    async fn first_at_or_after(
        &self,
        tenant: &Tenant,
        time: Timestamp,
    ) -> Result<Option<u64>, LedgerError> {
        self.inner.first_at_or_after(tenant, time).await
    }

    async fn tenants(&self, limit: usize) -> Result<Vec<Tenant>, LedgerError> {
        self.inner.tenants(limit).await
    }

    async fn server_time(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.inner.server_time().await
    }

    async fn findings(&self) -> Result<Vec<Finding>, LedgerError> {
        self.inner.findings().await
    }
}
