//! Running again what has ended: one run, or all of a window that ended so.

use axum::{Json, extract::State};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use stella_commands::CommandError;
use stella_domain::{
    aggregate::RunStatus,
    hash,
    ids::{RunId, Tenant},
    time::Timestamp,
};
use stella_projections::{RunFilter, RunRow};

use crate::{
    app::Record,
    auth::Caller,
    extract::{JsonBody, OptionalJson, PageSize},
    node::artifacts::RerunError,
    openapi::{BulkRerunRefused, RerunRefused},
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{
        BulkRerun, BulkRerunBody, RERUN_CAP, RERUN_STATUSES, RerunBody, RerunItem, StartedRun,
    },
};

/// Of these, so many at once.
const AT_ONCE: usize = 64;

/// Run a run again.
///
/// With the inputs, labels and priority that it had, on the active version of its DAG or the one that is
/// named. It is the next attempt of the same run, under the same run token: asked for again, the same
/// rerun comes back.
#[utoipa::path(post, path = "/runs/{runId}:rerun", tag = "runs",
    params(("runId" = String, Path, description = "A run that has ended.")),
    request_body(content = Option<RerunBody>),
    responses((status = 200, description = "The rerun.", body = StartedRun), RerunRefused))]
pub(super) async fn rerun_run(
    app: AppState,
    caller: Caller,
    run_id: RunId,
    OptionalJson(body): OptionalJson<RerunBody>,
) -> Result<Json<StartedRun>, ApiError> {
    let actor = caller.actor;
    let Record { commands, ledger, .. } = app.record()?;
    let RerunBody { dag_version, reason } = body;
    let written =
        app.artifacts.rerun(&commands, &*ledger, &actor, &run_id, dag_version, reason).await?;
    StartedRun::of(written, None).map(Json)
}

/// Run again what has ended in a window.
///
/// Each as its own rerun. Those that were refused say why, and keep none of the others back. Sent
/// again, it starts nothing twice. With `dryRun` the runs are listed, and nothing starts.
#[utoipa::path(post, path = "/runs:rerun", tag = "runs", request_body = BulkRerunBody,
    responses((status = 200, description = "The runs.", body = BulkRerun), BulkRerunRefused))]
pub(crate) async fn rerun_runs(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<BulkRerunBody>,
) -> Result<Json<BulkRerun>, ApiError> {
    let Caller { tenant, actor } = &caller;
    let Record { commands, ledger, .. } = app.record()?;
    super::catch_up(&app, tenant).await?;
    let runs = wanted(&app, &caller, &body).await?;
    let item = |row: &RunRow| RerunItem {
        run_id: row.run_id.clone(),
        dag_id: row.dag_id.clone(),
        error_code: row.error_code.clone(),
        rerun_id: None,
        replayed: false,
        refused: None,
    };
    if body.dry_run {
        let reruns: Vec<RunId> = runs.iter().map(|row| rerun_of(tenant, row)).collect();
        let existing = app.projections.existing_runs(tenant, &reruns).await?;
        let items = runs.iter().zip(reruns).map(|(row, rerun_id)| {
            let replayed = existing.contains(&rerun_id);
            RerunItem { rerun_id: replayed.then_some(rerun_id), replayed, ..item(row) }
        });
        return Ok(Json(BulkRerun { items: items.collect() }));
    }
    let rerun = |row: RunRow| {
        let (commands, ledger, artifacts) = (&commands, &*ledger, &app.artifacts);
        let (dag_version, reason) = (body.dag_version, body.reason.clone());
        async move {
            let rerun =
                artifacts.rerun(commands, ledger, actor, &row.run_id, dag_version, reason).await;
            let item = item(&row);
            match rerun {
                Ok(written) => {
                    let (rerun_id, replayed) = (written.answer.run_id, written.answer.replayed);
                    Ok(RerunItem { rerun_id: Some(rerun_id), replayed, ..item })
                }
                Err(RerunError::Command(CommandError::Refused(refusal))) => {
                    Ok(RerunItem { refused: Some(refusal.to_string()), ..item })
                }
                Err(error) => Err(ApiError::from(error)),
            }
        }
    };
    let items = stream::iter(runs).map(rerun).buffered(AT_ONCE).try_collect().await?;
    Ok(Json(BulkRerun { items }))
}

/// The id that the rerun of a run has.
fn rerun_of(tenant: &Tenant, row: &RunRow) -> RunId {
    let first = row.rerun_of.as_ref().unwrap_or(&row.run_id);
    hash::rerun_id(tenant, first, row.run_token.as_deref(), row.attempt + 1)
}

/// The runs of a bulk rerun, newest first.
async fn wanted(
    app: &AppState,
    caller: &Caller,
    body: &BulkRerunBody,
) -> Result<Vec<RunRow>, ApiError> {
    let time = |name: &str, text: &str| {
        Timestamp::parse_lenient(text)
            .map_err(|error| ApiError::bad_request("INVALID_BODY", format_args!("{name}: {error}")))
    };
    let (from, to) = (time("from", &body.from)?, time("to", &body.to)?);
    if from >= to {
        let detail = format!("from={from} is not before to={to}: swap them");
        return Err(ApiError::bad_request("WINDOW_INVALID", detail));
    }
    let now = app.clock.now();
    if to > now {
        let detail = format!(
            "to={to} is to come, and it is {now}: what this starts would be among what it chooses \
             when it is sent again; give a time that is past"
        );
        return Err(ApiError::bad_request("WINDOW_INVALID", detail));
    }
    let status = body.status.unwrap_or(RunStatus::Failed);
    if !RERUN_STATUSES.contains(&status) {
        let names = RERUN_STATUSES.map(RunStatus::as_str).join(", ");
        let detail = format!("status is one of {names}, not {}", status.as_str());
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    if body.plugin_version.is_some() && body.plugin.is_none() {
        let detail = "pluginVersion is a version of `plugin`: name that too";
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    let filter = RunFilter {
        status: Some(status),
        dag_id: body.dag_id.clone(),
        from: Some(from),
        to: Some(to),
        error_code: body.error_code.clone(),
        ..RunFilter::default()
    };
    let cap = body.cap;
    if !(1..=RERUN_CAP).contains(&cap) {
        let detail = format!("cap is 1 to {RERUN_CAP}, not {cap}");
        return Err(ApiError::bad_request("INVALID_BODY", detail));
    }
    let mut runs = vec![];
    let mut request = page::request(PageSize::MAX, None::<PageToken>);
    loop {
        let found = app.projections.runs(&caller.tenant, &filter, request).await?;
        for row in found.items {
            if body.of_dag_version.is_some_and(|version| row.dag_version != version)
                || !failed_in(app, caller, &row, body).await?
            {
                continue;
            }
            if runs.len() == cap as usize {
                return Err(ApiError::too_many_reruns(cap));
            }
            runs.push(row);
        }
        request.after = found.next;
        if request.after.is_none() {
            return Ok(runs);
        }
    }
}

/// Whether the run failed in a step of the plugin, and of its version, that is asked for, if one is.
async fn failed_in(
    app: &AppState,
    caller: &Caller,
    row: &RunRow,
    body: &BulkRerunBody,
) -> Result<bool, ApiError> {
    let Some(plugin) = &body.plugin else { return Ok(true) };
    let Some(failed) = &row.failed_step else { return Ok(false) };
    let mut request = page::request(PageSize::MAX, None::<PageToken>);
    loop {
        let steps = app.projections.steps(&caller.tenant, &row.run_id, request).await?;
        if let Some(step) = steps.items.iter().find(|step| step.step_id == *failed) {
            let version = body.plugin_version.as_ref();
            return Ok(step.plugin.as_ref() == Some(plugin)
                && (version.is_none() || step.plugin_version.as_ref() == version));
        }
        request.after = steps.next;
        if request.after.is_none() {
            return Ok(false);
        }
    }
}
