//! What the events of what operators hold back do to its row.

use stella_domain::event::ControlEvent;

use crate::rows::{ControlRow, DrainRow, LimitRow, Mark};

pub(super) fn fold(row: &mut ControlRow, mark: Mark, event: &ControlEvent) {
    row.version += 1;
    match event {
        ControlEvent::SchedulersPaused(..) => row.schedulers_paused = Some(mark),
        ControlEvent::SchedulersResumed(..) => row.schedulers_paused = None,
        ControlEvent::DispatchPaused(data, _) => match &data.plugin {
            None => row.dispatch_paused = Some(paused(row, mark)),
            Some(plugin) => drop(row.plugins_paused.insert(plugin.clone(), mark)),
        },
        ControlEvent::DispatchResumed(data, _) => match &data.plugin {
            None => row.dispatch_paused = None,
            Some(plugin) => drop(row.plugins_paused.remove(plugin)),
        },
        ControlEvent::DrainStarted(data, _) => {
            let then_pause = data.then_pause;
            row.drain = Some(DrainRow { emptied: None, ended: None, started: mark, then_pause });
        }
        ControlEvent::DrainEnded(data, _) => {
            if let Some(drain) = &mut row.drain {
                (drain.emptied, drain.ended) = (Some(data.emptied), Some(mark));
            }
        }
        ControlEvent::WorkersWarmed(..) => {}
        ControlEvent::ConcurrencyLimitSet(data, _) => {
            row.limits.retain(|limit| limit.value.scope != data.scope);
            if data.limit.is_some() {
                row.limits.push(LimitRow { set: mark, value: data.clone() });
                row.limits.sort_by(|a, b| a.value.scope.cmp(&b.value.scope));
            }
        }
    }
}

/// Who paused dispatch and why: what a drain ends with was wanted by whoever began it.
fn paused(row: &ControlRow, mark: Mark) -> Mark {
    let of_drain = row.drain.as_ref().filter(|drain| {
        let ended = drain.ended.as_ref().is_some_and(|ended| ended.seq + 1 == mark.seq);
        drain.then_pause && drain.emptied == Some(true) && ended
    });
    let reason = mark.reason.or_else(|| of_drain.and_then(|drain| drain.started.reason.clone()));
    Mark { reason, ..mark }
}

/// Why it was done, where that is not erased.
pub(super) fn reason(event: &ControlEvent) -> Option<String> {
    let (ControlEvent::SchedulersPaused(_, payload)
    | ControlEvent::SchedulersResumed(_, payload)
    | ControlEvent::DispatchPaused(_, payload)
    | ControlEvent::DispatchResumed(_, payload)
    | ControlEvent::DrainStarted(_, payload)
    | ControlEvent::DrainEnded(_, payload)
    | ControlEvent::ConcurrencyLimitSet(_, payload)
    | ControlEvent::WorkersWarmed(_, payload)) = event;
    payload.as_ref().map(|payload| payload.reason.clone())
}
