//! Versions of a DAG: list them, and say which of them runs start with. The verbs stand behind a
//! parameter, as those of runs do.

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
};
use serde::Deserialize;
use stella_domain::{aggregate::VersionChange, ids::DagId};
use stella_projections::DagVersionRow;
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{JsonBody, OptionalJson, PageSize, Params, Segment},
    openapi::{DagNotFound, DagNotRolledBack, DagVersionRefused, DagVersionUnchanged},
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{ChangedDag, DagVersionItem, Page, ReasonBody, RollBackBody},
};

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
        _ => Err(ApiError::no_route(path)),
    }
}

/// Find the handler of a version's verb.
pub(crate) async fn version_verb(
    State(app): State<AppState>,
    caller: Caller,
    Segment((dag_id, segment)): Segment<(DagId, String)>,
    request: Request,
) -> Result<Json<ChangedDag>, ApiError> {
    let path = request.uri().path().to_owned();
    let Some((version, verb)) = segment.rsplit_once(':') else {
        return Err(ApiError::method_not_allowed("POST", &path));
    };
    let version = version.parse().map_err(|e| ApiError::bad_request("INVALID_PATH", e))?;
    let body = OptionalJson::from_request(request, &app).await?;
    match verb {
        "activate" => activate_dag_version(app, caller, dag_id, version, body).await,
        "disable" => disable_dag_version(app, caller, dag_id, version, body).await,
        "enable" => enable_dag_version(app, caller, dag_id, version, body).await,
        _ => Err(ApiError::no_route(&path)),
    }
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
    let changed =
        commands.change_dag_version(&tenant, &actor, &dag_id, version, change, reason).await?;
    let (dag, receipt) = changed;
    Ok(Json(ChangedDag {
        active_version: dag.active,
        disabled_versions: dag.disabled().collect(),
        dag_id,
        seq: receipt.map(|receipt| receipt.last_seq),
    }))
}
