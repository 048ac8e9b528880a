//! Dispatch: which steps wait for a worker, which workers wait for a step, and which leases and
//! timers run. Fed by committed events only; what is decided but not yet durable is never here.
//!
//! Plain data without I/O; time comes in with each call.

mod deadlines;
mod due;
mod queue;
mod timers;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use stella_domain::{
    chain::Commit,
    event::{Event, RunEvent, StepStarted},
    ids::{FencingToken, PluginName, RunId, StepId, StreamId, Tenant, WorkerId},
    open_work::OpenWork,
    time::Timestamp,
};

use self::waiting::Waiters;
use self::{
    deadlines::Deadlines,
    queue::{Queue, QueueKey},
    timers::{Timer, Timers},
};
pub use self::{
    due::Due,
    waiting::{Grant, Slot, WaiterId},
};

/// Nobody reported a step's end this long after its time ran out: the engine ends it.
const TIMEOUT_GRACE_MS: u64 = 15_000;

/// The state of dispatch for every tenant of this node.
#[derive(Default)]
pub struct Dispatch {
    tenants: HashMap<Tenant, TenantWork>,
    waiters: Waiters,
    timers: Timers,
    deadlines: Deadlines,
}

#[derive(Default)]
struct TenantWork {
    queue: Queue,
    /// What each run has open, so that its end clears it.
    runs: HashMap<RunId, BTreeMap<StepId, Open>>,
}

/// What a step is open as.
enum Open {
    Queued(PluginName, QueueKey),
    Leased(Lease),
    BackingOff(Timestamp),
}

struct Lease {
    token: FencingToken,
    worker_id: WorkerId,
    lease_ms: u64,
    expires_at: Timestamp,
    times_out_at: Timestamp,
    /// When its timer is set for.
    timer_at: Timestamp,
    cancel: bool,
}

/// What becomes of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It holds for another term.
    Renewed,
    /// It holds, but its run is being cancelled.
    Cancel,
    /// It is not this worker's, or has ended.
    Lost,
}

impl Dispatch {
    /// Begin with what a projection says is open. Every open lease gets one full term.
    pub fn open(&mut self, tenant: &Tenant, work: OpenWork, now: Timestamp) {
        for step in work.queued {
            let key = QueueKey::new(step.priority, step.seq);
            self.insert_queued(tenant, step.run_id, step.step_id, step.plugin, key);
        }
        for lease in work.leases {
            let (token, worker_id) = (lease.token, lease.worker_id);
            self.insert_lease(tenant, token, lease.step_id, worker_id, lease.lease_ms, None, now);
        }
        for retry in work.retries {
            self.insert_retry(tenant, retry.run_id, retry.step_id, retry.not_before);
        }
        for run in work.deadlines {
            self.deadlines.set(&mut self.timers, tenant, &run.run_id, run.deadline);
        }
        // Work that a projection had not seen would otherwise lie until somebody asks for something.
        self.timers.set(tenant, now, Timer::CatchUp);
    }

    /// Take account of a durable commit. `timeout_of` tells how long a step may take, in
    /// milliseconds, where the run is at hand.
    pub fn recorded(
        &mut self,
        tenant: &Tenant,
        commit: &Commit,
        events: &[Event],
        now: Timestamp,
        timeout_of: impl Fn(&StepId) -> Option<u64>,
    ) {
        let StreamId::Run(run_id) = &commit.stream else { return };
        for (i, event) in (0..).zip(events) {
            let Event::Run(event) = event else { continue };
            let token =
                FencingToken { run_id: run_id.clone(), stream_version: commit.stream_version + i };
            self.apply(tenant, commit.seq + i, token, event, now, &timeout_of);
        }
    }

    fn apply(
        &mut self,
        tenant: &Tenant,
        seq: u64,
        token: FencingToken,
        event: &RunEvent,
        now: Timestamp,
        timeout_of: &impl Fn(&StepId) -> Option<u64>,
    ) {
        let run_id = token.run_id.clone();
        match event {
            RunEvent::StepQueued(data) => {
                let key = QueueKey::new(data.priority, seq);
                let (step_id, plugin) = (data.step_id.clone(), data.plugin.clone());
                self.insert_queued(tenant, run_id, step_id, plugin, key);
            }
            RunEvent::StepStarted(StepStarted {
                step_id, worker_id, lease_ms, timeout_ms, ..
            }) => {
                let timeout = timeout_ms.or_else(|| timeout_of(step_id));
                let (step, worker) = (step_id.clone(), worker_id.clone());
                self.insert_lease(tenant, token, step, worker, *lease_ms, timeout, now);
            }
            RunEvent::StepRetryScheduled(data) => {
                self.insert_retry(tenant, run_id, data.step_id.clone(), data.not_before);
            }
            RunEvent::StepFailed(data, _) => self.remove(tenant, &run_id, &data.step_id),
            RunEvent::StepSucceeded(data, _)
            | RunEvent::StepTimedOut(data)
            | RunEvent::StepLeaseExpired(data)
            | RunEvent::StepCancelled(data) => self.remove(tenant, &run_id, &data.step_id),
            RunEvent::RunCancelRequested(..) | RunEvent::RunDeadlinePassed(_) => {
                self.deadlines.clear(&mut self.timers, tenant, &run_id);
                self.cancel(tenant, &run_id);
            }
            RunEvent::RunCancelled(_)
            | RunEvent::RunSucceeded(..)
            | RunEvent::RunFailed(_)
            | RunEvent::RunTimedOut(_) => {
                self.deadlines.clear(&mut self.timers, tenant, &run_id);
                self.end(tenant, &run_id);
            }
            RunEvent::RunCreated(data, _) => {
                if let Some(at) = data.deadline {
                    self.deadlines.set(&mut self.timers, tenant, &run_id, at);
                }
            }
            // No worker waits for these, and none holds them.
            RunEvent::StepSkipped(_)
            | RunEvent::StepFailureTolerated(_)
            | RunEvent::StepExpanded(_)
            | RunEvent::ApprovalRequested(..)
            | RunEvent::StepApproved(..)
            | RunEvent::StepRejected(..) => {}
        }
    }

    /// Whether a step of this plugin, queued at the end of the ledger, would be the next to go:
    /// nothing older of equal or higher priority waits.
    pub fn would_be_next(&self, tenant: &Tenant, plugin: &PluginName, priority: i32) -> bool {
        self.tenants.get(tenant).is_none_or(|work| work.queue.none_before(plugin, priority))
    }

    /// A place at a worker that waits for a step of this plugin.
    pub fn claim(&mut self, tenant: &Tenant, plugin: &PluginName) -> Option<Slot> {
        self.waiters.claim(tenant, plugin)
    }

    /// Give a claimed place back: no lease came of it.
    pub fn release(&mut self, slot: &Slot) {
        self.waiters.release(slot);
    }

    /// A worker waits for up to `slots` leases.
    pub fn wait(
        &mut self,
        tenant: &Tenant,
        worker_id: &WorkerId,
        plugins: Arc<[PluginName]>,
        slots: u32,
    ) -> (WaiterId, tokio::sync::mpsc::UnboundedReceiver<Grant>) {
        self.waiters.add(tenant, worker_id, plugins, slots)
    }

    /// The worker waits no longer; what it claimed already still reaches it.
    pub fn leave(&mut self, waiter: WaiterId) {
        self.waiters.remove(waiter);
    }

    /// Renew a lease.
    pub fn renew(
        &mut self,
        tenant: &Tenant,
        worker_id: &WorkerId,
        token: &FencingToken,
        now: Timestamp,
    ) -> Renewal {
        let Some(lease) = self.lease_mut(tenant, token) else { return Renewal::Lost };
        if lease.worker_id != *worker_id {
            return Renewal::Lost;
        }
        // The timer stays where it is; when it fires it sees that the lease was renewed.
        lease.expires_at = now.plus_ms(lease.lease_ms);
        if lease.cancel { Renewal::Cancel } else { Renewal::Renewed }
    }

    /// Leases of this worker whose runs are being cancelled.
    pub fn to_cancel(&self, tenant: &Tenant, worker_id: &WorkerId) -> Vec<FencingToken> {
        let Some(work) = self.tenants.get(tenant) else { return vec![] };
        let open = work.runs.values().flat_map(BTreeMap::values);
        open.filter_map(|open| match open {
            Open::Leased(lease) if lease.cancel && lease.worker_id == *worker_id => {
                Some(lease.token.clone())
            }
            Open::Leased(_) | Open::Queued(..) | Open::BackingOff(_) => None,
        })
        .collect()
    }

    /// The lease reached nobody: let it expire at once.
    pub fn orphan(&mut self, tenant: &Tenant, token: &FencingToken, now: Timestamp) {
        let Some(lease) = self.lease_mut(tenant, token) else { return };
        let (old, token) = (lease.timer_at, lease.token.clone());
        lease.expires_at = now;
        lease.timer_at = now;
        self.timers.reset(tenant, old, now, Timer::Lease(token));
    }

    /// Work that is due now. Each piece is given out once; what comes to nothing is
    /// [put back](Self::put_back).
    pub fn next_due(&mut self, now: Timestamp) -> Option<(Tenant, Due)> {
        while let Some((tenant, timer)) = self.timers.pop(now) {
            if let Some(due) = self.timer_fired(&tenant, timer, now) {
                return Some((tenant, due));
            }
        }
        self.waiters.next_match(&mut self.tenants)
    }

    /// When a timer is due next.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first()
    }

    /// `due` could not be carried out: it is still due.
    pub fn put_back(&mut self, tenant: &Tenant, due: Due, now: Timestamp) {
        const LATER_MS: u64 = 1_000;
        match due {
            Due::Grant { run_id, step_id, slot } => {
                self.release(&slot);
                // Not at once: what keeps it from being leased would do so again, without end.
                self.timers.set(tenant, now.plus_ms(LATER_MS), Timer::Queue(run_id, step_id));
            }
            Due::Expire(token) | Due::TimeOut(token) => {
                let at = now.plus_ms(LATER_MS);
                if let Some(lease) = self.lease_mut(tenant, &token) {
                    lease.timer_at = at;
                    self.timers.set(tenant, at, Timer::Lease(token));
                }
            }
            Due::Retry(run_id, step_id) => {
                self.insert_retry(tenant, run_id, step_id, now.plus_ms(LATER_MS));
            }
            Due::Deadline(run_id) => {
                let at = now.plus_ms(LATER_MS);
                self.deadlines.set(&mut self.timers, tenant, &run_id, at);
            }
            Due::CatchUp => self.timers.set(tenant, now.plus_ms(LATER_MS), Timer::CatchUp),
        }
    }

    fn timer_fired(&mut self, tenant: &Tenant, timer: Timer, now: Timestamp) -> Option<Due> {
        match timer {
            Timer::Retry(run_id, step_id) => Some(Due::Retry(run_id, step_id)),
            Timer::CatchUp => Some(Due::CatchUp),
            Timer::Deadline(run_id) => {
                self.deadlines.fired(tenant, &run_id).then_some(Due::Deadline(run_id))
            }
            Timer::Queue(run_id, step_id) => {
                let work = self.tenants.get_mut(tenant)?;
                // Unless it was cancelled, or leased by another writer, meanwhile.
                if let Some(Open::Queued(plugin, key)) =
                    work.runs.get(&run_id).and_then(|steps| steps.get(&step_id))
                {
                    work.queue.insert(plugin.clone(), *key, run_id, step_id);
                }
                None
            }
            Timer::Lease(token) => {
                let lease = self.lease_mut(tenant, &token)?;
                if lease.times_out_at <= now {
                    return Some(Due::TimeOut(token));
                }
                if lease.expires_at <= now {
                    return Some(Due::Expire(token));
                }
                lease.timer_at = lease.expires_at.min(lease.times_out_at);
                let at = lease.timer_at;
                self.timers.set(tenant, at, Timer::Lease(token));
                None
            }
        }
    }

    fn lease_mut(&mut self, tenant: &Tenant, token: &FencingToken) -> Option<&mut Lease> {
        let steps = self.tenants.get_mut(tenant)?.runs.get_mut(&token.run_id)?;
        steps.values_mut().find_map(|open| match open {
            Open::Leased(lease) if lease.token == *token => Some(lease),
            Open::Leased(_) | Open::Queued(..) | Open::BackingOff(_) => None,
        })
    }

    fn insert_queued(
        &mut self,
        tenant: &Tenant,
        run_id: RunId,
        step_id: StepId,
        plugin: PluginName,
        key: QueueKey,
    ) {
        self.remove(tenant, &run_id, &step_id);
        let work = self.work(tenant);
        work.queue.insert(plugin.clone(), key, run_id.clone(), step_id.clone());
        work.runs.entry(run_id).or_default().insert(step_id, Open::Queued(plugin, key));
    }

    #[allow(clippy::too_many_arguments)] // One call's worth of facts about a lease.
    fn insert_lease(
        &mut self,
        tenant: &Tenant,
        token: FencingToken,
        step_id: StepId,
        worker_id: WorkerId,
        lease_ms: u64,
        timeout_ms: Option<u64>,
        now: Timestamp,
    ) {
        self.remove(tenant, &token.run_id, &step_id);
        let expires_at = now.plus_ms(lease_ms);
        // Without the run at hand the lease's own expiry is what ends it.
        let times_out_at = timeout_ms
            .map_or(Timestamp::from_micros(i64::MAX), |ms| now.plus_ms(ms + TIMEOUT_GRACE_MS));
        let timer_at = expires_at.min(times_out_at);
        self.timers.set(tenant, timer_at, Timer::Lease(token.clone()));
        let run_id = token.run_id.clone();
        let lease =
            Lease { token, worker_id, lease_ms, expires_at, times_out_at, timer_at, cancel: false };
        self.work(tenant).runs.entry(run_id).or_default().insert(step_id, Open::Leased(lease));
    }

    fn insert_retry(&mut self, tenant: &Tenant, run_id: RunId, step_id: StepId, at: Timestamp) {
        self.remove(tenant, &run_id, &step_id);
        self.timers.set(tenant, at, Timer::Retry(run_id.clone(), step_id.clone()));
        self.work(tenant).runs.entry(run_id).or_default().insert(step_id, Open::BackingOff(at));
    }

    fn remove(&mut self, tenant: &Tenant, run_id: &RunId, step_id: &StepId) {
        let Some(work) = self.tenants.get_mut(tenant) else { return };
        let Some(steps) = work.runs.get_mut(run_id) else { return };
        if let Some(open) = steps.remove(step_id) {
            close(tenant, run_id, step_id, open, &mut work.queue, &mut self.timers);
        }
        if steps.is_empty() {
            work.runs.remove(run_id);
        }
    }

    /// Nothing of the run starts any more; its workers are told.
    fn cancel(&mut self, tenant: &Tenant, run_id: &RunId) {
        let Some(work) = self.tenants.get_mut(tenant) else { return };
        let Some(steps) = work.runs.remove(run_id) else { return };
        let mut running = BTreeMap::new();
        for (step_id, open) in steps {
            match open {
                Open::Leased(lease) => {
                    running.insert(step_id, Open::Leased(Lease { cancel: true, ..lease }));
                }
                open @ (Open::Queued(..) | Open::BackingOff(_)) => {
                    close(tenant, run_id, &step_id, open, &mut work.queue, &mut self.timers);
                }
            }
        }
        if !running.is_empty() {
            work.runs.insert(run_id.clone(), running);
        }
    }

    fn end(&mut self, tenant: &Tenant, run_id: &RunId) {
        let Some(work) = self.tenants.get_mut(tenant) else { return };
        for (step_id, open) in work.runs.remove(run_id).into_iter().flatten() {
            close(tenant, run_id, &step_id, open, &mut work.queue, &mut self.timers);
        }
    }

    fn work(&mut self, tenant: &Tenant) -> &mut TenantWork {
        self.tenants.entry(tenant.clone()).or_default()
    }
}

fn close(
    tenant: &Tenant,
    run_id: &RunId,
    step_id: &StepId,
    open: Open,
    queue: &mut Queue,
    timers: &mut Timers,
) {
    match open {
        Open::Queued(plugin, key) => queue.remove(&plugin, &key),
        Open::Leased(lease) => timers.unset(tenant, lease.timer_at, Timer::Lease(lease.token)),
        Open::BackingOff(at) => {
            timers.unset(tenant, at, Timer::Retry(run_id.clone(), step_id.clone()));
        }
    }
}
