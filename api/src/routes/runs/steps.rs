//! `GET /runs/{runId}/steps`: a run's steps, with their outputs.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::RunId;
use stella_projections::{AttemptLog, StepRow, StepState};
use utoipa::IntoParams;

use crate::{
    auth::Caller,
    extract::{PageSize, Params, Segment},
    openapi::RunNotFound,
    page::{self, PageToken},
    problem::ApiError,
    state::AppState,
    types::{AttemptLogView, Page, StepPhaseView, StepView},
};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StepsParams {
    /// Answer from a state that has seen this seq, as a command's answer gave it.
    min_seq: Option<u64>,
    /// Steps on a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 50)]
    page_size: PageSize,
    /// What the page before gave as `nextPageToken`.
    #[param(value_type = Option<String>)]
    page_token: Option<PageToken>,
}

/// List the steps of a run that were ever queued, skipped, expanded or put to an operator, in the
/// order in which they first were.
///
/// A step of the DAG that is not listed waits for its needs or, once the run has ended, never
/// started.
#[utoipa::path(get, path = "/runs/{runId}/steps", tag = "runs",
    params(("runId" = String, Path, description = "The run."), StepsParams),
    responses((status = 200, description = "A page of steps.", body = Page<StepView>),
        RunNotFound))]
pub(crate) async fn list_steps(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<StepsParams>,
) -> Result<Json<Page<StepView>>, ApiError> {
    super::reach(&app, &caller.tenant, params.min_seq).await?;
    super::row(&app, &caller.tenant, &run_id).await?;
    let page = page::request(params.page_size, params.page_token);
    let steps = app.projections.steps(&caller.tenant, &run_id, page).await?;
    Ok(Json(Page::of(steps)))
}

impl From<AttemptLog> for AttemptLogView {
    fn from(AttemptLog { attempt, log }: AttemptLog) -> Self {
        Self { attempt, log: log.into() }
    }
}

impl From<StepRow> for StepView {
    fn from(row: StepRow) -> Self {
        Self {
            step_id: row.step_id,
            plugin: row.plugin,
            plugin_digest: row.plugin_digest,
            plugin_version: row.plugin_version,
            phase: row.phase.into(),
            attempt: row.attempt,
            retries: row.retries,
            lease_expiries: row.lease_expiries,
            queued_at: row.queued_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            not_before: row.not_before,
            worker_id: row.worker_id,
            error_code: row.error_code,
            logs: row.logs.into_iter().map(AttemptLogView::from).collect(),
            message: row.message,
            decided_by: row.decided_by,
            outputs: row.outputs,
            last_seq: row.last_seq,
        }
    }
}

impl From<StepState> for StepPhaseView {
    fn from(state: StepState) -> Self {
        match state {
            StepState::Queued => Self::Queued,
            StepState::Running => Self::Running,
            StepState::BackingOff => Self::BackingOff,
            StepState::Succeeded => Self::Succeeded,
            StepState::Failed => Self::Failed,
            StepState::Cancelled => Self::Cancelled,
            StepState::Dropped => Self::Dropped,
            StepState::Skipped => Self::Skipped,
            StepState::AwaitingApproval => Self::AwaitingApproval,
            StepState::Expanded => Self::Expanded,
        }
    }
}
