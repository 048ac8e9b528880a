//! Workers that wait for work, first come first served.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use stella_domain::{
    ids::{DagId, FencingToken, PluginName, RunId, StepId, Tenant, WorkerId},
    json::CanonicalJson,
    plugin::{PluginBuild, WorkerPlugin},
};
use tokio::sync::mpsc;

use super::{queue::Next, work::TenantWork};

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
    /// Whose worker it is.
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
    tenant: Tenant,
    worker_id: WorkerId,
    plugins: Arc<[WorkerPlugin]>,
    free: u32,
    sink: mpsc::UnboundedSender<Grant>,
}

impl Waiter {
    fn has(&self, plugin: &PluginName) -> bool {
        self.plugins.iter().any(|has| has.name == *plugin)
    }

    fn claim(&mut self, waiter: WaiterId, plugin: &PluginName, step: (RunId, StepId)) -> Slot {
        self.free -= 1;
        let (tenant, worker_id) = (self.tenant.clone(), self.worker_id.clone());
        let plugin = self.plugins.iter().find(|has| has.name == *plugin);
        let plugin = plugin.map(|has| has.build.clone()).unwrap_or_default();
        Slot { waiter, tenant, worker_id, plugin, step, sink: self.sink.clone() }
    }
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
        plugins: Arc<[WorkerPlugin]>,
        slots: u32,
    ) -> (WaiterId, mpsc::UnboundedReceiver<Grant>) {
        let id = WaiterId(self.next_id);
        self.next_id += 1;
        let (sink, grants) = mpsc::unbounded_channel();
        let (tenant, worker_id) = (tenant.clone(), worker_id.clone());
        self.waiting.insert(id, Waiter { tenant, worker_id, plugins, free: slots, sink });
        (id, grants)
    }

    pub(super) fn remove(&mut self, id: WaiterId) {
        self.waiting.remove(&id);
    }

    pub(super) fn claim(
        &mut self,
        tenant: &Tenant,
        plugin: &PluginName,
        run_id: &RunId,
        step_id: &StepId,
    ) -> Option<Slot> {
        let (id, waiter) = self.waiting.iter_mut().find(|(_, waiter)| {
            waiter.free > 0 && waiter.tenant == *tenant && waiter.has(plugin)
        })?;
        Some(waiter.claim(*id, plugin, (run_id.clone(), step_id.clone())))
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
            let Some(work) = tenants.get_mut(&waiter.tenant) else { continue };
            if work.queue.is_empty() {
                continue;
            }
            let TenantWork { queue, holds, .. } = work;
            let next = waiter.plugins.iter().filter_map(|plugin| queue.next(&plugin.name, holds));
            let Some(next) = next.min_by_key(Next::place) else { continue };
            let Some(step) = queue.take_next(&next) else { continue };
            let Some(kind) = work.queued(&step.0, &step.1).cloned() else { continue };
            let plugin = kind.plugin.clone();
            work.claim(&step.0, &step.1, kind);
            return Some(waiter.claim(*id, &plugin, step));
        }
        None
    }
}
