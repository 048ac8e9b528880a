//! A schedule as an aggregate: it decides which fires start a run. That a run does start is
//! repeated until it exists, and no part of this.

mod command;

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::command::*;
use super::Aggregate;
use crate::{
    event::{
        BackfillRequested, FireCause, MissReason, NoData, Reason, ScheduleEvent, ScheduleFired,
        ScheduleMissed, ScheduleRequest, ScheduleSet, TriggersCleared,
    },
    hash::{RunIdKind, derived_run_id},
    ids::{RunId, Tenant},
    schedule::{CompiledSchedule, Overlap, fire_token},
    time::Timestamp,
};

/// Runs of a schedule that have not ended, and fires that wait for theirs: with so many it fires no
/// more.
pub const MAX_OPEN_FIRES: usize = 1_000;
/// Fires that a backfill starts in one commit.
const BACKFILL_AT_ONCE: usize = 500;
/// Fires of one backfill.
pub const MAX_BACKFILL: u32 = 10_000;

/// State of the stream `schedule/<scheduleId>`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// What it does; `None` before it exists, after it was deleted, and where this build cannot
    /// read it.
    #[serde(with = "as_set")]
    pub spec: Option<Arc<CompiledSchedule>>,
    /// What its runs start with, while that is not erased.
    pub request: Option<ScheduleRequest>,
    /// Whether it does not fire.
    pub paused: bool,
    /// The last fire time that was decided on.
    pub seen: Timestamp,
    /// The backfill that is under way.
    pub backfill: Option<Backfill>,
    /// Fires that get no run.
    pub cleared: BTreeSet<Timestamp>,
    /// Events in the stream.
    pub version: u64,
}

/// A backfill that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Runs of it that go on at once at most.
    pub concurrency: NonZeroU32,
    /// Fire times that are not decided on.
    pub left: u32,
    /// The last one that was, or the moment before the first.
    pub seen: Timestamp,
    /// All are before this one.
    pub to: Timestamp,
}

/// A schedule's spec as its author set it; what follows from it is worked out again.
mod as_set {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::{
        ids::ScheduleId,
        schedule::{CompiledSchedule, ScheduleSpec},
    };

    type Spec = Option<Arc<CompiledSchedule>>;

    pub(super) fn serialize<S: Serializer>(spec: &Spec, to: S) -> Result<S::Ok, S::Error> {
        spec.as_ref().map(|spec| (spec.id(), spec.spec())).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Spec, D::Error> {
        let set = Option::<(ScheduleId, ScheduleSpec)>::deserialize(from)?;
        Ok(set.and_then(|(id, spec)| CompiledSchedule::compile(id, spec).ok()).map(Arc::new))
    }
}

impl Schedule {
    /// What it does.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Unknown`].
    pub fn known(&self) -> Result<&Arc<CompiledSchedule>, ScheduleRefusal> {
        self.spec.as_ref().ok_or(ScheduleRefusal::Unknown)
    }

    /// Whether a fire of this time is still to have its run.
    pub fn wants(&self, fire_time: Timestamp) -> bool {
        self.spec.is_some() && !self.cleared.contains(&fire_time)
    }

    /// The runs that [`ScheduleCommand::Attend`] may want to start at `now`: which of them exist is
    /// to be known before.
    pub fn candidates(&self, tenant: &Tenant, now: Timestamp) -> Vec<RunId> {
        let Some(spec) = &self.spec else { return vec![] };
        let mut times = vec![];
        if !self.paused {
            // All that could be wanted, whatever had held it back.
            let due = spec.due(self.seen, None, now);
            times.extend(due.caught_up.into_iter().chain(due.on_time));
        }
        if let Some(backfill) = &self.backfill {
            let most = (backfill.concurrency.get() as usize).min(MAX_OPEN_FIRES);
            times.extend(spec.between(backfill.seen, backfill.to, most));
        }
        times.into_iter().map(|time| run_of(tenant, spec, time)).collect()
    }

    /// When it is to be attended to next, if nothing else happens.
    pub fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        let spec = self.spec.as_ref().filter(|_| !self.paused)?;
        spec.due(self.seen, None, now).look_again_at
    }

    fn attend(&self, around: &Surroundings) -> Vec<ScheduleEvent> {
        let Some(spec) = &self.spec else { return vec![] };
        let mut events = vec![];
        let mut open: Vec<OpenFire> = around.open.clone();
        if !self.paused {
            let due = spec.due(self.seen, around.free_since, around.now);
            if let Some((from, to)) = due.missed {
                events.push(missed(false, from, to, MissReason::Late));
            }
            let caught_up = due.caught_up.into_iter().map(|time| (time, FireCause::CaughtUp));
            let on_time = due.on_time.into_iter().map(|time| (time, FireCause::Due));
            for (time, cause) in caught_up.chain(on_time) {
                let (event, fire) = self.fire(spec, around, &open, time, cause);
                events.push(event);
                open.extend(fire);
            }
        }
        if let Some(backfill) = &self.backfill {
            let under_way = open.iter().filter(|fire| fire.backfill).count();
            let room = (backfill.concurrency.get() as usize).saturating_sub(under_way);
            let room = room.min(MAX_OPEN_FIRES.saturating_sub(open.len())).min(BACKFILL_AT_ONCE);
            if spec.between(backfill.seen, backfill.to, 1).is_empty() {
                // The schedule was changed meanwhile, and has fewer fire times than it had.
                events.push(ScheduleEvent::BackfillCancelled(NoData {}, None));
            }
            for time in spec.between(backfill.seen, backfill.to, room) {
                let run_id = run_of(&around.tenant, spec, time);
                events.push(if around.existing.contains(&run_id) {
                    missed(true, time, time, MissReason::HasRun)
                } else {
                    fired(time, run_id, FireCause::Backfill, None)
                });
            }
        }
        events
    }

    /// What becomes of one fire, and whether it is open then.
    fn fire(
        &self,
        spec: &CompiledSchedule,
        around: &Surroundings,
        open: &[OpenFire],
        fire_time: Timestamp,
        cause: FireCause,
    ) -> (ScheduleEvent, Option<OpenFire>) {
        let run_id = run_of(&around.tenant, spec, fire_time);
        let no = |reason| (missed(false, fire_time, fire_time, reason), None);
        if around.existing.contains(&run_id) || open.iter().any(|fire| fire.run_id == run_id) {
            return no(MissReason::HasRun);
        }
        let before = || open.iter().filter(|fire| !fire.backfill);
        let waits = before().any(|fire| !fire.started);
        let overlap = spec.spec().overlap;
        let blocking = before().next_back().filter(|_| overlap != Overlap::Allow);
        let event = match (overlap, blocking) {
            _ if open.len() >= MAX_OPEN_FIRES => return no(MissReason::Overlap),
            (Overlap::Allow, _) | (_, None) => fired(fire_time, run_id.clone(), cause, None),
            (Overlap::Skip, Some(_)) => return no(MissReason::Overlap),
            // One waits already.
            (Overlap::QueueOne | Overlap::CancelRunning, Some(_)) if waits => {
                return no(MissReason::Overlap);
            }
            (Overlap::QueueOne | Overlap::CancelRunning, Some(running)) => {
                let fired = ScheduleFired {
                    after: Some(running.run_id.clone()),
                    cancels: overlap == Overlap::CancelRunning,
                    cause,
                    fire_time,
                    run_id: run_id.clone(),
                };
                ScheduleEvent::ScheduleFired(fired, None)
            }
        };
        (event, Some(OpenFire { fire_time, run_id, backfill: false, started: false }))
    }

    fn backfill(
        &self,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
        cap: u32,
        concurrency: NonZeroU32,
        reason: String,
    ) -> Result<Vec<ScheduleEvent>, ScheduleRefusal> {
        let spec = self.known()?;
        if self.backfill.is_some() {
            return Err(ScheduleRefusal::BackfillUnderWay);
        }
        let fires = backfill_times(spec, from, to, now, cap)?;
        let fires = u32::try_from(fires.len()).unwrap_or(u32::MAX);
        let requested = BackfillRequested { concurrency, fires, from, to };
        Ok(vec![ScheduleEvent::BackfillRequested(requested, Some(Reason { reason }))])
    }

    fn clear(&self, around: &Surroundings, reason: &str) -> Option<ScheduleEvent> {
        let pending = around.open.iter().filter(|fire| {
            !fire.started && !around.existing.contains(&fire.run_id) && self.wants(fire.fire_time)
        });
        let fire_times: Vec<Timestamp> = pending.map(|fire| fire.fire_time).collect();
        let reason = Some(Reason { reason: reason.to_owned() });
        let cleared = TriggersCleared { fire_times };
        (!cleared.fire_times.is_empty()).then_some(ScheduleEvent::TriggersCleared(cleared, reason))
    }

    fn set(&mut self, data: &ScheduleSet, request: Option<&ScheduleRequest>) {
        let (id, spec) = (data.schedule_id.clone(), data.spec.clone());
        self.spec = CompiledSchedule::compile(id, spec).ok().map(Arc::new);
        self.request = request.cloned();
        self.seen = self.seen.max(data.since);
    }

    fn backfilled(&mut self, time: Timestamp) {
        let Some(backfill) = &mut self.backfill else { return };
        backfill.seen = time;
        backfill.left = backfill.left.saturating_sub(1);
        if backfill.left == 0 {
            self.backfill = None;
        }
    }
}

/// The fire times that a backfill has, earliest first.
///
/// # Errors
/// There are none, or more than `cap`, or the range goes on after `now`.
pub fn backfill_times(
    spec: &CompiledSchedule,
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
    cap: u32,
) -> Result<Vec<Timestamp>, ScheduleRefusal> {
    if to > now {
        return Err(ScheduleRefusal::BackfillAhead { to, now });
    }
    let most = cap.min(MAX_BACKFILL) as usize;
    let before = |time: Timestamp| Timestamp::from_micros(time.as_micros() - 1);
    let times = spec.between(before(from), before(to), most + 1);
    match times.len() {
        0 => Err(ScheduleRefusal::BackfillEmpty),
        n if n > most => Err(ScheduleRefusal::BackfillTooLarge { cap }),
        _ => Ok(times),
    }
}

impl Aggregate for Schedule {
    type Command = ScheduleCommand;
    type Event = ScheduleEvent;
    type Error = ScheduleRefusal;

    fn decide(&self, command: ScheduleCommand) -> Result<Vec<ScheduleEvent>, ScheduleRefusal> {
        let said = |reason: String| Some(Reason { reason });
        Ok(match command {
            ScheduleCommand::Set { spec, request, exists, now } => {
                let same = self.spec.as_ref().is_some_and(|have| have.spec() == spec.spec())
                    && self.request.as_ref().is_some_and(|have| have.starts_the_same(&request));
                if same {
                    return Ok(vec![]);
                }
                match (self.spec.is_some(), exists) {
                    (false, true) => return Err(ScheduleRefusal::Unknown),
                    (true, false) => return Err(ScheduleRefusal::Exists),
                    (false, false) | (true, true) => {}
                }
                let wrong = spec.wrong_from(now);
                if !wrong.is_empty() {
                    return Err(ScheduleRefusal::Invalid(wrong));
                }
                let (schedule_id, spec) = (spec.id().clone(), spec.spec().clone());
                let set = Box::new(ScheduleSet { schedule_id, since: now, spec });
                let request = Some(Box::new(request));
                vec![match exists {
                    false => ScheduleEvent::ScheduleCreated(set, request),
                    true => ScheduleEvent::ScheduleUpdated(set, request),
                }]
            }
            ScheduleCommand::Attend(around) => self.attend(&around),
            ScheduleCommand::Trigger { fire_time, around, reason } => {
                let run_id = run_of(&around.tenant, self.known()?, fire_time);
                if around.open.len() >= MAX_OPEN_FIRES {
                    return Err(ScheduleRefusal::TooManyOpen);
                }
                let known = around.existing.contains(&run_id)
                    || around.open.iter().any(|fire| fire.run_id == run_id);
                let said = said(reason).filter(|said| !said.reason.is_empty());
                if known {
                    return Ok(vec![]);
                }
                vec![fired(fire_time, run_id, FireCause::Trigger, said)]
            }
            ScheduleCommand::Pause { paused, reason } => {
                self.known()?;
                match (self.paused, paused) {
                    (false, true) => vec![ScheduleEvent::SchedulePaused(NoData {}, said(reason))],
                    (true, false) => vec![ScheduleEvent::ScheduleResumed(NoData {}, said(reason))],
                    (true, true) | (false, false) => vec![],
                }
            }
            ScheduleCommand::Clear { around, reason } => {
                self.known()?;
                self.clear(&around, &reason).into_iter().collect()
            }
            ScheduleCommand::Backfill { from, to, now, cap, concurrency, reason } => {
                self.backfill(from, to, now, cap, concurrency, reason)?
            }
            ScheduleCommand::CancelBackfill { reason } => {
                self.known()?;
                let cancelled = ScheduleEvent::BackfillCancelled(NoData {}, said(reason));
                self.backfill.map(|_| cancelled).into_iter().collect()
            }
            ScheduleCommand::Delete { around, reason } => {
                if self.spec.is_none() && self.version > 0 {
                    return Ok(vec![]);
                }
                self.known()?;
                let mut events: Vec<_> = self.clear(&around, &reason).into_iter().collect();
                events.push(ScheduleEvent::ScheduleDeleted(NoData {}, said(reason)));
                events
            }
        })
    }

    fn evolve(&mut self, event: &ScheduleEvent) {
        self.version += 1;
        match event {
            ScheduleEvent::ScheduleCreated(data, request) => {
                self.paused = false;
                self.set(data, request.as_deref());
            }
            ScheduleEvent::ScheduleUpdated(data, request) => self.set(data, request.as_deref()),
            ScheduleEvent::ScheduleFired(data, _) => {
                // Whatever was cleared before, it is fired anew.
                self.cleared.remove(&data.fire_time);
                match data.cause {
                    FireCause::Due | FireCause::CaughtUp => {
                        self.seen = self.seen.max(data.fire_time)
                    }
                    FireCause::Backfill => self.backfilled(data.fire_time),
                    FireCause::Trigger => {}
                }
            }
            ScheduleEvent::ScheduleMissed(data) if data.backfill => self.backfilled(data.to),
            ScheduleEvent::ScheduleMissed(data) => self.seen = self.seen.max(data.to),
            ScheduleEvent::SchedulePaused(..) => self.paused = true,
            ScheduleEvent::ScheduleResumed(..) => self.paused = false,
            ScheduleEvent::TriggersCleared(data, _) => self.cleared.extend(&data.fire_times),
            ScheduleEvent::BackfillRequested(data, _) => {
                self.backfill = Some(Backfill {
                    concurrency: data.concurrency,
                    left: data.fires,
                    seen: Timestamp::from_micros(data.from.as_micros() - 1),
                    to: Timestamp::from_micros(data.to.as_micros() - 1),
                });
            }
            ScheduleEvent::BackfillCancelled(..) => self.backfill = None,
            ScheduleEvent::ScheduleDeleted(..) => {
                (self.spec, self.request, self.backfill) = (None, None, None);
            }
        }
    }
}

/// The run of a fire.
pub fn run_of(tenant: &Tenant, spec: &CompiledSchedule, fire_time: Timestamp) -> RunId {
    derived_run_id(tenant, RunIdKind::Token, &fire_token(spec.id(), fire_time), 0)
}

fn fired(
    fire_time: Timestamp,
    run_id: RunId,
    cause: FireCause,
    said: Option<Reason>,
) -> ScheduleEvent {
    let (after, cancels) = (None, false);
    let fired = ScheduleFired { after, cancels, cause, fire_time, run_id };
    ScheduleEvent::ScheduleFired(fired, said)
}

fn missed(backfill: bool, from: Timestamp, to: Timestamp, reason: MissReason) -> ScheduleEvent {
    ScheduleEvent::ScheduleMissed(ScheduleMissed { backfill, from, reason, to })
}
