//! Workers that wait for work, first come first served. Where a worker works for several tenants, the
//! tenant that has had least for its weight goes first.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
};

use stella_domain::{
    ids::{DagId, FencingToken, PluginName, RunId, StepId, Tenant, WorkerId},
    json::CanonicalJson,
    plugin::{PluginBuild, WorkerPlugin},
};
use tokio::sync::mpsc;

use super::{queue::Next, shares::Shares, work::TenantWork};

/// Names a waiting worker's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(u64);

/// A lease on its way to a worker.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Names the run and the lease.
    pub token: FencingToken,
    /// The step.
    pub step_id: StepId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The run's DAG.
    pub dag_id: DagId,
    /// The plugin to use.
    pub plugin: PluginName,
    /// The action to carry out.
    pub action: String,
    /// What the action is given.
    pub with: CanonicalJson,
    /// Milliseconds that the lease holds without a heartbeat.
    pub lease_ms: u64,
    /// Milliseconds that the attempt may take.
    pub timeout_ms: u64,
}

/// A claimed place at a waiting worker: one lease may be sent to it.
///
/// Unbounded, because a worker's places bound what is sent.
#[derive(Debug, Clone)]
pub struct Slot {
    waiter: WaiterId,
    /// Whose step it is claimed for.
    pub tenant: Tenant,
    /// The worker.
    pub worker_id: WorkerId,
    /// What it says of the plugin that it has for the step.
    pub plugin: PluginBuild,
    /// The step for which it is claimed.
    pub step: (RunId, StepId),
    /// Where the lease goes.
    pub sink: mpsc::UnboundedSender<Grant>,
}

struct Waiter {
    /// Those that it works for.
    tenants: Arc<[Tenant]>,
    worker_id: WorkerId,
    plugins: Arc<[WorkerPlugin]>,
    free: u32,
    sink: mpsc::UnboundedSender<Grant>,
}

impl Waiter {
    fn has(&self, plugin: &PluginName) -> bool {
        self.plugins.iter().any(|has| has.name == *plugin)
    }

    fn claim(
        &mut self,
        waiter: WaiterId,
        tenant: &Tenant,
        plugin: &PluginName,
        step: (RunId, StepId),
    ) -> Slot {
        self.free -= 1;
        let (tenant, worker_id) = (tenant.clone(), self.worker_id.clone());
        let plugin = self.plugins.iter().find(|has| has.name == *plugin);
        let plugin = plugin.map(|has| has.build.clone()).unwrap_or_default();
        Slot { waiter, tenant, worker_id, plugin, step, sink: self.sink.clone() }
    }

    /// The tenant whose turn it is of those that have something for this worker, and what that is.
    fn next<'a>(
        &'a self,
        tenants: &mut HashMap<Tenant, TenantWork>,
        shares: &Shares,
    ) -> Option<(&'a Tenant, Next)> {
        let mut next = |tenant: &Tenant| {
            let TenantWork { queue, holds, .. } = tenants.get_mut(tenant)?;
            if queue.is_empty() {
                return None;
            }
            let of_plugins =
                self.plugins.iter().filter_map(|plugin| queue.next(&plugin.name, holds));
            of_plugins.min_by_key(Next::place)
        };
        let having = self.tenants.iter().filter_map(|tenant| Some((tenant, next(tenant)?)));
        having.min_by_key(|(tenant, _)| (shares.had(tenant), *tenant))
    }
}

#[derive(Default)]
pub(super) struct Waiters {
    next_id: u64,
    waiting: BTreeMap<WaiterId, Waiter>,
    shares: Shares,
}

impl Waiters {
    pub(super) fn set_weight(&mut self, tenant: &Tenant, weight: NonZeroU32) {
        self.shares.set_weight(tenant, weight);
    }

    pub(super) fn add(
        &mut self,
        tenants: Arc<[Tenant]>,
        worker_id: &WorkerId,
        plugins: Arc<[WorkerPlugin]>,
        slots: u32,
    ) -> (WaiterId, mpsc::UnboundedReceiver<Grant>) {
        let id = WaiterId(self.next_id);
        self.next_id += 1;
        let (sink, grants) = mpsc::unbounded_channel();
        let worker_id = worker_id.clone();
        self.waiting.insert(id, Waiter { tenants, worker_id, plugins, free: slots, sink });
        (id, grants)
    }

    pub(super) fn remove(&mut self, id: WaiterId) {
        self.waiting.remove(&id);
    }

    /// Claim a place for a step that goes next of its tenant. A worker of several tenants is left to
    /// [`next_match`](Self::next_match) while something waits for it: it may be another one's turn.
    pub(super) fn claim(
        &mut self,
        tenants: &mut HashMap<Tenant, TenantWork>,
        tenant: &Tenant,
        plugin: &PluginName,
        run_id: &RunId,
        step_id: &StepId,
    ) -> Option<Slot> {
        let shares = &self.shares;
        let (id, waiter) = self.waiting.iter_mut().find(|(_, waiter)| {
            waiter.free > 0
                && waiter.tenants.contains(tenant)
                && waiter.has(plugin)
                && (waiter.tenants.len() == 1 || waiter.next(tenants, shares).is_none())
        })?;
        let slot = waiter.claim(*id, tenant, plugin, (run_id.clone(), step_id.clone()));
        self.shares.serve(tenant);
        Some(slot)
    }

    pub(super) fn release(&mut self, slot: &Slot) {
        if let Some(waiter) = self.waiting.get_mut(&slot.waiter) {
            waiter.free += 1;
        }
    }

    /// Claim a place of the first waiting worker for which a step is queued that may go, for the
    /// one that goes next.
    pub(super) fn next_match(&mut self, tenants: &mut HashMap<Tenant, TenantWork>) -> Option<Slot> {
        for (id, waiter) in self.waiting.iter_mut().filter(|(_, waiter)| waiter.free > 0) {
            let Some((tenant, next)) = waiter.next(tenants, &self.shares) else { continue };
            let (tenant, Some(work)) = (tenant.clone(), tenants.get_mut(tenant)) else { continue };
            let Some(step) = work.queue.take_next(&next) else { continue };
            let Some(kind) = work.queued(&step.0, &step.1).cloned() else { continue };
            let plugin = kind.plugin.clone();
            work.claim(&step.0, &step.1, kind);
            self.shares.serve(&tenant);
            return Some(waiter.claim(*id, &tenant, &plugin, step));
        }
        None
    }
}
