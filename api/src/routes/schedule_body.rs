//! A schedule as it is asked for, and back.

use std::{num::NonZeroU32, sync::Arc};

use stella_domain::{
    dag::parse_duration_ms,
    event::ScheduleRequest,
    json::CanonicalJson,
    schedule::{CatchUp, CompiledSchedule, Overlap, ScheduleError, ScheduleSpec, Timing},
    time::Timestamp,
};
use stella_projections::ScheduleRow;

use crate::{
    problem::ApiError,
    types::{CatchUpName, OverlapName, ScheduleBody},
};

/// Missed fires that are caught up with unless the author says how many.
const CATCH_UP_CAP: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Read a body as a schedule, all that is wrong at once.
pub(super) fn compile(
    body: ScheduleBody,
) -> Result<(Arc<CompiledSchedule>, ScheduleRequest), ApiError> {
    let mut errors = vec![];
    let timing = timing(&body, &mut errors);
    let mut read = |path: &'static str, text: &Option<String>| {
        let text = text.as_ref()?;
        let parsed = Timestamp::parse_lenient(text);
        parsed.map_err(|e| errors.push(ScheduleError { path, message: e.to_string() })).ok()
    };
    let (start_at, end_at) = (read("startAt", &body.start_at), read("endAt", &body.end_at));
    let jitter_ms = match body.jitter.as_deref().map(parse_duration_ms) {
        None => 0,
        Some(Ok(ms)) => ms,
        Some(Err(message)) => {
            errors.push(ScheduleError { path: "jitter", message });
            0
        }
    };
    let catch_up = match (body.catch_up, body.catch_up_cap) {
        (CatchUpName::Skip, _) => CatchUp::Skip,
        (CatchUpName::Last, _) => CatchUp::Last,
        (CatchUpName::All, cap) => CatchUp::All(cap.unwrap_or(CATCH_UP_CAP)),
    };
    if !body.inputs.is_object() {
        let message = "inputs are an object".to_owned();
        errors.push(ScheduleError { path: "inputs", message });
    }
    let (Some(timing), true) = (timing, errors.is_empty()) else {
        return Err(ApiError::schedule(errors));
    };
    let spec = ScheduleSpec {
        catch_up,
        dag_id: body.dag_id,
        dag_version: body.dag_version,
        end_at,
        fire_time_input: body.fire_time_input,
        jitter_ms,
        overlap: match body.overlap {
            OverlapName::Allow => Overlap::Allow,
            OverlapName::Skip => Overlap::Skip,
            OverlapName::QueueOne => Overlap::QueueOne,
            OverlapName::CancelRunning => Overlap::CancelRunning,
        },
        priority: body.priority,
        start_at,
        timing,
    };
    let compiled = CompiledSchedule::compile(body.schedule_id, spec).map_err(ApiError::schedule)?;
    let reason = Some(body.reason).filter(|reason| !reason.is_empty());
    let request = ScheduleRequest { inputs: body.inputs, labels: body.labels, reason };
    Ok((Arc::new(compiled), request))
}

fn timing(body: &ScheduleBody, errors: &mut Vec<ScheduleError>) -> Option<Timing> {
    let mut wrong = |path, message: String| {
        errors.push(ScheduleError { path, message });
        None
    };
    if body.time_zone.is_some() && body.cron.is_none() {
        return wrong("timeZone", "only cron has a time zone".to_owned());
    }
    match (&body.cron, &body.every, &body.at) {
        (Some(expression), None, None) => Some(Timing::Cron {
            expression: expression.clone(),
            time_zone: body.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
        }),
        (None, Some(every), None) => match parse_duration_ms(every) {
            Ok(ms) => Some(Timing::Every { ms }),
            Err(message) => wrong("every", message),
        },
        (None, None, Some(at)) => match Timestamp::parse_lenient(at) {
            Ok(at) => Some(Timing::Once { at }),
            Err(error) => wrong("at", error.to_string()),
        },
        _ => wrong("cron", "give exactly one of cron, every and at".to_owned()),
    }
}

/// The spec as it would be asked for.
pub(super) fn body_of(row: &ScheduleRow) -> ScheduleBody {
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
        reason: String::new(),
    }
}

/// A duration in the largest unit that fits it.
fn duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit, _)| ms.is_multiple_of(*unit));
    fits.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}
