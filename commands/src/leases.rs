//! Workers' side of dispatch: ask for work, report what came of it, renew leases.

use std::{sync::Arc, time::Duration};

use stella_domain::{
    aggregate::{Outcome, RunCommand},
    ids::{Actor, FencingToken, PluginName, Tenant, WorkerId},
};
use tokio::sync::mpsc;

use crate::{
    CommandError, Commands,
    dispatch::{Grant, Renewal, WaiterId},
    engine::{Command, Shared},
};

/// A worker asks for work.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Who asks.
    pub worker_id: WorkerId,
    /// The plugins that it has.
    pub plugins: Arc<[PluginName]>,
    /// Leases wanted.
    pub max: u32,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// A report that was recorded.
#[derive(Debug)]
pub struct Completion {
    /// The leases that were asked for with it.
    pub next: Vec<Grant>,
}

/// What becomes of a lease that was to be renewed.
pub type HeartbeatAnswer = (FencingToken, Renewal);

/// A worker's place among those who wait; leaving it is left to nobody's memory.
struct Waiting<'a> {
    shared: &'a Shared,
    id: WaiterId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.dispatch().leave(self.id);
    }
}

impl Commands {
    /// Wait for work. What was granted while the wait ended still comes; if the caller goes away
    /// instead, those leases are ended and granted to somebody else.
    pub async fn poll(&self, tenant: &Tenant, poll: Poll) -> Vec<Grant> {
        let (waiting, mut grants) = self.wait(tenant, &poll);
        self.wake();
        let first = tokio::time::timeout(poll.wait, grants.recv()).await.ok().flatten();
        drop(waiting);
        let mut granted: Vec<Grant> = first.into_iter().collect();
        collect(&mut granted, &mut grants).await;
        granted
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
        and_poll: Option<&Poll>,
    ) -> Result<Completion, CommandError> {
        let waiting = and_poll.map(|poll| self.wait(tenant, poll));
        let command = RunCommand::Complete {
            token: token.stream_version,
            worker_id: worker_id.clone(),
            outcome,
            now: self.shared.clock.now(),
        };
        let (actor, run_id) = (Actor::worker(worker_id), token.run_id.clone());
        let recorded = self.run(tenant, Command::Run { actor, run_id, command }).await;
        let mut next = vec![];
        if let Some((waiting, mut grants)) = waiting {
            drop(waiting);
            collect(&mut next, &mut grants).await;
        }
        recorded.map(|_| Completion { next })
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

    fn wait(&self, tenant: &Tenant, poll: &Poll) -> (Waiting<'_>, mpsc::UnboundedReceiver<Grant>) {
        let (id, grants) = self.shared.dispatch().wait(
            tenant,
            &poll.worker_id,
            Arc::clone(&poll.plugins),
            poll.max,
        );
        (Waiting { shared: &self.shared, id }, grants)
    }

    fn wake(&self) {
        self.writer.wake();
    }
}

/// Take what was claimed for a waiter that has left: each claim ends as a lease or is dropped with
/// its sender, so this ends when the decisions under way are durable or given up.
async fn collect(granted: &mut Vec<Grant>, grants: &mut mpsc::UnboundedReceiver<Grant>) {
    while let Some(grant) = grants.recv().await {
        granted.push(grant);
    }
}
