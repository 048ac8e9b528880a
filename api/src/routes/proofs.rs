//! Proofs from signed checkpoints.

use axum::{Json, extract::State};
use serde::Deserialize;
use stella_domain::ids::Tenant;
use stella_ledger::checkpoints::proofs::{Noted, Proofs};
use utoipa::IntoParams;

use crate::{
    app::Record,
    auth::Caller,
    extract::Params,
    openapi::CheckpointNotFound,
    problem::ApiError,
    state::AppState,
    types::{ConsistencyProof, InclusionProof},
};

/// Which event, in which tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InclusionParams {
    /// The event.
    seq: u64,
    /// The size of a checkpoint; the newest one otherwise.
    size: Option<u64>,
}

/// Prove that an event is in a signed tree.
#[utoipa::path(get, path = "/ledger/proofs/inclusion", tag = "ledger", params(InclusionParams),
    responses((status = 200, description = "The proof.", body = InclusionProof),
        CheckpointNotFound))]
pub(crate) async fn prove_inclusion(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<InclusionParams>,
) -> Result<Json<InclusionProof>, ApiError> {
    let Record { ledger, checkpoints, .. } = app.record()?;
    let proofs = &checkpoints.proofs;
    let Noted { checkpoint, note } = noted(proofs, &caller.tenant, params.size).await?;
    let seq = params.seq;
    if seq >= checkpoint.size {
        return Err(ApiError::outside_tree(seq, checkpoint.size));
    }
    let commits = ledger.read(&caller.tenant, seq, 1).await?;
    let event = commits
        .first()
        .and_then(|commit| commit.events.get(usize::try_from(seq.checked_sub(commit.seq)?).ok()?));
    // A tree that reaches so far, and no such event: what is missing was signed.
    let hash = event.ok_or_else(|| ApiError::not_as_signed(&checkpoint))?.hash;
    let proof = proofs.inclusion(&checkpoint, seq, &hash).await?;
    let tree_size = checkpoint.size;
    Ok(Json(InclusionProof { seq, hash, proof, tree_size, checkpoint: note }))
}

/// Which trees.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConsistencyParams {
    /// Size of the checkpoint that you hold.
    from: u64,
    /// Size of a later one; the newest otherwise.
    to: Option<u64>,
}

/// Prove that a signed tree extends a smaller one.
#[utoipa::path(get, path = "/ledger/proofs/consistency", tag = "ledger",
    params(ConsistencyParams),
    responses((status = 200, description = "The proof.", body = ConsistencyProof),
        CheckpointNotFound))]
pub(crate) async fn prove_consistency(
    State(app): State<AppState>,
    caller: Caller,
    Params(params): Params<ConsistencyParams>,
) -> Result<Json<ConsistencyProof>, ApiError> {
    let proofs = app.record()?.checkpoints.proofs;
    let Noted { checkpoint, note } = noted(&proofs, &caller.tenant, params.to).await?;
    let (from, to) = (params.from, checkpoint.size);
    if from > to {
        return Err(ApiError::outside_tree(from, to));
    }
    let (from_root, proof) = proofs.consistency(&checkpoint, from).await?;
    Ok(Json(ConsistencyProof { from, from_root, to, proof, checkpoint: note }))
}

async fn noted(proofs: &Proofs, tenant: &Tenant, size: Option<u64>) -> Result<Noted, ApiError> {
    let found = match size {
        Some(size) => proofs.of_size(tenant, size).await?,
        None => proofs.newest(tenant).await?,
    };
    found.ok_or_else(|| ApiError::checkpoint_not_found(size))
}
