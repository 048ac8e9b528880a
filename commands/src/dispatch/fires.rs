//! Fires of schedules that are open: their run has not ended, or does not exist yet.

use std::collections::{BTreeMap, HashMap};

use stella_domain::{
    aggregate::OpenFire,
    event::{FireCause, ScheduleEvent, ScheduleFired},
    ids::{DagId, RunId, ScheduleId},
    time::Timestamp,
};

use super::{timers::Timer, work::WorkOf};

/// A fire whose run was refused is tried again after so long.
const REFUSED_AGAIN_MS: u64 = 30_000;

#[derive(Default)]
pub(super) struct Fires {
    schedules: HashMap<ScheduleId, OfSchedule>,
    by_run: HashMap<RunId, (ScheduleId, Timestamp)>,
    /// Fires that wait for a run to end.
    after: HashMap<RunId, Vec<(ScheduleId, Timestamp)>>,
    /// When all schedules were last let go on, and those of a DAG. What was due before was missed.
    freed: Option<Timestamp>,
    dags_freed: HashMap<DagId, Timestamp>,
}

#[derive(Default)]
struct OfSchedule {
    open: BTreeMap<Timestamp, Fire>,
    /// When its timer is set for.
    look_at: Option<Timestamp>,
    /// When it was last let go on.
    freed: Option<Timestamp>,
}

struct Fire {
    open: OpenFire,
    /// Why its run was refused.
    refusal: Option<String>,
}

impl Fires {
    /// Open fires of a schedule, earliest first.
    pub(super) fn open(&self, id: &ScheduleId) -> Vec<OpenFire> {
        let schedule = self.schedules.get(id);
        let fires = schedule.into_iter().flat_map(|schedule| schedule.open.values());
        fires.map(|fire| fire.open.clone()).collect()
    }

    /// Fires of a schedule whose run was refused, and why.
    pub(super) fn refused(&self, id: &ScheduleId) -> Vec<(Timestamp, String)> {
        let schedule = self.schedules.get(id);
        let fires = schedule.into_iter().flat_map(|schedule| &schedule.open);
        fires.filter_map(|(time, fire)| Some((*time, fire.refusal.clone()?))).collect()
    }

    pub(super) fn free_since(&self, id: &ScheduleId, dag_id: Option<&DagId>) -> Option<Timestamp> {
        let dag = dag_id.and_then(|dag_id| self.dags_freed.get(dag_id).copied());
        let own = self.schedules.get(id).and_then(|schedule| schedule.freed);
        self.freed.max(dag).max(own)
    }

    /// Whether this fire is to start its run now.
    pub(super) fn may_start(&self, id: &ScheduleId, time: Timestamp) -> bool {
        let fire = self.schedules.get(id).and_then(|schedule| schedule.open.get(&time));
        let waits = self.after.values().flatten().any(|(other, at)| other == id && *at == time);
        fire.is_some_and(|fire| !fire.open.started) && !waits
    }
}

impl WorkOf<'_> {
    /// Nothing holds all schedules back any more, since `at`.
    pub(super) fn free_all(&mut self, at: Timestamp, now: Timestamp) {
        self.work.fires.freed = Some(at);
        self.attend_all(now);
    }

    /// A DAG is paused no more, since `at`: some of the schedules may be of it.
    pub(super) fn free_dag(&mut self, dag_id: &DagId, at: Timestamp, now: Timestamp) {
        self.work.fires.dags_freed.insert(dag_id.clone(), at);
        self.attend_all(now);
    }

    /// Look what is due of every schedule, and start what has no run yet.
    pub(super) fn attend_all(&mut self, now: Timestamp) {
        let ids: Vec<ScheduleId> = self.work.fires.schedules.keys().cloned().collect();
        ids.into_iter().for_each(|id| self.attend(&id, now));
    }

    pub(super) fn attend(&mut self, id: &ScheduleId, now: Timestamp) {
        self.look_at(id, Some(now));
        let schedule = self.work.fires.schedules.get(id);
        let pending = schedule.into_iter().flat_map(|schedule| schedule.open.values());
        let pending = pending.filter(|fire| !fire.open.started).map(|fire| fire.open.fire_time);
        for time in pending.collect::<Vec<_>>() {
            self.timers.set(self.tenant, now, Timer::Fire(id.clone(), time));
        }
    }

    /// Set the timer of a schedule.
    pub(super) fn look_at(&mut self, id: &ScheduleId, at: Option<Timestamp>) {
        let schedule = self.work.fires.schedules.entry(id.clone()).or_default();
        if let Some(old) = std::mem::replace(&mut schedule.look_at, at) {
            self.timers.unset(self.tenant, old, Timer::Schedule(id.clone()));
        }
        if let Some(at) = at {
            self.timers.set(self.tenant, at, Timer::Schedule(id.clone()));
        }
    }

    /// Its timer has fired.
    pub(super) fn looked(&mut self, id: &ScheduleId) {
        if let Some(schedule) = self.work.fires.schedules.get_mut(id) {
            schedule.look_at = None;
        }
    }

    /// Set the timer of a schedule, unless it is set for earlier: something has happened since.
    pub(super) fn look_at_the_latest(&mut self, id: &ScheduleId, at: Option<Timestamp>) {
        let set = self.work.fires.schedules.get(id).and_then(|schedule| schedule.look_at);
        self.look_at(id, set.into_iter().chain(at).min());
    }

    pub(super) fn schedule_event(
        &mut self,
        id: &ScheduleId,
        event: &ScheduleEvent,
        at: Timestamp,
        now: Timestamp,
    ) {
        match event {
            ScheduleEvent::ScheduleFired(fired, _) => {
                let ScheduleFired { after, cancels, cause, fire_time, run_id } = fired.clone();
                let backfill = cause == FireCause::Backfill;
                let open = OpenFire { fire_time, run_id, backfill, started: false };
                self.insert_fire(id, open, after, cancels, now);
                // The other fires that wait are about to start, or are held back still.
                return self.look_at(id, Some(now));
            }
            ScheduleEvent::TriggersCleared(data, _) => {
                data.fire_times.iter().for_each(|time| self.end_fire(id, *time, now));
            }
            ScheduleEvent::ScheduleResumed(..) => {
                self.work.fires.schedules.entry(id.clone()).or_default().freed = Some(at);
            }
            ScheduleEvent::ScheduleCreated(..)
            | ScheduleEvent::ScheduleUpdated(..)
            | ScheduleEvent::ScheduleMissed(_)
            | ScheduleEvent::SchedulePaused(..)
            | ScheduleEvent::BackfillRequested(..)
            | ScheduleEvent::BackfillCancelled(..)
            | ScheduleEvent::ScheduleDeleted(..) => {}
        }
        self.attend(id, now);
    }

    pub(super) fn insert_fire(
        &mut self,
        id: &ScheduleId,
        open: OpenFire,
        after: Option<RunId>,
        cancels: bool,
        now: Timestamp,
    ) {
        let (time, started) = (open.fire_time, open.started);
        let fires = &mut self.work.fires;
        // What has ended meanwhile is waited for no more.
        let blocking = after.filter(|run_id| !started && fires.by_run.contains_key(run_id));
        fires.by_run.insert(open.run_id.clone(), (id.clone(), time));
        let schedule = fires.schedules.entry(id.clone()).or_default();
        schedule.open.insert(time, Fire { open, refusal: None });
        match blocking {
            Some(run_id) => {
                fires.after.entry(run_id.clone()).or_default().push((id.clone(), time));
                if cancels {
                    self.timers.set(self.tenant, now, Timer::CancelFor(run_id));
                }
            }
            None if !started => self.timers.set(self.tenant, now, Timer::Fire(id.clone(), time)),
            None => {}
        }
    }

    /// The run of a fire exists.
    pub(super) fn fire_started(&mut self, run_id: &RunId) {
        let fires = &mut self.work.fires;
        let Some((id, time)) = fires.by_run.get(run_id) else { return };
        let schedule = fires.schedules.get_mut(id);
        if let Some(fire) = schedule.and_then(|schedule| schedule.open.get_mut(time)) {
            (fire.open.started, fire.refusal) = (true, None);
        }
    }

    /// Its run was refused: it is tried again, sooner if something changes.
    pub(super) fn fire_refused(
        &mut self,
        id: &ScheduleId,
        time: Timestamp,
        why: String,
        now: Timestamp,
    ) {
        let schedule = self.work.fires.schedules.get_mut(id);
        if let Some(fire) = schedule.and_then(|schedule| schedule.open.get_mut(&time)) {
            fire.refusal = Some(why);
            let at = now.plus_ms(REFUSED_AGAIN_MS);
            self.timers.set(self.tenant, at, Timer::Fire(id.clone(), time));
        }
    }

    /// The run of a fire has ended.
    pub(super) fn fire_run_ended(&mut self, run_id: &RunId, now: Timestamp) {
        if let Some((id, time)) = self.work.fires.by_run.get(run_id).cloned() {
            self.end_fire(&id, time, now);
        }
    }

    /// The fire is not open any more.
    pub(super) fn end_fire(&mut self, id: &ScheduleId, time: Timestamp, now: Timestamp) {
        let fires = &mut self.work.fires;
        let schedule = fires.schedules.get_mut(id);
        let Some(fire) = schedule.and_then(|schedule| schedule.open.remove(&time)) else { return };
        fires.by_run.remove(&fire.open.run_id);
        for (waiting, time) in fires.after.remove(&fire.open.run_id).into_iter().flatten() {
            self.timers.set(self.tenant, now, Timer::Fire(waiting, time));
        }
        for waiting in self.work.fires.after.values_mut() {
            waiting.retain(|(other, at)| other != id || *at != time);
        }
        if fire.open.backfill {
            self.look_at(id, Some(now));
        }
    }
}
