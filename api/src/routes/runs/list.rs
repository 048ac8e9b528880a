//! `GET /runs`: runs, newest first.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::{aggregate::RunStatus, ids::DagId};
use stella_projections::RunFilter;
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{Label, PageSize, Params, When},
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{Page, RunStatusName, RunView},
};

/// Which runs; everything given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Where they stand.
    #[param(value_type = Option<RunStatusName>)]
    status: Option<RunStatus>,
    /// Of this DAG.
    #[param(value_type = Option<String>)]
    dag_id: Option<DagId>,
    /// Created at or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<When>,
    /// Created before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<When>,
    /// With this label: `name=value`.
    #[param(value_type = Option<String>, example = "team=search")]
    label: Option<Label>,
    /// Failing or failed with this code.
    error_code: Option<String>,
    /// With these inputs: `b3:` and 64 hex digits.
    inputs_hash: Option<String>,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Runs on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

impl ListParams {
    fn filter(self) -> Result<RunFilter, ApiError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from.0 > to.0
        {
            let detail = format!("from={} lies after to={}: swap them", from.0, to.0);
            return Err(ApiError::bad_request("WINDOW_INVALID", detail));
        }
        Ok(RunFilter {
            status: self.status,
            dag_id: self.dag_id,
            from: self.from.map(|from| from.0),
            to: self.to.map(|to| to.0),
            labels: self.label.map(|label| (label.name, label.value)).into_iter().collect(),
            error_code: self.error_code,
            inputs_hash: self.inputs_hash,
        })
    }
}

/// List runs, newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", params(ListParams),
    responses((status = 200, description = "A page of runs.", body = Page<RunView>)))]
pub(crate) async fn list_runs(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<RunView>>, ApiError> {
    super::reach(&app, &caller.tenant, params.min_seq).await?;
    let page = page::request(params.page_size, params.page_token);
    let filter = params.filter()?;
    let runs = app.projections.runs(&caller.tenant, &filter, page).await?;
    Ok(Json(Page::of(runs)))
}
