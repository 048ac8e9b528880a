//! Workers that wait for work, first come first served.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use stella_domain::{
    ids::{DagId, FencingToken, PluginName, RunId, StepId, Tenant, WorkerId},
    json::CanonicalJson,
};
use tokio::sync::mpsc;

use super::{Due, TenantWork};

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
    /// The worker.
    pub worker_id: WorkerId,
    /// Where the lease goes.
    pub sink: mpsc::UnboundedSender<Grant>,
}

struct Waiter {
    tenant: Tenant,
    plugins: Arc<[PluginName]>,
    free: u32,
    slot: Slot,
}

#[derive(Default)]
pub(super) struct Waiters {
    next_id: u64,
    waiting: BTreeMap<WaiterId, Waiter>,
}

impl Waiters {
    pub(super) fn add(
        &mut self,
        tenant: &Tenant,
        worker_id: &WorkerId,
        plugins: Arc<[PluginName]>,
        slots: u32,
    ) -> (WaiterId, mpsc::UnboundedReceiver<Grant>) {
        let id = WaiterId(self.next_id);
        self.next_id += 1;
        let (sink, grants) = mpsc::unbounded_channel();
        let slot = Slot { waiter: id, worker_id: worker_id.clone(), sink };
        let tenant = tenant.clone();
        self.waiting.insert(id, Waiter { tenant, plugins, free: slots, slot });
        (id, grants)
    }

    pub(super) fn remove(&mut self, id: WaiterId) {
        self.waiting.remove(&id);
    }

    pub(super) fn claim(&mut self, tenant: &Tenant, plugin: &PluginName) -> Option<Slot> {
        let waiter = self.waiting.values_mut().find(|waiter| {
            waiter.free > 0 && waiter.tenant == *tenant && waiter.plugins.contains(plugin)
        })?;
        waiter.free -= 1;
        Some(waiter.slot.clone())
    }

    pub(super) fn release(&mut self, slot: &Slot) {
        if let Some(waiter) = self.waiting.get_mut(&slot.waiter) {
            waiter.free += 1;
        }
    }

    /// The first waiting worker for which a step is queued, with the step that goes next.
    pub(super) fn next_match(
        &mut self,
        tenants: &mut HashMap<Tenant, TenantWork>,
    ) -> Option<(Tenant, Due)> {
        for waiter in self.waiting.values_mut().filter(|waiter| waiter.free > 0) {
            let Some(work) = tenants.get_mut(&waiter.tenant) else { continue };
            if work.queue.is_empty() {
                continue;
            }
            let first = |plugin: &&PluginName| work.queue.first(plugin);
            let next = waiter.plugins.iter().filter(|p| first(p).is_some()).min_by_key(first);
            let Some(plugin) = next.cloned() else { continue };
            let Some((run_id, step_id)): Option<(RunId, StepId)> = work.queue.take_first(&plugin)
            else {
                continue;
            };
            waiter.free -= 1;
            let due = Due::Grant { run_id, step_id, slot: waiter.slot.clone() };
            return Some((waiter.tenant.clone(), due));
        }
        None
    }
}
