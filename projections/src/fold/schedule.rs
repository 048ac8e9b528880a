//! What the events of a schedule do to its row.

use std::collections::BTreeMap;

use stella_domain::event::{
    FireCause, MissReason, ScheduleEvent, ScheduleFired, ScheduleRequest, ScheduleSet,
};

use crate::{
    rows::{BackfillRow, FireRow, LastFireRow, Mark, MissRow, ScheduleRow},
    tracked::Tracked,
};

const NEVER_CREATED: &str = "the schedule was never created";

pub(super) fn fold(
    schedule: &mut Option<Tracked<ScheduleRow>>,
    mark: Mark,
    event: &ScheduleEvent,
) -> Result<(), &'static str> {
    if let ScheduleEvent::ScheduleCreated(data, request) = event {
        create(schedule, mark, data, request.as_deref());
        return Ok(());
    }
    let row = schedule.as_mut().ok_or(NEVER_CREATED)?.change();
    match event {
        ScheduleEvent::ScheduleCreated(..) => {}
        ScheduleEvent::ScheduleUpdated(data, request) => {
            set(row, data, request.as_deref());
            row.updated = mark;
        }
        ScheduleEvent::ScheduleFired(fired, _) => fire(row, &mark, fired),
        ScheduleEvent::ScheduleMissed(data) => {
            if data.backfill {
                if let Some(backfill) = &mut row.backfill {
                    backfill.done += 1;
                    backfill.had_run += u32::from(data.reason == MissReason::HasRun);
                }
            } else {
                row.seen = row.seen.max(data.to);
                let (from, to, reason) = (data.from, data.to, data.reason);
                row.last_miss = Some(MissRow { at: mark.at, from, reason, to });
            }
        }
        ScheduleEvent::SchedulePaused(..) => row.paused = Some(mark),
        ScheduleEvent::ScheduleResumed(..) => row.paused = None,
        ScheduleEvent::TriggersCleared(data, _) => {
            for time in &data.fire_times {
                row.open.remove(time);
            }
        }
        ScheduleEvent::BackfillRequested(data, _) => {
            let what = data.clone();
            row.backfill =
                Some(BackfillRow { cancelled: None, done: 0, had_run: 0, requested: mark, what });
        }
        ScheduleEvent::BackfillCancelled(..) => {
            if let Some(backfill) = &mut row.backfill {
                backfill.cancelled = Some(mark);
            }
        }
        ScheduleEvent::ScheduleDeleted(..) => row.deleted = Some(mark),
    }
    Ok(())
}

/// Why it was done, where that is not erased.
pub(super) fn reason(event: &ScheduleEvent) -> Option<String> {
    let payload = match event {
        ScheduleEvent::ScheduleCreated(_, payload) | ScheduleEvent::ScheduleUpdated(_, payload) => {
            return payload.as_ref()?.reason.clone();
        }
        ScheduleEvent::ScheduleMissed(_) => return None,
        ScheduleEvent::ScheduleFired(_, payload)
        | ScheduleEvent::SchedulePaused(_, payload)
        | ScheduleEvent::ScheduleResumed(_, payload)
        | ScheduleEvent::TriggersCleared(_, payload)
        | ScheduleEvent::BackfillRequested(_, payload)
        | ScheduleEvent::BackfillCancelled(_, payload)
        | ScheduleEvent::ScheduleDeleted(_, payload) => payload,
    };
    payload.as_ref().map(|payload| payload.reason.clone())
}

fn create(
    schedule: &mut Option<Tracked<ScheduleRow>>,
    mark: Mark,
    data: &ScheduleSet,
    request: Option<&ScheduleRequest>,
) {
    if let Some(row) = schedule {
        // There was one of this id, which was deleted.
        let row = row.change();
        set(row, data, request);
        (row.created, row.updated) = (mark.clone(), mark);
        (row.deleted, row.paused, row.backfill) = (None, None, None);
        return;
    }
    let mut row = ScheduleRow {
        backfill: None,
        created: mark.clone(),
        deleted: None,
        fired: 0,
        inputs: None,
        labels: BTreeMap::new(),
        last_fire: None,
        last_miss: None,
        open: BTreeMap::new(),
        paused: None,
        schedule_id: data.schedule_id.clone(),
        seen: data.since,
        spec: data.spec.clone(),
        updated: mark,
    };
    set(&mut row, data, request);
    *schedule = Some(Tracked::new(row));
}

fn set(row: &mut ScheduleRow, data: &ScheduleSet, request: Option<&ScheduleRequest>) {
    row.spec = data.spec.clone();
    row.seen = row.seen.max(data.since);
    row.inputs = request.map(|request| request.inputs.clone());
    row.labels = request.map(|request| request.labels.clone()).unwrap_or_default();
}

fn fire(row: &mut ScheduleRow, mark: &Mark, fired: &ScheduleFired) {
    let ScheduleFired { after, cancels, cause, fire_time, run_id } = fired.clone();
    match cause {
        FireCause::Due | FireCause::CaughtUp => row.seen = row.seen.max(fire_time),
        FireCause::Backfill => {
            if let Some(backfill) = &mut row.backfill {
                backfill.done += 1;
            }
        }
        FireCause::Trigger => {}
    }
    row.fired += 1;
    row.last_fire = Some(LastFireRow { at: mark.at, cause, fire_time, run_id: run_id.clone() });
    let started = false;
    row.open.insert(fire_time, FireRow { after, cancels, cause, run_id, started });
}
