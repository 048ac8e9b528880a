//! `GET /ledger/proofs/window`: what makes a bundle of an exported window.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::time::Timestamp;
use stella_replay::{
    bundle::{ProveError, prove},
    export::Window,
};
use tokio::time::Instant;
use utoipa::IntoParams;

use crate::{
    app::Record,
    auth::Caller,
    extract::{Params, When},
    openapi::NoWindowProof,
    problem::ApiError,
    state::AppState,
    types::WindowProof,
};

/// How long another node has for signing what was just sealed.
const SIGNED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at what it signed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Which window, and what it has to extend.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WindowParams {
    /// Events recorded at or after this time (RFC 3339); from the first on otherwise.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<When>,
    /// Events recorded before this time (RFC 3339).
    #[param(value_type = String, format = DateTime)]
    to: When,
    /// Size of an older checkpoint that you hold: prove that the window's one extends it, too.
    since: Option<u64>,
    /// Build on the oldest checkpoint that at least so many of the server's witnesses have cosigned.
    #[serde(default)]
    #[param(default = 0)]
    witnesses_needed: usize,
}

/// Prove a closed window: with its events from `/ledger/export`, whoever holds a pinned key can tell
/// offline that it is complete and unchanged. The same each time, erasures aside.
///
/// If payloads of the window are erased, ask for the proof after the events: what was erased by then
/// is explained in it.
#[utoipa::path(get, path = "/ledger/proofs/window", tag = "ledger", params(WindowParams),
    responses((status = 200, description = "The proof.", body = WindowProof), NoWindowProof))]
pub(crate) async fn prove_window(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<WindowParams>,
) -> Result<Json<WindowProof>, ApiError> {
    let Record { ledger, checkpoints, .. } = app.record()?;
    let (ledger, proofs, tenant) = (&*ledger, &checkpoints.proofs, &caller.tenant);
    let from = params.from.map_or(Timestamp::ZERO, |from| from.0);
    let window = Window::resolve(ledger, tenant, from, params.to.0).await?;
    let quorum = checkpoints.quorum(params.witnesses_needed)?;
    let attempt = async || prove(ledger, proofs, tenant, window, params.since, &quorum).await;
    let mut found = attempt().await;
    let give_up = Instant::now() + SIGNED_WITHIN;
    loop {
        let may_wait = match &found {
            Err(ProveError::NotSigned { .. }) => Instant::now() < give_up,
            // Looking for one takes long, and one that another node signs is in nobody's hands.
            Err(ProveError::NotCosigned { .. }) => checkpoints.signer().is_ok(),
            Ok(_) | Err(_) => false,
        };
        if !may_wait {
            break;
        }
        match checkpoints.signer() {
            Ok(signer) => {
                signer.sign_new().await?;
                found = attempt().await;
                break;
            }
            // Another node signs, every few seconds.
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
        found = attempt().await;
    }
    Ok(Json(found?.into()))
}
