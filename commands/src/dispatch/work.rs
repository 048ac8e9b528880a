//! What a tenant has open: its runs, each with the steps that wait, run or back off.

use std::collections::{BTreeMap, HashMap, HashSet};

use stella_domain::{
    event::StepConcurrency,
    ids::{DagId, FencingToken, PluginName, RunId, StepId, Tenant, WorkerId},
    time::Timestamp,
};

use super::{
    fires::Fires,
    holds::{Hold, Holds},
    queue::{Queue, QueueKey},
    timers::{Timer, Timers},
    workers::Workers,
};

/// Nobody reported a step's end this long after its time ran out: the engine ends it.
const TIMEOUT_GRACE_MS: u64 = 15_000;

/// What steps are held back by, all of a kind alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKind {
    /// What the step needs.
    pub plugin: PluginName,
    /// Its run's DAG. `None` where another writer began the run and nothing of it is at hand.
    pub dag_id: Option<DagId>,
    /// The limit that it shares with others of its DAG.
    pub concurrency: Option<StepConcurrency>,
}

/// A step that is queued.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// What holds it back.
    pub kind: StepKind,
    /// Its run's priority.
    pub priority: i32,
}

/// Why a step is not running yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// It is queued again then.
    BackingOff(Timestamp),
    /// Something keeps all of its kind.
    Held(Hold),
    /// No worker has asked for its plugin lately.
    NoWorker(PluginName),
    /// The workers are busy, or others go first.
    Worker,
}

#[derive(Default)]
pub(super) struct TenantWork {
    pub(super) queue: Queue,
    pub(super) holds: Holds,
    pub(super) workers: Workers,
    pub(super) fires: Fires,
    /// Runs that have not ended.
    pub(super) runs: HashMap<RunId, OpenRun>,
    /// Those of them that are being cancelled: each worker that waits to hear of it looks at these.
    pub(super) cancelling: HashSet<RunId>,
    /// Steps for which a worker's place is claimed, and whose lease is not durable yet.
    claimed: HashMap<(RunId, StepId), StepKind>,
}

#[derive(Default)]
pub(super) struct OpenRun {
    pub(super) dag_id: Option<DagId>,
    /// When its time is over.
    pub(super) deadline: Option<Timestamp>,
    pub(super) steps: BTreeMap<StepId, Open>,
}

/// What a step is open as.
pub(super) enum Open {
    Queued(StepKind, QueueKey),
    Leased(Lease),
    BackingOff(Timestamp),
    /// An operator has until then.
    Asked(Timestamp),
}

pub(super) struct Lease {
    pub(super) token: FencingToken,
    pub(super) worker_id: WorkerId,
    pub(super) lease_ms: u64,
    pub(super) expires_at: Timestamp,
    pub(super) times_out_at: Timestamp,
    /// The worker went away before it was told.
    pub(super) reached_nobody: bool,
    /// When its timer is set for.
    pub(super) timer_at: Timestamp,
    /// What it counts as; `None` where nothing is known of its run.
    kind: Option<StepKind>,
}

/// A lease that begins.
pub(super) struct NewLease {
    pub(super) token: FencingToken,
    pub(super) step_id: StepId,
    pub(super) worker_id: WorkerId,
    pub(super) lease_ms: u64,
    /// Milliseconds that the attempt may take, where its run is at hand.
    pub(super) timeout_ms: Option<u64>,
    /// Where it was not queued here before.
    pub(super) kind: Option<StepKind>,
}

/// A tenant's work, and the timers that belong to it.
pub(super) struct WorkOf<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) work: &'a mut TenantWork,
    pub(super) timers: &'a mut Timers,
}

impl TenantWork {
    pub(super) fn lease(&self, token: &FencingToken) -> Option<&Lease> {
        self.runs.get(&token.run_id)?.steps.values().find_map(|open| match open {
            Open::Leased(lease) if lease.token == *token => Some(lease),
            Open::Leased(_) | Open::Queued(..) | Open::BackingOff(_) | Open::Asked(_) => None,
        })
    }

    /// The timer is that of a lease which reached nobody.
    pub(super) fn gives_back(&self, timer: &Timer) -> bool {
        let Timer::Lease(token) = timer else { return false };
        self.lease(token).is_some_and(|lease| lease.reached_nobody)
    }

    pub(super) fn lease_mut(&mut self, token: &FencingToken) -> Option<&mut Lease> {
        let steps = &mut self.runs.get_mut(&token.run_id)?.steps;
        steps.values_mut().find_map(|open| match open {
            Open::Leased(lease) if lease.token == *token => Some(lease),
            Open::Leased(_) | Open::Queued(..) | Open::BackingOff(_) | Open::Asked(_) => None,
        })
    }

    /// A worker's place is claimed for the step: it counts as running.
    pub(super) fn claim(&mut self, run_id: &RunId, step_id: &StepId, kind: StepKind) {
        self.holds.take(&kind);
        self.claimed.insert((run_id.clone(), step_id.clone()), kind);
    }

    /// No lease came of the claim.
    pub(super) fn unclaim(&mut self, step: &(RunId, StepId)) {
        if let Some(kind) = self.claimed.remove(step) {
            self.runs_no_more(&kind);
        }
    }

    /// The kind of a step that is queued.
    pub(super) fn queued(&self, run_id: &RunId, step_id: &StepId) -> Option<&StepKind> {
        match self.runs.get(run_id)?.steps.get(step_id)? {
            Open::Queued(kind, _) => Some(kind),
            Open::Leased(_) | Open::BackingOff(_) | Open::Asked(_) => None,
        }
    }

    /// Why a step waits; `None` where it does not.
    pub(super) fn why(&self, run_id: &RunId, step_id: &StepId, now: Timestamp) -> Option<Wait> {
        match self.runs.get(run_id)?.steps.get(step_id)? {
            Open::Leased(_) | Open::Asked(_) => None,
            Open::BackingOff(until) => Some(Wait::BackingOff(*until)),
            Open::Queued(kind, _) => Some(match self.holds.of(kind) {
                Some(hold) => Wait::Held(hold),
                None if !self.workers.have(&kind.plugin, now) => {
                    Wait::NoWorker(kind.plugin.clone())
                }
                None => Wait::Worker,
            }),
        }
    }

    /// Let priorities count for nothing while the queue is drained.
    pub(super) fn set_draining(&mut self, draining: bool) {
        let mut queue = Queue::ordered(draining);
        for (run_id, run) in &self.runs {
            for (step_id, open) in &run.steps {
                let claimed = (run_id.clone(), step_id.clone());
                if let Open::Queued(kind, key) = open
                    && !self.claimed.contains_key(&claimed)
                {
                    queue.insert(kind, *key, claimed.0, claimed.1);
                }
            }
        }
        self.queue = queue;
    }

    fn runs_no_more(&mut self, kind: &StepKind) {
        self.holds.give_back(kind);
        self.queue.freed(kind);
    }
}

impl WorkOf<'_> {
    pub(super) fn insert_queued(
        &mut self,
        run_id: RunId,
        step_id: StepId,
        kind: StepKind,
        key: QueueKey,
    ) {
        self.remove(&run_id, &step_id);
        self.work.queue.insert(&kind, key, run_id.clone(), step_id.clone());
        self.insert(run_id, step_id, Open::Queued(kind, key));
    }

    pub(super) fn insert_lease(&mut self, lease: NewLease, now: Timestamp) {
        let NewLease { token, step_id, worker_id, lease_ms, timeout_ms, kind } = lease;
        let step = (token.run_id.clone(), step_id);
        let kind = self.work.queued(&step.0, &step.1).cloned().or(kind);
        self.remove(&step.0, &step.1);
        // What was claimed for it counts already.
        let claimed = self.work.claimed.remove(&step);
        let kind = claimed.or_else(|| kind.inspect(|kind| self.work.holds.take(kind)));
        let expires_at = now.plus_ms(lease_ms);
        // Without the run at hand the lease's own expiry is what ends it.
        let times_out_at = timeout_ms
            .map_or(Timestamp::from_micros(i64::MAX), |ms| now.plus_ms(ms + TIMEOUT_GRACE_MS));
        let timer_at = expires_at.min(times_out_at);
        self.timers.set(self.tenant, timer_at, Timer::Lease(token.clone()));
        let lease = Lease {
            token,
            worker_id,
            lease_ms,
            expires_at,
            times_out_at,
            reached_nobody: false,
            timer_at,
            kind,
        };
        self.insert(step.0, step.1, Open::Leased(lease));
    }

    pub(super) fn insert_retry(&mut self, run_id: RunId, step_id: StepId, at: Timestamp) {
        self.remove(&run_id, &step_id);
        self.timers.set(self.tenant, at, Timer::Retry(run_id.clone(), step_id.clone()));
        self.insert(run_id, step_id, Open::BackingOff(at));
    }

    /// An operator is asked about the step, and has until `at`.
    pub(super) fn insert_approval(&mut self, run_id: RunId, step_id: StepId, at: Timestamp) {
        self.remove(&run_id, &step_id);
        self.timers.set(self.tenant, at, Timer::Approval(run_id.clone(), step_id.clone()));
        self.insert(run_id, step_id, Open::Asked(at));
    }

    pub(super) fn remove(&mut self, run_id: &RunId, step_id: &StepId) {
        let run = self.work.runs.get_mut(run_id);
        if let Some(open) = run.and_then(|run| run.steps.remove(step_id)) {
            self.close(run_id, step_id, open);
        }
    }

    /// Nothing of the run starts any more; its workers are told.
    pub(super) fn cancel(&mut self, run_id: &RunId) {
        let Some(run) = self.work.runs.get_mut(run_id) else { return };
        let steps = std::mem::take(&mut run.steps).into_iter();
        let (leased, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            steps.partition(|(_, open)| matches!(open, Open::Leased(_)));
        run.steps = leased;
        self.work.cancelling.insert(run_id.clone());
        for (step_id, open) in others {
            self.close(run_id, &step_id, open);
        }
    }

    pub(super) fn end(&mut self, run_id: &RunId) {
        self.work.cancelling.remove(run_id);
        let Some(run) = self.work.runs.remove(run_id) else { return };
        for (step_id, open) in run.steps {
            self.close(run_id, &step_id, open);
        }
    }

    /// If the queue was being drained and nothing is left, that is due to be said.
    pub(super) fn look_whether_drained(&mut self, now: Timestamp) {
        if self.work.holds.control.draining.is_some() && self.work.runs.is_empty() {
            self.timers.set(self.tenant, now, Timer::Drained);
        }
    }

    fn insert(&mut self, run_id: RunId, step_id: StepId, open: Open) {
        self.work.runs.entry(run_id).or_default().steps.insert(step_id, open);
    }

    fn close(&mut self, run_id: &RunId, step_id: &StepId, open: Open) {
        match open {
            Open::Queued(kind, key) => self.work.queue.remove(&kind, key),
            Open::Leased(Lease { timer_at, token, kind, .. }) => {
                self.timers.unset(self.tenant, timer_at, Timer::Lease(token));
                if let Some(kind) = kind {
                    self.work.runs_no_more(&kind);
                }
            }
            Open::BackingOff(at) => {
                let timer = Timer::Retry(run_id.clone(), step_id.clone());
                self.timers.unset(self.tenant, at, timer);
            }
            Open::Asked(at) => {
                let timer = Timer::Approval(run_id.clone(), step_id.clone());
                self.timers.unset(self.tenant, at, timer);
            }
        }
    }
}
