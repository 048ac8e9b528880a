//! `GET /runs/{runId}/receipt`: what happened to a run, with proofs.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use stella_domain::ids::RunId;
use stella_ledger::checkpoints::receipt::{ReceiptError, receipt};

use crate::{
    app::Record, auth::Caller, extract::Segment, openapi::NoReceipt, problem::ApiError,
    state::AppState, types::Receipt,
};

/// The receipt of a run: its events so far, the proof that each is in a signed tree, and the
/// checkpoint. It verifies without this server (`docs/ledger-format.md`, section 11), and is the
/// same bytes each time once the run has ended, erasures aside.
#[utoipa::path(get, path = "/runs/{runId}/receipt", tag = "runs",
    params(("runId" = String, Path, description = "The run.")),
    responses((status = 200, description = "The receipt.", body = Receipt), NoReceipt))]
pub(crate) async fn get_receipt(
    State(app): State<AppState>,
    caller: Caller,
    Segment(run_id): Segment<RunId>,
) -> Result<Response, ApiError> {
    let Record { ledger, checkpoints, .. } = app.record()?;
    let (ledger, proofs) = (&*ledger, &checkpoints.proofs);
    let mut found = receipt(ledger, proofs, &caller.tenant, &run_id).await;
    if matches!(found, Err(ReceiptError::NotSigned { .. }))
        && let Ok(signer) = checkpoints.signer()
    {
        signer.sign_new().await?;
        found = receipt(ledger, proofs, &caller.tenant, &run_id).await;
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], found?).into_response())
}
