//! Workers that go away at the wrong moment: no step is lost, and nobody waits for a lease's end.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::poll;
use stella_domain::{
    aggregate::Outcome,
    chain::{Commit, Head},
    ids::{StreamId, Tenant},
    time::Timestamp,
};
use stella_ledger::port::{AppendError, Finding, Ledger, LedgerError};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

use crate::node::{Node, PATIENCE, TestClock, acme, json, open, poll_of, refusal, worker};

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
    let done = node.commands.complete(&acme(), &w1, &done.token, outcome, Some(&poll)).await;
    refusal(done);
    assert_eq!(node.lease("w2").await.token.run_id, waiting);
}

/// A ledger whose appends can be held up.
struct Gated {
    inner: Arc<dyn Ledger>,
    gate: Semaphore,
    appends: watch::Sender<usize>,
}

impl Gated {
    fn new(inner: Arc<dyn Ledger>) -> Self {
        Self { inner, gate: Semaphore::new(1), appends: watch::Sender::new(0) }
    }

    fn shut(&self) {
        self.gate.try_acquire().expect("no append is under way").forget();
    }

    fn open(&self) {
        self.gate.add_permits(1);
    }
}

#[async_trait]
impl Ledger for Gated {
    async fn append(&self, commits: &[Arc<Commit>]) -> Result<(), AppendError> {
        if commits.is_empty() {
            return Ok(());
        }
        self.appends.send_modify(|appends| *appends += 1);
        let _through = self.gate.acquire().await.unwrap();
        self.inner.append(commits).await
    }

    async fn head(&self, tenant: &Tenant) -> Result<Head, LedgerError> {
        self.inner.head(tenant).await
    }

    async fn is_head(&self, tenant: &Tenant, next_seq: u64) -> Result<bool, LedgerError> {
        self.inner.is_head(tenant, next_seq).await
    }

    async fn read(&self, t: &Tenant, from: u64, limit: usize) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read(t, from, limit).await
    }

    async fn read_streams(&self, t: &Tenant, s: &[StreamId]) -> Result<Vec<Commit>, LedgerError> {
        self.inner.read_streams(t, s).await
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
