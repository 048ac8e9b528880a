//! `POST /workers:warm`: load plugin bundles again.

use std::sync::Arc;

use axum::{Json, extract::State};
use stella_domain::aggregate::ControlChange;
use stella_worker::Reloaded;

use crate::{
    auth::Caller,
    extract::OptionalJson,
    problem::ApiError,
    state::AppState,
    types::{ReasonBody, WarmView, WarmedBundle},
};

/// Load plugin bundles again.
///
/// Those of this server at once, from their directories, with signatures and digests checked anew;
/// one that cannot be used is kept as it was. Steps that run go on with what they began with.
/// Workers in processes of their own are told with the answer to what they ask next, and do the same
/// before they ask for more work: whoever waits for work is told at once. `workers` in the answer are
/// those that were heard of lately; `GET /workers` shows which versions they have then. There are no
/// secrets yet that could be read again.
#[utoipa::path(post, path = "/workers:warm", tag = "workers",
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "What came of it.", body = WarmView)))]
pub(crate) async fn warm_workers(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(ReasonBody { reason }): OptionalJson<ReasonBody>,
) -> Result<Json<WarmView>, ApiError> {
    let commands = app.record()?.commands;
    let Caller { tenant, actor } = &caller;
    // First, so that nothing is carried out by what nobody is on record for.
    commands.change_control(tenant, actor, ControlChange::WarmWorkers, reason).await?;
    let shelf = Arc::clone(app.catalog.shelf());
    let reloaded = tokio::task::spawn_blocking(move || shelf.reload()).await;
    let reloaded = reloaded.map_err(|_| ApiError::panicked())?;
    // After the worker in this process has them, so that it asks with what is new.
    let warm = app.warmth.ask(app.clock.now());
    let workers = commands.workers(tenant).into_iter();
    Ok(Json(WarmView {
        warm,
        bundles: reloaded.into_iter().map(WarmedBundle::from).collect(),
        workers: workers.map(|worker| worker.worker_id).collect(),
    }))
}

impl From<Reloaded> for WarmedBundle {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded { name, before, after, dir: _ } = reloaded;
        let (now, kept_because) = match after {
            Ok(after) => (after, None),
            Err(error) => (before.clone(), Some(error.to_string())),
        };
        Self {
            plugin: name,
            version_before: before.version,
            digest_before: before.digest,
            version: now.version,
            digest: now.digest,
            kept_because,
        }
    }
}
