//! Dispatch: which steps wait for a worker, which workers wait for a step, what holds steps back,
//! and which leases and timers run. Fed by committed events only; what is decided but not yet
//! durable is never here, but for places of workers that are claimed for it.
//!
//! Plain data without I/O; time comes in with each call.

mod deadlines;
mod due;
mod events;
mod fires;
mod holds;
mod queue;
mod shares;
mod timers;
mod waiting;
mod work;
mod workers;

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use stella_domain::{
    aggregate::{OpenFire, Run},
    chain::Commit,
    event::Event,
    ids::{DagId, FencingToken, RunId, ScheduleId, StepId, StreamId, Tenant, WorkerId},
    open_work::OpenWork,
    plugin::WorkerPlugin,
    time::Timestamp,
};

pub use self::{
    due::Due,
    holds::Hold,
    waiting::{Grant, Slot, WaiterId},
    work::{StepKind, Wait, Waiting},
    workers::{SeenWorker, WORKER_GONE_MS},
};
use self::{
    queue::QueueKey,
    timers::{Timer, Timers},
    waiting::Waiters,
    work::{NewLease, Open, TenantWork, WorkOf},
};

/// The state of dispatch for every tenant of this node.
#[derive(Default)]
pub struct Dispatch {
    tenants: HashMap<Tenant, TenantWork>,
    waiters: Waiters,
    timers: Timers,
    /// Nothing is decided any more but what somebody asks for.
    closed: bool,
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
    pub fn open(&mut self, tenant: &Tenant, open: OpenWork, now: Timestamp) {
        let mut of = self.of(tenant);
        of.work.holds.control = open.control;
        of.work.holds.paused_dags = open.paused_dags.into_iter().collect();
        let draining = of.work.holds.control.draining.is_some();
        of.work.set_draining(draining);
        for run in open.runs {
            if run.cancelling {
                of.work.cancelling.insert(run.run_id.clone());
            }
            of.work.runs.entry(run.run_id).or_default().dag_id = Some(run.dag_id);
        }
        let kind = |plugin, dag_id, concurrency| {
            let dag_id = Some(dag_id);
            StepKind { plugin, dag_id, concurrency }
        };
        for step in open.queued {
            let key = QueueKey::new(step.priority, step.seq);
            let kind = kind(step.plugin, step.dag_id, step.concurrency);
            of.insert_queued(step.run_id, step.step_id, kind, key);
        }
        for lease in open.leases {
            let kind = Some(kind(lease.plugin, lease.dag_id, lease.concurrency));
            let new = NewLease {
                token: lease.token,
                step_id: lease.step_id,
                worker_id: lease.worker_id,
                lease_ms: lease.lease_ms,
                timeout_ms: None,
                kind,
            };
            of.insert_lease(new, now);
        }
        for retry in open.retries {
            of.insert_retry(retry.run_id, retry.step_id, retry.not_before);
        }
        for approval in open.approvals {
            of.insert_approval(approval.run_id, approval.step_id, approval.deadline);
        }
        for run in open.deadlines {
            of.set_deadline(&run.run_id, run.deadline);
        }
        for fire in open.fires {
            let open = OpenFire {
                fire_time: fire.fire_time,
                run_id: fire.run_id,
                backfill: fire.backfill,
                started: fire.started,
            };
            of.insert_fire(&fire.schedule_id, open, fire.after, fire.cancels, now);
        }
        open.schedules.iter().for_each(|id| of.attend(id, now));
        of.look_whether_drained(now);
        // Work that a projection had not seen would otherwise lie until somebody asks for something.
        self.timers.set(tenant, now, Timer::CatchUp);
    }

    /// Take account of a durable commit. `run` is the run that it belongs to, where it is at hand.
    pub fn recorded(
        &mut self,
        tenant: &Tenant,
        commit: &Commit,
        events: &[Event],
        now: Timestamp,
        run: Option<&Run>,
    ) {
        let (mut of, at) = (self.of(tenant), commit.recorded_at);
        for (i, event) in (0..).zip(events) {
            match (event, &commit.stream) {
                (Event::Run(event), StreamId::Run(run_id)) => {
                    let (run_id, stream_version) = (run_id.clone(), commit.stream_version + i);
                    let token = FencingToken { run_id, stream_version };
                    of.run_event(commit.seq + i, token, event, now, run);
                }
                (Event::Dag(event), StreamId::Dag(dag_id)) => of.dag_event(dag_id, event, at, now),
                (Event::Control(event), _) => of.control_event(event, at, now),
                (Event::Schedule(event), StreamId::Schedule(id)) => {
                    of.schedule_event(id, event, at, now);
                }
                (Event::Ledger(_) | Event::Run(_) | Event::Dag(_) | Event::Schedule(_), _) => {}
            }
        }
    }

    /// Claim a worker's place for a step that is about to be queued, if it is the next to go:
    /// nothing holds it back, and nothing older of equal or higher priority may go.
    pub fn claim(&mut self, tenant: &Tenant, step: &Waiting) -> Option<Slot> {
        if self.closed {
            return None;
        }
        let work = self.tenants.entry(tenant.clone()).or_default();
        let Waiting { run_id, step_id, kind, priority } = step;
        if work.holds.of(kind).is_some()
            || !work.queue.none_before(&kind.plugin, *priority, &work.holds)
        {
            return None;
        }
        let slot = self.waiters.claim(&mut self.tenants, tenant, &kind.plugin, run_id, step_id)?;
        let work = self.tenants.entry(tenant.clone()).or_default();
        work.claim(run_id, step_id, kind.clone());
        Some(slot)
    }

    /// Give a claimed place back: no lease came of it.
    pub fn release(&mut self, slot: &Slot) {
        self.waiters.release(slot);
        if let Some(work) = self.tenants.get_mut(&slot.tenant) {
            work.unclaim(&slot.step);
        }
    }

    /// Let this tenant have so many times the share of a tenant of weight 1, of the workers that work
    /// for both. A tenant has weight 1 unless told otherwise.
    pub fn set_weight(&mut self, tenant: &Tenant, weight: NonZeroU32) {
        self.waiters.set_weight(tenant, weight);
    }

    /// A worker waits for up to `slots` leases of these tenants.
    pub fn wait(
        &mut self,
        tenants: Arc<[Tenant]>,
        worker_id: &WorkerId,
        plugins: Arc<[WorkerPlugin]>,
        slots: u32,
        now: Timestamp,
    ) -> (WaiterId, tokio::sync::mpsc::UnboundedReceiver<Grant>) {
        for tenant in &*tenants {
            let work = self.tenants.entry(tenant.clone()).or_default();
            work.workers.asks(worker_id, &plugins, now);
        }
        self.waiters.add(tenants, worker_id, plugins, slots)
    }

    /// A worker ends: it is not counted on any more. What it holds it has given back, or it expires.
    pub fn worker_leaves(&mut self, tenant: &Tenant, worker_id: &WorkerId) {
        if let Some(work) = self.tenants.get_mut(tenant) {
            work.workers.leaves(worker_id);
        }
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
        let Some(work) = self.tenants.get_mut(tenant) else { return Renewal::Lost };
        work.workers.renews(worker_id, now);
        let Some(lease) = work.lease_mut(token) else { return Renewal::Lost };
        if lease.worker_id != *worker_id {
            return Renewal::Lost;
        }
        // The timer stays where it is; when it fires it sees that the lease was renewed.
        lease.expires_at = now.plus_ms(lease.lease_ms);
        if work.cancelling.contains(&token.run_id) { Renewal::Cancel } else { Renewal::Renewed }
    }

    /// Whether this worker holds the lease.
    pub fn is_held(&self, tenant: &Tenant, worker_id: &WorkerId, token: &FencingToken) -> bool {
        let lease = self.tenants.get(tenant).and_then(|work| work.lease(token));
        lease.is_some_and(|lease| lease.worker_id == *worker_id)
    }

    /// Whether anybody holds the lease.
    pub fn is_leased(&self, tenant: &Tenant, token: &FencingToken) -> bool {
        self.tenants.get(tenant).is_some_and(|work| work.lease(token).is_some())
    }

    /// Leases of this worker whose runs are being cancelled.
    pub fn to_cancel(&self, tenant: &Tenant, worker_id: &WorkerId) -> Vec<FencingToken> {
        let Some(work) = self.tenants.get(tenant) else { return vec![] };
        let cancelling = work.cancelling.iter().filter_map(|run_id| work.runs.get(run_id));
        let open = cancelling.flat_map(|run| run.steps.values());
        open.filter_map(|open| match open {
            Open::Leased(lease) if lease.worker_id == *worker_id => Some(lease.token.clone()),
            Open::Leased(_) | Open::Queued(..) | Open::BackingOff(_) | Open::Asked(_) => None,
        })
        .collect()
    }

    /// The lease reached nobody: somebody else shall have the step at once.
    pub fn orphan(&mut self, tenant: &Tenant, token: &FencingToken, now: Timestamp) {
        let lease = self.tenants.get_mut(tenant).and_then(|work| work.lease_mut(token));
        let Some(lease) = lease else { return };
        let (old, token) = (lease.timer_at, lease.token.clone());
        lease.reached_nobody = true;
        lease.timer_at = now;
        self.timers.reset(tenant, old, now, Timer::Lease(token));
    }

    /// Why a step is not running yet. `None` where it is not known to be open here, or runs.
    pub fn why(
        &self,
        tenant: &Tenant,
        run_id: &RunId,
        step_id: &StepId,
        now: Timestamp,
    ) -> Option<Wait> {
        self.tenants.get(tenant)?.why(run_id, step_id, now)
    }

    /// Workers that were heard of lately, by id.
    pub fn workers(&self, tenant: &Tenant, now: Timestamp) -> Vec<SeenWorker> {
        self.tenants.get(tenant).map_or_else(Vec::new, |work| work.workers.heard_of(now))
    }

    /// The fires of a schedule whose run has not ended or does not exist yet, earliest first.
    pub fn open_fires(&self, tenant: &Tenant, id: &ScheduleId) -> Vec<OpenFire> {
        self.tenants.get(tenant).map_or_else(Vec::new, |work| work.fires.open(id))
    }

    /// When a schedule was last let go on: it, its DAG, or all of them.
    pub fn free_since(
        &self,
        tenant: &Tenant,
        id: &ScheduleId,
        dag_id: Option<&DagId>,
    ) -> Option<Timestamp> {
        self.tenants.get(tenant)?.fires.free_since(id, dag_id)
    }

    /// The fires of a schedule whose run was refused, and why.
    pub fn refused_fires(&self, tenant: &Tenant, id: &ScheduleId) -> Vec<(Timestamp, String)> {
        self.tenants.get(tenant).map_or_else(Vec::new, |work| work.fires.refused(id))
    }

    /// A schedule was attended to: when to look at it again.
    pub fn attended(&mut self, tenant: &Tenant, id: &ScheduleId, again: Option<Timestamp>) {
        self.of(tenant).look_at_the_latest(id, again);
    }

    /// The run of a fire was refused.
    pub fn fire_refused(
        &mut self,
        tenant: &Tenant,
        id: &ScheduleId,
        fire_time: Timestamp,
        why: String,
        now: Timestamp,
    ) {
        self.of(tenant).fire_refused(id, fire_time, why, now);
    }

    /// There is nothing to be done for a fire: nobody wants it any more, or its run has ended.
    pub fn end_fire(
        &mut self,
        tenant: &Tenant,
        id: &ScheduleId,
        fire_time: Timestamp,
        now: Timestamp,
    ) {
        self.of(tenant).end_fire(id, fire_time, now);
    }

    /// Work that is due now. Each piece is given out once; what comes to nothing is
    /// [put back](Self::put_back).
    pub fn next_due(&mut self, now: Timestamp) -> Option<(Tenant, Due)> {
        while let Some((tenant, timer)) = self.timers.pop(now) {
            let gives_back =
                || self.tenants.get(&tenant).is_some_and(|work| work.gives_back(&timer));
            if self.closed && !gives_back() {
                continue;
            }
            if let Some(due) = self.timer_fired(&tenant, timer, now) {
                return Some((tenant, due));
            }
        }
        if self.closed {
            return None;
        }
        let slot = self.waiters.next_match(&mut self.tenants)?;
        Some((slot.tenant.clone(), Due::Grant { slot }))
    }

    /// When a timer is due next.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first()
    }

    /// Give out nothing that is due, and lease no step, from here on: this node is about to end. What
    /// it does not hear any more, above all heartbeats, must not count against anybody. Leases that
    /// reached nobody are given back all the same.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// `due` could not be carried out: it is still due.
    pub fn put_back(&mut self, tenant: &Tenant, due: Due, now: Timestamp) {
        const LATER_MS: u64 = 1_000;
        let later = now.plus_ms(LATER_MS);
        match due {
            Due::Grant { slot } => {
                self.release(&slot);
                let (run_id, step_id) = slot.step;
                // Not at once: what keeps it from being leased would do so again, without end.
                self.timers.set(tenant, later, Timer::Queue(run_id, step_id));
            }
            Due::Expire(token) | Due::Return(token) | Due::TimeOut(token) => {
                let work = self.tenants.get_mut(tenant);
                if let Some(lease) = work.and_then(|work| work.lease_mut(&token)) {
                    lease.timer_at = later;
                    self.timers.set(tenant, later, Timer::Lease(token));
                }
            }
            Due::Retry(run_id, step_id) => self.of(tenant).insert_retry(run_id, step_id, later),
            Due::Approval(run_id, step_id) => {
                self.of(tenant).insert_approval(run_id, step_id, later);
            }
            Due::Deadline(run_id) => self.of(tenant).set_deadline(&run_id, later),
            Due::Drained => self.timers.set(tenant, later, Timer::Drained),
            Due::Attend(id) => self.of(tenant).look_at(&id, Some(later)),
            Due::StartFire(id, time) => self.timers.set(tenant, later, Timer::Fire(id, time)),
            Due::CancelFor(run_id) => self.timers.set(tenant, later, Timer::CancelFor(run_id)),
            Due::CatchUp => self.timers.set(tenant, later, Timer::CatchUp),
        }
    }

    fn timer_fired(&mut self, tenant: &Tenant, timer: Timer, now: Timestamp) -> Option<Due> {
        match timer {
            Timer::Retry(run_id, step_id) => Some(Due::Retry(run_id, step_id)),
            Timer::Approval(run_id, step_id) => Some(Due::Approval(run_id, step_id)),
            Timer::CatchUp => Some(Due::CatchUp),
            Timer::Deadline(run_id) => {
                let fired = self.of(tenant).deadline_fired(&run_id);
                fired.then_some(Due::Deadline(run_id))
            }
            Timer::Drained => {
                let work = self.tenants.get(tenant)?;
                let drained = work.holds.control.draining.is_some() && work.runs.is_empty();
                drained.then_some(Due::Drained)
            }
            Timer::Schedule(id) => {
                self.of(tenant).looked(&id);
                Some(Due::Attend(id))
            }
            Timer::Fire(id, time) => {
                let fires = &self.tenants.get(tenant)?.fires;
                fires.may_start(&id, time).then_some(Due::StartFire(id, time))
            }
            Timer::CancelFor(run_id) => Some(Due::CancelFor(run_id)),
            Timer::Queue(run_id, step_id) => {
                let work = self.tenants.get_mut(tenant)?;
                // Unless it was cancelled, or leased by another writer, meanwhile.
                if let Some(Open::Queued(kind, key)) =
                    work.runs.get(&run_id).and_then(|run| run.steps.get(&step_id))
                {
                    work.queue.insert(kind, *key, run_id, step_id);
                }
                None
            }
            Timer::Lease(token) => {
                let lease = self.tenants.get_mut(tenant)?.lease_mut(&token)?;
                if lease.reached_nobody {
                    return Some(Due::Return(token));
                }
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

    fn of<'a>(&'a mut self, tenant: &'a Tenant) -> WorkOf<'a> {
        let work = self.tenants.entry(tenant.clone()).or_default();
        WorkOf { tenant, work, timers: &mut self.timers }
    }
}
