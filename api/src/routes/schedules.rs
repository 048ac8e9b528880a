//! Schedules: what fires when, and what became of it.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use stella_commands::engine::{ScheduleChange, ScheduleChanged};
use stella_domain::{
    aggregate::{MAX_BACKFILL, backfill_times, run_of},
    event::ScheduleEvent,
    ids::{RunId, ScheduleId},
    schedule::CompiledSchedule,
    time::Timestamp,
};
use stella_projections::ScheduleRow;
use utoipa::IntoParams;

use super::{
    schedule_body::compile,
    schedule_view::{Holding, view},
};
use crate::{
    auth::Caller,
    extract::{JsonBody, OptionalJson, PageSize, Params, Segment},
    openapi::{
        BackfillRefused, ScheduleExists, ScheduleNotFound, ScheduleNotTriggered, ScheduleRefused,
        ScheduleUnchanged,
    },
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{
        BackfillBody, ChangedSchedule, Page, ReasonBody, ScheduleBody, ScheduleView, TriggerBody,
    },
};

/// From which state to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SchedulesParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Schedules on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken<ScheduleId>>,
}

/// List schedules, by id.
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(SchedulesParams),
    responses((status = 200, description = "A page of schedules.", body = Page<ScheduleView>)))]
pub(crate) async fn list_schedules(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<SchedulesParams>,
) -> Result<Json<Page<ScheduleView>>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let page = page::request(params.page_size, params.page_token);
    let rows = app.projections.schedules(&caller.tenant, page).await?;
    let holding = Holding::now(&app, &caller.tenant).await?;
    let tenant = &caller.tenant;
    let items = rows.items.into_iter().map(|row| view(&app, tenant, row, &holding)).collect();
    Ok(Json(Page::with_next(items, rows.next)))
}

/// Get a schedule, with its next fire times and what became of the last ones.
#[utoipa::path(get, path = "/schedules/{scheduleId}", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule."), ScheduleParams),
    responses((status = 200, description = "The schedule.", body = ScheduleView),
        ScheduleNotFound))]
pub(crate) async fn get_schedule(
    State(app): State<AppState>,
    caller: Caller,
    Segment(id): Segment<ScheduleId>,
    Params(params): Params<ScheduleParams>,
) -> Result<Json<ScheduleView>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let row = schedule(&app, &caller, &id).await?;
    let holding = Holding::now(&app, &caller.tenant).await?;
    Ok(Json(view(&app, &caller.tenant, row, &holding)))
}

/// Create a schedule.
///
/// Its DAG has to be there, and to take the inputs. Asked for the same again, nothing changes.
#[utoipa::path(post, path = "/schedules", tag = "schedules", request_body = ScheduleBody,
    responses((status = 201, description = "It was created.", body = ChangedSchedule),
        (status = 200, description = "It was there already, and is the same.",
            body = ChangedSchedule),
        ScheduleExists))]
pub(crate) async fn create_schedule(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<ScheduleBody>,
) -> Result<Response, ApiError> {
    let id = body.schedule_id.clone();
    let (spec, request) = compile(body)?;
    let set = ScheduleChange::Set { spec, request, exists: false };
    let changed = change(app, caller, id, set).await?;
    let status = if changed.0.seq.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, changed).into_response())
}

/// Find the verb's handler.
pub(crate) async fn schedule_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment(segment): Segment<String>,
    request: Request,
) -> Result<Json<ChangedSchedule>, ApiError> {
    let path = request.uri().path().to_owned();
    let Some((id, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", &path));
    };
    let id = id.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    match verb {
        "update" => {
            let body = JsonBody::from_request(request, &app).await?;
            update_schedule(app, caller, id, body).await
        }
        "trigger" => {
            let body = OptionalJson::from_request(request, &app).await?;
            trigger_schedule(app, caller, id, body).await
        }
        "backfill" => {
            let body = JsonBody::from_request(request, &app).await?;
            backfill_schedule(app, caller, id, body).await
        }
        "pause" | "resume" | "clear" | "cancelBackfill" | "delete" => {
            let body = OptionalJson::from_request(request, &app).await?;
            match verb {
                "pause" => pause_schedule(app, caller, id, body).await,
                "resume" => resume_schedule(app, caller, id, body).await,
                "clear" => clear_schedule(app, caller, id, body).await,
                "delete" => delete_schedule(app, caller, id, body).await,
                _ => cancel_backfill(app, caller, id, body).await,
            }
        }
        _ => Err(ApiError::no_route(&path)),
    }
}

/// Say what a schedule is from now on.
///
/// The body is the whole of it. Fires that were decided on stay. Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:update", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body = ScheduleBody,
    responses((status = 200, description = "The schedule.", body = ChangedSchedule),
        ScheduleRefused))]
async fn update_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    JsonBody(body): JsonBody<ScheduleBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    if body.schedule_id != id {
        let detail = format!("the path names schedule {id}, the body {}", body.schedule_id);
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    let (spec, request) = compile(body)?;
    change(app, caller, id, ScheduleChange::Set { spec, request, exists: true }).await
}

/// Fire a schedule now.
///
/// Whatever is due, paused or running already. Sent again with the same `fireTime`, it fires once.
#[utoipa::path(post, path = "/schedules/{scheduleId}:trigger", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<TriggerBody>),
    responses((status = 200, description = "The run that starts.", body = ChangedSchedule),
        ScheduleNotTriggered))]
async fn trigger_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(body): OptionalJson<TriggerBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    let fire_time = match &body.fire_time {
        Some(text) => time("fireTime", text)?,
        None => app.clock.now(),
    };
    change(app, caller, id, ScheduleChange::Trigger { fire_time, reason: body.reason }).await
}

/// Pause a schedule.
///
/// What is due meanwhile is treated as its catch-up policy says. Fires that were decided on get
/// their run; clear them if they should not. Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:pause", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The schedule.", body = ChangedSchedule),
        ScheduleUnchanged))]
async fn pause_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    change(app, caller, id, ScheduleChange::Pause { paused: true, reason }).await
}

/// Let a paused schedule fire again.
///
/// Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:resume", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The schedule.", body = ChangedSchedule),
        ScheduleUnchanged))]
async fn resume_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    change(app, caller, id, ScheduleChange::Pause { paused: false, reason }).await
}

/// Clear pending triggers.
///
/// Fires that have no run yet get none. Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:clear", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "What was cleared.", body = ChangedSchedule),
        ScheduleNotFound))]
async fn clear_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    change(app, caller, id, ScheduleChange::Clear { reason }).await
}

/// Fire for times that are past.
///
/// So many runs at once, until each fire time of the range has had its run; those that have one
/// already are passed over. With `dryRun` the fires are listed, and nothing starts.
#[utoipa::path(post, path = "/schedules/{scheduleId}:backfill", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body = BackfillBody,
    responses((status = 200, description = "Its fires.", body = ChangedSchedule),
        BackfillRefused))]
async fn backfill_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    JsonBody(body): JsonBody<BackfillBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    let (from, to) = (time("from", &body.from)?, time("to", &body.to)?);
    if from >= to {
        let detail = format!("from={from} is not before to={to}: swap them");
        return Err(ApiError::bad_request("WINDOW_INVALID", detail));
    }
    let BackfillBody { cap, concurrency, dry_run, reason, .. } = body;
    if !(1..=MAX_BACKFILL).contains(&cap) {
        let detail = format!("cap is 1 to {MAX_BACKFILL}, not {cap}");
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    let backfill = ScheduleChange::Backfill { from, to, cap, concurrency, reason };
    let row = schedule(&app, &caller, &id).await?;
    let spec =
        CompiledSchedule::compile(id.clone(), row.spec.clone()).map_err(ApiError::schedule)?;
    let times = backfill_times(&spec, from, to, app.clock.now(), cap);
    let fire_times = times.map_err(|refusal| ApiError::schedule_refusal(&id, refusal))?;
    let runs: Vec<RunId> =
        fire_times.iter().map(|time| run_of(&caller.tenant, &spec, *time)).collect();
    let existing = app.projections.existing_runs(&caller.tenant, &runs).await?;
    let both = fire_times.iter().zip(&runs);
    let had_run = both.filter(|(_, run_id)| existing.contains(*run_id));
    let had_run = had_run.map(|(time, _)| *time).collect();
    if dry_run {
        return Ok(Json(ChangedSchedule {
            schedule_id: id,
            paused: row.paused.is_some(),
            run_id: None,
            waits: None,
            had_run,
            fire_times,
            seq: None,
        }));
    }
    let Json(changed) = change(app, caller, id, backfill).await?;
    Ok(Json(ChangedSchedule { fire_times, had_run, ..changed }))
}

/// Cancel a backfill.
///
/// No more of its runs start; those that go on do so. Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:cancelBackfill", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The schedule.", body = ChangedSchedule),
        ScheduleNotFound))]
async fn cancel_backfill(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    change(app, caller, id, ScheduleChange::CancelBackfill { reason }).await
}

/// Delete a schedule.
///
/// Fires that have no run yet get none; runs that go on do so. Safe to repeat.
#[utoipa::path(post, path = "/schedules/{scheduleId}:delete", tag = "schedules",
    params(("scheduleId" = String, Path, description = "The schedule.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The schedule.", body = ChangedSchedule),
        ScheduleUnchanged))]
async fn delete_schedule(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedSchedule>, ApiError> {
    change(app, caller, id, ScheduleChange::Delete { reason }).await
}

async fn change(
    app: AppState,
    caller: Caller,
    id: ScheduleId,
    change: ScheduleChange,
) -> Result<Json<ChangedSchedule>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let triggered = match &change {
        ScheduleChange::Trigger { fire_time, .. } => Some(*fire_time),
        _ => None,
    };
    let (changed, receipt) = commands.change_schedule(&tenant, &actor, &id, change).await?;
    let ScheduleChanged { schedule, events, held } = changed;
    let run = |time| Some(run_of(&tenant, schedule.spec.as_ref()?, time));
    let run_id: Option<RunId> = triggered.and_then(run);
    let cleared = events.iter().find_map(|event| match event {
        ScheduleEvent::TriggersCleared(data, _) => Some(data.fire_times.clone()),
        _ => None,
    });
    Ok(Json(ChangedSchedule {
        schedule_id: id,
        paused: schedule.paused,
        waits: run_id.as_ref().and(held).map(str::to_owned),
        run_id,
        fire_times: cleared.unwrap_or_default(),
        had_run: vec![],
        seq: receipt.map(|receipt| receipt.last_seq),
    }))
}

/// The schedule as the projections have it.
async fn schedule(
    app: &AppState,
    caller: &Caller,
    id: &ScheduleId,
) -> Result<ScheduleRow, ApiError> {
    let there = |row: Option<ScheduleRow>| row.filter(|row| row.deleted.is_none());
    if let Some(row) = there(app.projections.schedule(&caller.tenant, id).await?) {
        return Ok(row);
    }
    super::runs::catch_up(app, &caller.tenant).await?;
    let row = there(app.projections.schedule(&caller.tenant, id).await?);
    row.ok_or_else(|| ApiError::schedule_not_found(id))
}

fn time(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    Timestamp::parse_lenient(text)
        .map_err(|error| ApiError::bad_request("INVALID_BODY", format_args!("{name}: {error}")))
}
