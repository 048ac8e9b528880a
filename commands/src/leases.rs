//! Workers' side of dispatch: ask for work, report what came of it, renew leases.

use std::{sync::Arc, time::Duration};

use stella_domain::{
    aggregate::{Outcome, RunCommand},
    artifact::Artifact,
    ids::{Actor, FencingToken, Tenant, WorkerId},
    plugin::WorkerPlugin,
};
use tokio::sync::mpsc;

use crate::{
    CommandError, Commands,
    dispatch::{Grant, Renewal, WaiterId},
    engine::Command,
};

/// A worker asks for work.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Who asks.
    pub worker_id: WorkerId,
    /// The plugins that it has.
    pub plugins: Arc<[WorkerPlugin]>,
    /// Leases wanted.
    pub max: u32,
    /// How long to wait for the first; a moment at least.
    pub wait: Duration,
}

/// The logs of attempts, while they are written.
pub trait StepLogs: Send + Sync {
    /// Nothing is added to this attempt's log from here on: it ends. Gives what was written; safe to
    /// repeat.
    fn close(&self, token: &FencingToken) -> Option<Artifact>;
}

/// For a node that keeps no logs.
#[derive(Debug, Clone, Copy)]
pub struct NoLogs;

impl StepLogs for NoLogs {
    fn close(&self, _token: &FencingToken) -> Option<Artifact> {
        None
    }
}

/// A report that was recorded.
#[derive(Debug)]
pub struct Completion {
    /// The leases that were asked for with it.
    pub next: Vec<Grant>,
}

/// What becomes of a lease that was to be renewed.
pub type HeartbeatAnswer = (FencingToken, Renewal);

/// Shortest wait of a poll: the writer needs a moment to see that somebody waits.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// A worker's place among those who wait. However its call ends, the place is left, and leases
/// that the caller did not get are ended.
struct Waiting<'a> {
    commands: &'a Commands,
    tenant: &'a Tenant,
    id: WaiterId,
    grants: mpsc::UnboundedReceiver<Grant>,
    taken: Vec<Grant>,
}

impl Waiting<'_> {
    async fn first(&mut self, wait: Duration) {
        if let Ok(Some(grant)) = tokio::time::timeout(wait, self.grants.recv()).await {
            self.taken.push(grant);
        }
    }

    /// Leave, and take what was claimed: each claim ends as a lease or is dropped with its sender,
    /// so this ends when the decisions under way are durable or given up.
    async fn all(mut self) -> Vec<Grant> {
        self.commands.shared.dispatch().leave(self.id);
        while let Some(grant) = self.grants.recv().await {
            self.taken.push(grant);
        }
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let shared = &self.commands.shared;
        let mut dispatch = shared.dispatch();
        dispatch.leave(self.id);
        // What is sent from here on finds nobody, and is ended by the sender.
        self.grants.close();
        while let Ok(grant) = self.grants.try_recv() {
            self.taken.push(grant);
        }
        for grant in &self.taken {
            dispatch.orphan(self.tenant, &grant.token, shared.clock.now());
        }
        drop(dispatch);
        if !self.taken.is_empty() {
            self.commands.wake();
        }
    }
}

impl Commands {
    /// Wait for work. What was granted while the wait ended still comes; if the caller goes away
    /// instead, those leases are ended and granted to somebody else.
    pub async fn poll(&self, tenant: &Tenant, poll: Poll) -> Vec<Grant> {
        let mut waiting = self.wait(tenant, &poll);
        self.wake();
        waiting.first(poll.wait.max(LEAST_WAIT)).await;
        waiting.all().await
    }

    /// Record how a leased step ended, and ask for the next. Safe to repeat.
    ///
    /// # Errors
    /// [`CommandError`]; a stale token is refused, and a report that differs from what is recorded.
    pub async fn complete(
        &self,
        tenant: &Tenant,
        worker_id: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        log: Option<Artifact>,
        and_poll: Option<&Poll>,
    ) -> Result<Completion, CommandError> {
        let waiting = and_poll.map(|poll| self.wait(tenant, poll));
        let command = RunCommand::Complete {
            token: token.stream_version,
            worker_id: worker_id.clone(),
            outcome,
            log,
            run_id: token.run_id.clone(),
            now: self.shared.clock.now(),
        };
        let (actor, run_id) = (Actor::worker(worker_id), token.run_id.clone());
        self.run(tenant, Command::Run { actor, run_id, command }).await?;
        let next = match waiting {
            Some(waiting) => waiting.all().await,
            None => vec![],
        };
        Ok(Completion { next })
    }

    /// Renew leases, and learn which of them are to be ended.
    pub fn heartbeat(
        &self,
        tenant: &Tenant,
        worker_id: &WorkerId,
        tokens: &[FencingToken],
    ) -> Vec<HeartbeatAnswer> {
        let now = self.shared.clock.now();
        let mut dispatch = self.shared.dispatch();
        let renew =
            |token: &FencingToken| (token.clone(), dispatch.renew(tenant, worker_id, token, now));
        tokens.iter().map(renew).collect()
    }

    /// A worker ends, and asks for nothing more.
    pub fn leave(&self, tenant: &Tenant, worker_id: &WorkerId) {
        self.shared.dispatch().worker_leaves(tenant, worker_id);
    }

    /// Whether this worker holds this lease, as far as this node knows.
    pub fn holds(&self, tenant: &Tenant, worker_id: &WorkerId, token: &FencingToken) -> bool {
        self.shared.dispatch().is_held(tenant, worker_id, token)
    }

    /// Whether this attempt is under way, whoever carries it out.
    pub fn is_leased(&self, tenant: &Tenant, token: &FencingToken) -> bool {
        self.shared.dispatch().is_leased(tenant, token)
    }

    /// Wait until one of this worker's running steps is to be cancelled. The same lease is named
    /// until its end is reported.
    pub async fn cancellations(&self, tenant: &Tenant, worker_id: &WorkerId) -> Vec<FencingToken> {
        loop {
            let woken = self.shared.cancelled.notified();
            tokio::pin!(woken);
            // Registered before looking, so that nothing falls between.
            woken.as_mut().enable();
            let tokens = self.shared.dispatch().to_cancel(tenant, worker_id);
            if !tokens.is_empty() {
                return tokens;
            }
            woken.await;
        }
    }

    fn wait<'a>(&'a self, tenant: &'a Tenant, poll: &Poll) -> Waiting<'a> {
        let plugins = Arc::clone(&poll.plugins);
        let now = self.shared.clock.now();
        // Until there is authentication, a worker works for one.
        let tenants = Arc::new([tenant.clone()]);
        let (id, grants) =
            self.shared.dispatch().wait(tenants, &poll.worker_id, plugins, poll.max, now);
        Waiting { commands: self, tenant, id, grants, taken: vec![] }
    }

    fn wake(&self) {
        self.writer.wake();
    }
}
