//! Versions of a DAG: list them, and say which of them runs start with. The verbs stand behind a
//! parameter, as those of runs do.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use stella_domain::{
    aggregate::{Dag, RunStatus, VersionChange},
    ids::{DagId, RunId},
};
use stella_ledger::writer::Receipt;
use stella_projections::{DagVersionRow, RunFilter};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{JsonBody, OptionalJson, PageSize, Params, Segment},
    openapi::{
        DagNotFound, DagNotPaused, DagNotRolledBack, DagVersionNotCleared, DagVersionRefused,
        DagVersionUnchanged,
    },
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{ChangedDag, ClearedVersion, DagVersionItem, Page, ReasonBody, RollBackBody},
};

/// Runs that one request cancels at most.
const CLEARED: usize = 1_000;
/// Of these, so many at once.
const CLEARED_AT_ONCE: usize = 64;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionsParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Versions on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// List the versions of a DAG, newest first.
#[utoipa::path(get, path = "/dags/{dagId}/versions", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."), VersionsParams),
    responses((status = 200, description = "A page of versions.", body = Page<DagVersionItem>),
        DagNotFound))]
pub(crate) async fn list_dag_versions(
    State(app): State<AppState>,
    caller: Caller,
    Segment(dag_id): Segment<DagId>,
    Params(params): Params<VersionsParams>,
) -> Result<Json<Page<DagVersionItem>>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let dag = super::dags::dag(&app, &caller, &dag_id).await?;
    let page = page::request(params.page_size, params.page_token);
    let versions = app.projections.dag_versions(&caller.tenant, &dag_id, page).await?;
    let item = |row: DagVersionRow| DagVersionItem {
        version: row.version,
        active: dag.active_version == Some(row.version),
        disabled: dag.disabled_versions.contains(&row.version),
        digest: row.digest,
        registered_at: row.registered_at,
        seq: row.seq,
    };
    Ok(Json(Page::with_next(versions.items.into_iter().map(item).collect(), versions.next)))
}

/// Find the handler of a DAG's verb.
pub(crate) async fn dag_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment(segment): Segment<String>,
    request: Request,
) -> Result<Json<ChangedDag>, ApiError> {
    let path = request.uri().path();
    let Some((dag_id, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", path));
    };
    let dag_id = dag_id.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    match verb {
        "rollback" => {
            let body = JsonBody::from_request(request, &app).await?;
            roll_back_dag(app, caller, dag_id, body).await
        }
        "pause" => {
            let body = OptionalJson::from_request(request, &app).await?;
            pause_dag(app, caller, dag_id, body).await
        }
        "resume" => {
            let body = OptionalJson::from_request(request, &app).await?;
            resume_dag(app, caller, dag_id, body).await
        }
        _ => Err(ApiError::no_route(path)),
    }
}

/// Find the handler of a version's verb.
pub(crate) async fn version_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment((dag_id, segment)): Segment<(DagId, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    let Some((version, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", &path));
    };
    let version = version.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    let body = OptionalJson::from_request(request, &app).await?;
    let changed = match verb {
        "activate" => activate_dag_version(app, caller, dag_id, version, body).await,
        "disable" => disable_dag_version(app, caller, dag_id, version, body).await,
        "enable" => enable_dag_version(app, caller, dag_id, version, body).await,
        "clear" => {
            let cleared = clear_dag_version(app, caller, dag_id, version, body).await?;
            return Ok(cleared.into_response());
        }
        _ => Err(ApiError::no_route(&path)),
    };
    Ok(changed?.into_response())
}

/// Pause a DAG.
///
/// None of its runs start, and no step of those that there are is leased; what runs goes on. Safe to
/// repeat.
#[utoipa::path(post, path = "/dags/{dagId}:pause", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagNotPaused))]
async fn pause_dag(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    changed(dag_id.clone(), commands.pause_dag(&tenant, &actor, &dag_id, true, body.reason).await?)
}

/// Let a paused DAG go on.
///
/// Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}:resume", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagNotPaused))]
async fn resume_dag(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    changed(dag_id.clone(), commands.pause_dag(&tenant, &actor, &dag_id, false, body.reason).await?)
}

/// Cancel the runs of a disabled version.
///
/// Those that have not ended, up to 1000 at a time; what of them runs is told to stop.
/// Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}/versions/{version}:clear", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."),
        ("version" = u32, Path, description = "The version's number.", minimum = 1)),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "What was cancelled.", body = ClearedVersion),
        DagVersionNotCleared))]
async fn clear_dag_version(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    version: u32,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ClearedVersion>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    // What was recorded before this request is to be seen.
    super::runs::catch_up(&app, &tenant).await?;
    let dag = app.projections.dag(&tenant, &dag_id).await?;
    let dag = dag.ok_or_else(|| ApiError::dag_not_found(&dag_id))?;
    if app.projections.dag_version(&tenant, &dag_id, version).await?.is_none() {
        return Err(ApiError::dag_version_not_found(&dag_id, version, dag.latest_version));
    }
    if !dag.disabled_versions.contains(&version) {
        return Err(ApiError::dag_version_enabled(&dag_id, version));
    }
    let mut open = vec![];
    for status in [RunStatus::Running, RunStatus::Failing] {
        let dag_id = Some(dag_id.clone());
        let filter = RunFilter { status: Some(status), dag_id, ..RunFilter::default() };
        let mut page = page::request(PageSize::MAX, None::<PageToken>);
        loop {
            let runs = app.projections.runs(&tenant, &filter, page).await?;
            let of_version = runs.items.into_iter().filter(|run| run.dag_version == version);
            open.extend(of_version.map(|run| run.run_id));
            page.after = runs.next;
            if page.after.is_none() || open.len() > CLEARED {
                break;
            }
        }
    }
    let more = open.len() > CLEARED;
    open.truncate(CLEARED);
    let cancelled = open.len() as u64;
    let cancel = |run_id: RunId| {
        let (commands, tenant, actor, reason) = (&commands, &tenant, &actor, body.reason.clone());
        async move { commands.cancel_run(tenant, actor, &run_id, reason).await }
    };
    let mut cancels = stream::iter(open).map(cancel).buffer_unordered(CLEARED_AT_ONCE);
    while let Some(written) = cancels.next().await {
        written?;
    }
    Ok(Json(ClearedVersion { cancelled, more }))
}

/// Roll a DAG back.
///
/// Runs start with this older version from now on, unless they name one. Runs that were started go
/// on with the version that they were started with. Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}:rollback", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG.")),
    request_body = RollBackBody,
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagNotRolledBack))]
async fn roll_back_dag(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    JsonBody(body): JsonBody<RollBackBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    change(app, caller, dag_id, body.to_version, VersionChange::RollBack, body.reason).await
}

/// Activate a version of a DAG.
///
/// Runs start with it from now on, unless they name one. Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}/versions/{version}:activate", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."),
        ("version" = u32, Path, description = "The version's number.", minimum = 1)),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagVersionRefused))]
async fn activate_dag_version(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    version: u32,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    change(app, caller, dag_id, version, VersionChange::Activate, body.reason).await
}

/// Disable a version of a DAG.
///
/// No run starts with it any more. If it is the active one, runs that name no version are refused
/// until another is active. Runs that were started with it go on. Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}/versions/{version}:disable", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."),
        ("version" = u32, Path, description = "The version's number.", minimum = 1)),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagVersionUnchanged))]
async fn disable_dag_version(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    version: u32,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    change(app, caller, dag_id, version, VersionChange::Disable, body.reason).await
}

/// Enable a version of a DAG.
///
/// Runs may start with it again. It does not become the active one. Safe to repeat.
#[utoipa::path(post, path = "/dags/{dagId}/versions/{version}:enable", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."),
        ("version" = u32, Path, description = "The version's number.", minimum = 1)),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "The DAG.", body = ChangedDag), DagVersionUnchanged))]
async fn enable_dag_version(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    version: u32,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ChangedDag>, ApiError> {
    change(app, caller, dag_id, version, VersionChange::Enable, body.reason).await
}

async fn change(
    app: AppState,
    caller: Caller,
    dag_id: DagId,
    version: u32,
    change: VersionChange,
    reason: String,
) -> Result<Json<ChangedDag>, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let outcome =
        commands.change_dag_version(&tenant, &actor, &dag_id, version, change, reason).await?;
    changed(dag_id, outcome)
}

fn changed(
    dag_id: DagId,
    (dag, receipt): (Dag, Option<Receipt>),
) -> Result<Json<ChangedDag>, ApiError> {
    Ok(Json(ChangedDag {
        active_version: dag.active,
        paused: dag.paused,
        disabled_versions: dag.disabled().collect(),
        dag_id,
        seq: receipt.map(|receipt| receipt.last_seq),
    }))
}
