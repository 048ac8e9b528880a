//! `GET /runs/{runId}/receipt`: what happened to a run, with proofs.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use stella_domain::ids::RunId;
use stella_ledger::checkpoints::receipt::{ReceiptError, receipt};
use utoipa::IntoParams;

use crate::{
    app::Record,
    auth::Caller,
    extract::{Params, Segment},
    openapi::NoReceipt,
    problem::ApiError,
    state::AppState,
    types::Receipt,
};

/// Which checkpoint the receipt builds on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReceiptParams {
    /// The oldest that at least so many of the server's witnesses have cosigned.
    #[serde(default)]
    #[param(default = 0)]
    witnesses_needed: usize,
}

/// The receipt of a run: its events so far, the proof that each is in a signed tree, and the
/// checkpoint. It verifies without this server (`docs/ledger-format.md`, section 11), and is the
/// same bytes each time once the run has ended, erasures aside.
#[utoipa::path(get, path = "/runs/{runId}/receipt", tag = "runs",
    params(("runId" = String, Path, description = "The run."), ReceiptParams),
    responses((status = 200, description = "The receipt.", body = Receipt), NoReceipt))]
pub(crate) async fn get_receipt(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
    Params(params): Params<ReceiptParams>,
) -> Result<Response, ApiError> {
    let Record { ledger, checkpoints, .. } = app.record()?;
    let (ledger, proofs) = (&*ledger, &checkpoints.proofs);
    let quorum = checkpoints.quorum(params.witnesses_needed)?;
    let attempt = async || receipt(ledger, proofs, &caller.tenant, &run_id, &quorum).await;
    let mut found = attempt().await;
    if matches!(found, Err(ReceiptError::NotSigned { .. } | ReceiptError::NotCosigned { .. }))
        && let Ok(signer) = checkpoints.signer()
    {
        signer.sign_new().await?;
        found = attempt().await;
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], found?).into_response())
}
