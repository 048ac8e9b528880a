//! What the events of what operators hold back do to its row.

use stella_domain::event::ControlEvent;

use crate::rows::{ControlRow, DrainRow, LimitRow, Mark};

pub(super) fn fold(row: &mut ControlRow, mark: Mark, event: &ControlEvent) {
    row.version += 1;
    match event {
        ControlEvent::SchedulersPaused(..) => row.schedulers_paused = Some(mark),
        ControlEvent::SchedulersResumed(..) => row.schedulers_paused = None,
        ControlEvent::DispatchPaused(data, _) => match &data.plugin {
            None => row.dispatch_paused = Some(mark),
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
        ControlEvent::ConcurrencyLimitSet(data, _) => {
            row.limits.retain(|limit| limit.value.scope != data.scope);
            if data.limit.is_some() {
                row.limits.push(LimitRow { set: mark, value: data.clone() });
                row.limits.sort_by(|a, b| a.value.scope.cmp(&b.value.scope));
            }
        }
    }
}

/// Why it was done, where that is not erased.
pub(super) fn reason(event: &ControlEvent) -> Option<String> {
    let (ControlEvent::SchedulersPaused(_, payload)
    | ControlEvent::SchedulersResumed(_, payload)
    | ControlEvent::DispatchPaused(_, payload)
    | ControlEvent::DispatchResumed(_, payload)
    | ControlEvent::DrainStarted(_, payload)
    | ControlEvent::DrainEnded(_, payload)
    | ControlEvent::ConcurrencyLimitSet(_, payload)) = event;
    payload.as_ref().map(|payload| payload.reason.clone())
}
