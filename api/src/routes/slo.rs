//! `GET /admin/slo`: how the objectives for runs stand.

use axum::{Json, extract::State};
use stella_domain::time::Timestamp;

use crate::{auth::Caller, problem::ApiError, state::AppState, types::SloReport};

const HOUR_MICROS: u64 = 3_600_000_000;

/// How the objectives for runs stand: error budgets, and how fast they are spent.
///
/// Counted from what the ledger has of runs that were created in each window and have ended; of
/// more than a million in a window, the newest. The targets are the server's own.
#[utoipa::path(get, path = "/admin/slo", tag = "admin",
    responses((status = 200, description = "The objectives, met or not.", body = SloReport)))]
pub(crate) async fn get_slo(
    State(app): State<AppState>,
    caller: Caller,
) -> Result<Json<SloReport>, ApiError> {
    let (now, slo) = (app.clock.now(), app.slo);
    let mut counted = vec![];
    for hours in slo.windows_h() {
        let back = i64::try_from(hours.saturating_mul(HOUR_MICROS)).unwrap_or(i64::MAX);
        let since = Timestamp::from_micros(now.as_micros().saturating_sub(back).max(0));
        let outcomes = app.projections.outcomes(&caller.tenant, since, slo.duration_ms).await?;
        counted.push((hours, outcomes));
    }
    Ok(Json(slo.report(&counted)))
}
