//! What waits for an operator, over all runs.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::DagId;
use stella_projections::StepRow;
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{PageSize, Params},
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{ApprovalView, Page},
};

/// Which approvals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApprovalParams {
    /// Of this DAG.
    #[param(value_type = Option<String>)]
    dag_id: Option<DagId>,
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Approvals on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// List the approvals that no operator has decided about, over all runs; those that were asked for
/// first come first.
#[utoipa::path(get, path = "/approvals", tag = "runs", params(ApprovalParams),
    responses((status = 200, description = "A page of approvals.", body = Page<ApprovalView>)))]
pub(crate) async fn list_approvals(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<ApprovalParams>,
) -> Result<Json<Page<ApprovalView>>, ApiError> {
    super::runs::reach(&app, &caller.tenant, params.min_seq).await?;
    let page = page::request(params.page_size, params.page_token);
    let dag_id = params.dag_id.as_ref();
    let found = app.projections.pending_approvals(&caller.tenant, dag_id, page).await?;
    let items = found.items.into_iter().map(ApprovalView::from).collect();
    Ok(Json(Page::with_next(items, found.next)))
}

impl From<StepRow> for ApprovalView {
    fn from(row: StepRow) -> Self {
        Self {
            run_id: row.run_id,
            dag_id: row.dag_id,
            step_id: row.step_id,
            message: row.message,
            asked_at: row.queued_at,
            deadline: row.deadline,
        }
    }
}
