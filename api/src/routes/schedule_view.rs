//! A schedule as it is shown: its row, its next fire times, and why fires have no run yet.

use std::collections::HashMap;

use stella_domain::{
    event::FireCause,
    ids::Tenant,
    json::CanonicalJson,
    schedule::{CatchUp, CompiledSchedule, Overlap, ScheduleSpec, Timing},
    time::Timestamp,
};
use stella_projections::{BackfillRow, ScheduleRow};

use crate::{
    state::AppState,
    types::{
        BackfillView, CatchUpName, FireView, MarkView, MissView, OverlapName, ScheduleBody,
        ScheduleView,
    },
};

/// Fire times to come that are shown.
const NEXT: usize = 5;

pub(super) fn view(app: &AppState, tenant: &Tenant, row: ScheduleRow) -> ScheduleView {
    // Without a way to the record nothing is refused; the read model still answers.
    let refused =
        app.record().map(|record| record.commands.refused_fires(tenant, &row.schedule_id));
    let refused: HashMap<Timestamp, String> = refused.unwrap_or_default().into_iter().collect();
    let next = match CompiledSchedule::compile(row.schedule_id.clone(), row.spec.clone()) {
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
        spec: body(&row),
        next,
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

/// The spec as it would be asked for.
fn body(row: &ScheduleRow) -> ScheduleBody {
    let ScheduleSpec {
        catch_up,
        dag_id,
        dag_version,
        end_at,
        fire_time_input,
        jitter_ms,
        overlap,
        priority,
        start_at,
        timing,
    } = row.spec.clone();
    let (mut cron, mut time_zone, mut every, mut at) = (None, None, None, None);
    match timing {
        Timing::Cron { expression, time_zone: zone } => {
            (cron, time_zone) = (Some(expression), Some(zone));
        }
        Timing::Every { ms } => every = Some(duration(ms)),
        Timing::Once { at: once } => at = Some(once.to_string()),
    }
    let (catch_up, catch_up_cap) = match catch_up {
        CatchUp::Skip => (CatchUpName::Skip, None),
        CatchUp::Last => (CatchUpName::Last, None),
        CatchUp::All(cap) => (CatchUpName::All, Some(cap)),
    };
    ScheduleBody {
        schedule_id: row.schedule_id.clone(),
        dag_id,
        dag_version,
        cron,
        time_zone,
        every,
        at,
        start_at: start_at.map(|time| time.to_string()),
        end_at: end_at.map(|time| time.to_string()),
        jitter: (jitter_ms > 0).then(|| duration(jitter_ms)),
        overlap: match overlap {
            Overlap::Allow => OverlapName::Allow,
            Overlap::Skip => OverlapName::Skip,
            Overlap::QueueOne => OverlapName::QueueOne,
            Overlap::CancelRunning => OverlapName::CancelRunning,
        },
        catch_up,
        catch_up_cap,
        inputs: row.inputs.clone().unwrap_or_else(CanonicalJson::empty_object),
        fire_time_input,
        labels: row.labels.clone(),
        priority,
    }
}

/// A duration in the largest unit that fits it.
fn duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// A plain enum as it is written.
fn text(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
