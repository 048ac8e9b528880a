//! A schedule as it is shown: its row, its next fire times, and why fires have no run yet.

use std::collections::HashMap;

use stella_domain::{
    event::FireCause,
    ids::{DagId, Tenant},
    schedule::CompiledSchedule,
    time::Timestamp,
};
use stella_projections::{BackfillRow, ProjectionError, ScheduleRow};

use super::schedule_body::body_of;
use crate::{
    health::told,
    state::AppState,
    types::{BackfillView, FireView, MarkView, MissView, ScheduleView},
};

/// Fire times to come that are shown.
const NEXT: usize = 5;

/// What keeps schedules from firing beside their own pause.
pub(super) struct Holding {
    all: Option<String>,
    dags: HashMap<DagId, String>,
}

impl Holding {
    pub(super) async fn now(app: &AppState, tenant: &Tenant) -> Result<Self, ProjectionError> {
        let control = app.projections.control(tenant).await?;
        let paused = control.as_ref().and_then(|control| control.schedulers_paused.as_ref());
        let paused = paused.map(|mark| format!("all schedules are paused {}", told(mark)));
        let drain = control.as_ref().and_then(|control| control.draining());
        let drain = drain.map(|drain| format!("the queue is drained {}", told(&drain.started)));
        let dags = app.projections.paused_dags(tenant).await?.into_iter();
        let dags = dags.filter_map(|dag| {
            let held = format!("its DAG is paused {}", told(dag.paused.as_ref()?));
            Some((dag.dag_id, held))
        });
        Ok(Self { all: paused.or(drain), dags: dags.collect() })
    }

    fn of(&self, row: &ScheduleRow) -> Option<String> {
        self.all.clone().or_else(|| self.dags.get(&row.spec.dag_id).cloned())
    }
}

pub(super) fn view(
    app: &AppState,
    tenant: &Tenant,
    row: ScheduleRow,
    holding: &Holding,
) -> ScheduleView {
    // Without a way to the record nothing is refused; the read model still answers.
    let refused =
        app.record().map(|record| record.commands.refused_fires(tenant, &row.schedule_id));
    let refused: HashMap<Timestamp, String> = refused.unwrap_or_default().into_iter().collect();
    let spec = CompiledSchedule::compile(row.schedule_id.clone(), row.spec.clone());
    let over = spec.as_ref().is_ok_and(|spec| spec.next_after(row.seen).is_none());
    let next = match spec {
        Ok(spec) if row.paused.is_none() => {
            let after = row.seen.max(app.clock.now());
            spec.between(after, Timestamp::from_micros(i64::MAX), NEXT)
        }
        _ => vec![],
    };
    let open: Vec<FireView> = row
        .open
        .iter()
        .map(|(time, fire)| FireView {
            fire_time: *time,
            run_id: fire.run_id.clone(),
            cause: text(&fire.cause),
            started: fire.started,
            after: fire.after.clone(),
            refused: refused.get(time).cloned(),
        })
        .collect();
    let of_backfill = row.open.values().filter(|fire| fire.cause == FireCause::Backfill).count();
    ScheduleView {
        spec: body_of(&row),
        next,
        over,
        held: holding.of(&row),
        fired: row.fired,
        last_fire_time: row.last_fire.as_ref().map(|fire| fire.fire_time),
        last_run_id: row.last_fire.map(|fire| fire.run_id),
        last_miss: row.last_miss.map(|miss| MissView {
            from: miss.from,
            to: miss.to,
            reason: text(&miss.reason),
        }),
        open,
        paused: row.paused.map(MarkView::from),
        backfill: row.backfill.map(|backfill| backfill_view(backfill, of_backfill)),
        created: row.created.into(),
        updated: row.updated.into(),
    }
}

fn backfill_view(row: BackfillRow, open: usize) -> BackfillView {
    BackfillView {
        under_way: row.is_under_way() || open > 0,
        from: row.what.from,
        to: row.what.to,
        fires: row.what.fires,
        done: row.done,
        had_run: row.had_run,
        open,
        requested: row.requested.into(),
        cancelled: row.cancelled.map(MarkView::from),
    }
}

/// A plain enum as it is written.
fn text(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
