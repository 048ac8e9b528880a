//! Signed checkpoints, and the keys that sign them.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::Record,
    auth::Caller,
    extract::{JsonBody, Params},
    node::checkpoints::Checkpoints,
    openapi::{CheckpointNotFound, KeyNotRotated, NotSigning},
    problem::ApiError,
    state::AppState,
    types::{RotateKeyBody, SigningKeys},
};

/// Which checkpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CheckpointParams {
    /// The one of exactly so many events; the newest otherwise.
    size: Option<u64>,
}

/// A checkpoint: a signed note (C2SP `tlog-checkpoint`) that commits to the ledger's first events.
#[utoipa::path(get, path = "/ledger/checkpoint", tag = "ledger", params(CheckpointParams),
    responses((status = 200, description = "The note.", body = String, content_type = "text/plain"),
        CheckpointNotFound))]
pub(crate) async fn get_checkpoint(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<CheckpointParams>,
) -> Result<Response, ApiError> {
    let proofs = app.record()?.checkpoints.proofs;
    let found = match params.size {
        Some(size) => proofs.of_size(&caller.tenant, size).await?,
        None => proofs.newest(&caller.tenant).await?,
    };
    let found = found.ok_or_else(|| ApiError::checkpoint_not_found(params.size))?;
    Ok(note(found.note))
}

/// Sign what was recorded since the newest checkpoint now, without waiting for the next time.
#[utoipa::path(post, path = "/ledger:sign", tag = "ledger",
    responses((status = 200, description = "The newest checkpoint, a signed note.", body = String,
        content_type = "text/plain"), NotSigning))]
pub(crate) async fn sign_checkpoint(
    State(app): State<AppState>,
    _: Caller,
) -> Result<Response, ApiError> {
    let checkpoints = app.record()?.checkpoints;
    let signer = checkpoints.signer().map_err(ApiError::signed_elsewhere)?;
    let signed = signer.sign_new().await?.ok_or_else(ApiError::ledger_not_opened)?;
    Ok(note(signed.note))
}

/// The keys that sign, as auditors pin them. Whoever asks a server for the keys to verify it with
/// has to trust it once: compare them with what the operator gave you by another way.
#[utoipa::path(get, path = "/ledger/keys", tag = "ledger",
    responses((status = 200, description = "The keys.", body = SigningKeys), NotSigning))]
pub(crate) async fn get_keys(
    State(app): State<AppState>,
    _: Caller,
) -> Result<Json<SigningKeys>, ApiError> {
    keys(&app.record()?.checkpoints).await
}

/// Let another key sign from here on: the one in the server's file for the next key, which has to
/// be the one named. Recorded as `SigningKeyRotated`, signed by both. Safe to repeat.
#[utoipa::path(post, path = "/ledger:rotateKey", tag = "ledger", request_body = RotateKeyBody,
    responses((status = 200, description = "The keys, with the sizes that each signs.",
        body = SigningKeys), KeyNotRotated))]
pub(crate) async fn rotate_key(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<RotateKeyBody>,
) -> Result<Json<SigningKeys>, ApiError> {
    let Caller { tenant, actor } = caller;
    let Record { commands, checkpoints, .. } = app.record()?;
    let signer = checkpoints.signer().map_err(ApiError::signed_elsewhere)?;
    // What others recorded is known first, and the old key signs up to here.
    signer.sign_new().await?;
    let in_use = signer.pinned().await.0.pop();
    if in_use.is_none_or(|pinned| pinned.key != body.new_key) {
        let rotation = signer.rotation_to(&body.new_key).await?;
        commands.rotate_key(&tenant, &actor, rotation).await?;
        signer.sign_new().await?;
    }
    keys(&checkpoints).await
}

async fn keys(checkpoints: &Checkpoints) -> Result<Json<SigningKeys>, ApiError> {
    let signer = checkpoints.signer().map_err(ApiError::signed_elsewhere)?;
    let pins = signer.pinned().await.0.iter().map(ToString::to_string).collect();
    Ok(Json(SigningKeys { pins }))
}

fn note(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
