//! DAGs: register, validate, look at.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stella_domain::{dag::DagSpec, ids::DagId};
use stella_projections::{DagRow, DagVersionRow};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    catalog::WithWorkers,
    extract::{PageSize, Params, Segment, media_type, read_body, utf8},
    openapi::{DagNotFound, DagVersionNotFound, PREFIX, SpecRefused},
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{BrakeView, DagVersionView, DagView, Page, RegisteredDag, StartCauseView, ValidDag},
};

const SPEC_TYPES: [&str; 5] =
    ["application/yaml", "application/json", "application/x-yaml", "text/yaml", "text/x-yaml"];

/// From which state to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DagParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
}

/// Why a version is registered.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RegisterParams {
    /// Why runs are to start with it, for those who read the ledger.
    #[serde(default, deserialize_with = "crate::types::reason")]
    #[param(value_type = Option<String>, max_length = 1024)]
    reason: String,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// DAGs on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken<DagId>>,
}

/// A DAG spec in the body, in YAML or JSON, checked as a whole.
pub(crate) struct SpecBody(Arc<DagSpec>);

impl FromRequest<AppState> for SpecBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        if !SPEC_TYPES.contains(&media_type(request.headers()).as_str()) {
            return Err(ApiError::media_type("application/yaml or application/json"));
        }
        let bytes = read_body(request.into_body()).await?;
        // Without a way to the ledger no worker has been heard of.
        let workers = app.record().map(|record| record.commands.workers(&app.tenant));
        let workers = workers.unwrap_or_default();
        let catalog = WithWorkers { catalog: &app.catalog, workers: &workers };
        let spec = DagSpec::parse(utf8(&bytes)?, &catalog)?;
        Ok(Self(Arc::new(spec)))
    }
}

/// Register a version of a DAG.
///
/// The version becomes the active one. A spec whose digest is known changes nothing.
#[utoipa::path(post, path = "/dags", tag = "dags", params(RegisterParams),
    request_body(description = "The spec.", content((Object = "application/yaml"),
        (Object = "application/json"))),
    responses(
        (status = 201, description = "A new version.", body = RegisteredDag,
            headers(("Location" = String, description = "Path of the version."))),
        (status = 200, description = "A version of this digest was there already.",
            body = RegisteredDag,
            headers(("Location" = String, description = "Path of the version."))),
        SpecRefused))]
pub(crate) async fn register_dag(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<RegisterParams>,
    SpecBody(spec): SpecBody,
) -> Result<Response, ApiError> {
    let Caller { tenant, actor } = caller;
    let commands = app.record()?.commands;
    let registered = commands.register_dag(&tenant, &actor, Arc::clone(&spec), params.reason);
    let (version, receipt) = registered.await?;
    let status = if receipt.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("{PREFIX}/dags/{}/versions/{version}", spec.id()));
    let body = RegisteredDag {
        dag_id: spec.id().clone(),
        version,
        digest: spec.digest().to_owned(),
        created: receipt.is_some(),
        seq: receipt.map(|receipt| receipt.last_seq),
    };
    let mut response = (status, Json(body)).into_response();
    // A DAG id is visible ASCII, so this is always a header value.
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Check a DAG spec without registering it.
#[utoipa::path(post, path = "/dags:validate", tag = "dags",
    request_body(description = "The spec.", content((Object = "application/yaml"),
        (Object = "application/json"))),
    responses((status = 200, description = "The spec holds.", body = ValidDag), SpecRefused))]
pub(crate) async fn validate_dag(_caller: Caller, SpecBody(spec): SpecBody) -> Json<ValidDag> {
    let (dag_id, digest) = (spec.id().clone(), spec.digest().to_owned());
    Json(ValidDag { dag_id, digest, steps: spec.steps().len() })
}

/// List DAGs, by id.
#[utoipa::path(get, path = "/dags", tag = "dags", params(ListParams),
    responses((status = 200, description = "A page of DAGs.", body = Page<DagView>)))]
pub(crate) async fn list_dags(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<DagView>>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let page = page::request(params.page_size, params.page_token);
    let dags = app.projections.dags(&caller.tenant, page).await?;
    Ok(Json(Page::of(dags)))
}

/// Get a DAG.
#[utoipa::path(get, path = "/dags/{dagId}", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."), DagParams),
    responses((status = 200, description = "The DAG.", body = DagView), DagNotFound))]
pub(crate) async fn get_dag(
    State(app): State<AppState>,
    caller: Caller,
    Segment(dag_id): Segment<DagId>,
    Params(params): Params<DagParams>,
) -> Result<Json<DagView>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    dag(&app, &caller, &dag_id).await.map(|row| Json(row.into()))
}

/// Get a version of a DAG, with its spec.
#[utoipa::path(get, path = "/dags/{dagId}/versions/{version}", tag = "dags",
    params(("dagId" = String, Path, description = "The DAG."),
        ("version" = u32, Path, description = "The version's number.", minimum = 1), DagParams),
    responses((status = 200, description = "The version.", body = DagVersionView),
        DagVersionNotFound))]
pub(crate) async fn get_dag_version(
    State(app): State<AppState>,
    caller: Caller,
    Segment((dag_id, number)): Segment<(DagId, u32)>,
    Params(params): Params<DagParams>,
) -> Result<Json<DagVersionView>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    if let Some(row) = app.projections.dag_version(&caller.tenant, &dag_id, number).await? {
        return Ok(Json(row.into()));
    }
    let newest = dag(&app, &caller, &dag_id).await?.latest_version;
    Err(ApiError::dag_version_not_found(&dag_id, number, newest))
}

/// The DAG as the projections have it.
pub(super) async fn dag(
    app: &AppState,
    caller: &Caller,
    dag_id: &DagId,
) -> Result<DagRow, ApiError> {
    if let Some(row) = app.projections.dag(&caller.tenant, dag_id).await? {
        return Ok(row);
    }
    super::runs::catch_up(app, &caller.tenant).await?;
    let row = app.projections.dag(&caller.tenant, dag_id).await?;
    row.ok_or_else(|| ApiError::dag_not_found(dag_id))
}

impl From<DagRow> for DagView {
    fn from(row: DagRow) -> Self {
        Self {
            dag_id: row.dag_id,
            active_version: row.active_version,
            disabled_versions: row.disabled_versions.into_iter().collect(),
            latest_version: row.latest_version,
            paused: row.paused.map(Into::into),
            brake: row.brake.map(|brake| BrakeView {
                starts: brake.starts,
                window_ms: brake.window_ms,
                causes: brake
                    .causes
                    .into_iter()
                    .map(|cause| StartCauseView {
                        actor: cause.actor,
                        schedule_id: cause.schedule_id,
                        starts: cause.starts,
                    })
                    .collect(),
            }),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl From<DagVersionRow> for DagVersionView {
    fn from(row: DagVersionRow) -> Self {
        Self {
            dag_id: row.dag_id,
            version: row.version,
            digest: row.digest,
            spec: row.spec,
            registered_at: row.registered_at,
            seq: row.seq,
        }
    }
}
