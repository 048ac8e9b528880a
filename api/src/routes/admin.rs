//! Health, and the care of projections.

use axum::{Json, extract::State};
use stella_projections::{Divergence, ModelReport, PROJECTION_VERSION, Report};

use crate::{
    auth::Caller,
    extract::NoBody,
    health,
    problem::ApiError,
    state::AppState,
    types::{
        CheckReport, DivergenceView, Health, ModelCheck, ProjectionStatus, RebuildReport,
        RowDifferenceView,
    },
};

/// How well the node is, part by part.
#[utoipa::path(get, path = "/admin/health", tag = "admin",
    responses((status = 200, description = "The health, whatever it is.", body = Health)))]
pub(crate) async fn get_health(State(app): State<AppState>, caller: Caller) -> Json<Health> {
    Json(health::of(&app, &caller.tenant).await)
}

/// How far the projections are.
#[utoipa::path(get, path = "/admin/projections", tag = "admin",
    responses((status = 200, description = "The position.", body = ProjectionStatus)))]
pub(crate) async fn get_projections(
    State(app): State<AppState>,
    caller: Caller,
) -> Result<Json<ProjectionStatus>, ApiError> {
    let position = app.projections.position(&caller.tenant).await?;
    Ok(Json(ProjectionStatus {
        version: PROJECTION_VERSION,
        position: position.applied.next_seq,
        hash: position.applied.hash.to_string(),
        lag: position.lag(),
    }))
}

/// Fold the whole ledger afresh and put the outcome in the place of what is in use. Reads go on
/// meanwhile; the answer comes when it is done.
#[utoipa::path(post, path = "/admin/projections:rebuild", tag = "admin",
    request_body(content = Option<Object>, description = "Nothing, or an empty object."),
    responses((status = 200, description = "Rebuilt.", body = RebuildReport)))]
pub(crate) async fn rebuild_projections(
    State(app): State<AppState>,
    caller: Caller,
    _: NoBody,
) -> Result<Json<RebuildReport>, ApiError> {
    // Not from a ledger that has not been looked at.
    app.record()?;
    let rebuilt = app.projections.rebuild(&caller.tenant, &|_| {}).await?;
    let diverged = rebuilt.diverged.into_iter().map(DivergenceView::from).collect();
    Ok(Json(RebuildReport { position: rebuilt.next_seq, diverged }))
}

/// Compare the projections in use with a fresh fold of the same events; the answer comes when it
/// is done.
#[utoipa::path(post, path = "/admin/projections:check", tag = "admin",
    request_body(content = Option<Object>, description = "Nothing, or an empty object."),
    responses((status = 200, description = "What was found, identical or not.",
        body = CheckReport)))]
pub(crate) async fn check_projections(
    State(app): State<AppState>,
    caller: Caller,
    _: NoBody,
) -> Result<Json<CheckReport>, ApiError> {
    app.record()?;
    let report = app.projections.check(&caller.tenant, &|_| {}).await?;
    Ok(Json(report.into()))
}

impl From<Report> for CheckReport {
    fn from(report: Report) -> Self {
        Self {
            identical: report.is_identical(),
            position: report.next_seq,
            strays: report.strays,
            models: report.models.into_iter().map(ModelCheck::from).collect(),
        }
    }
}

impl From<ModelReport> for ModelCheck {
    fn from(report: ModelReport) -> Self {
        let identical = report.is_identical();
        let differences = report.differences.into_iter().map(|row| RowDifferenceView {
            key: row.key,
            live: row.live,
            rebuilt: row.rebuilt,
        });
        Self {
            model: report.model.to_string(),
            identical,
            rows: report.rows,
            live: report.live.to_string(),
            kept: report.kept.to_string(),
            rebuilt: report.rebuilt.to_string(),
            diverged: report.diverged.map(DivergenceView::from),
            differences: differences.collect(),
        }
    }
}

impl From<Divergence> for DivergenceView {
    fn from(Divergence { model, equal_at, differs_at }: Divergence) -> Self {
        Self { model: model.to_string(), equal_at, differs_at }
    }
}
