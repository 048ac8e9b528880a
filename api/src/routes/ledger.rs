//! The ledger as a whole: where it ends, sealing, clock faults, erasures.

use axum::{Json, extract::State};
use stella_commands::CommandError;
use stella_ledger::writer::Receipt;

use crate::{
    app::Record,
    auth::Caller,
    extract::{JsonBody, OptionalJson},
    openapi::NotErased,
    problem::ApiError,
    state::AppState,
    types::{EraseBody, ErasedRunView, LedgerHead, ReasonBody, ReceiptView},
};

/// Where the ledger ends.
#[utoipa::path(get, path = "/ledger/head", tag = "ledger",
    responses((status = 200, description = "The head.", body = LedgerHead)))]
pub(crate) async fn ledger_head(
    State(app): State<AppState>,
    caller: Caller,
) -> Result<Json<LedgerHead>, ApiError> {
    let ledger = app.record()?.ledger;
    let head = ledger.head(&caller.tenant).await?;
    let last = head.next_seq.saturating_sub(1);
    // The ledger's name stands in its commits.
    let commits = ledger.read(&caller.tenant, last, 1).await?;
    let commit = commits.first().ok_or_else(ApiError::ledger_not_opened)?;
    Ok(Json(LedgerHead {
        ledger: commit.ledger.to_string(),
        size: head.next_seq,
        hash: head.hash.to_string(),
        recorded_at: head.recorded_at,
    }))
}

/// Record `LedgerSealed`, which closes every window that ends before it.
#[utoipa::path(post, path = "/ledger:seal", tag = "ledger",
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "Sealed.", body = ReceiptView)))]
pub(crate) async fn seal_ledger(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ReceiptView>, ApiError> {
    let Caller { tenant, actor } = caller;
    answer(app.record()?.commands.seal_ledger(&tenant, &actor, body.reason).await)
}

/// Record that a wrong clock is known: `recordedAt` stands still until the clocks catch up.
#[utoipa::path(post, path = "/ledger:accept-clock-fault", tag = "ledger",
    request_body(content = Option<ReasonBody>),
    responses((status = 200, description = "Recorded.", body = ReceiptView)))]
pub(crate) async fn accept_clock_fault(
    State(app): State<AppState>,
    caller: Caller,
    OptionalJson(body): OptionalJson<ReasonBody>,
) -> Result<Json<ReceiptView>, ApiError> {
    let Caller { tenant, actor } = caller;
    answer(app.record()?.commands.accept_clock_fault(&tenant, &actor, body.reason).await)
}

/// Erase the payloads of a run that has ended: inputs, outputs, labels, run token, messages.
///
/// Records `DataErased`, which stays for ever with its reason, then blanks payloads and salts in
/// the ledger. Chain, proofs, receipts and state stay valid; what is data stays: ids, times, phases,
/// error codes, and `inputsHash`, by which inputs that can be guessed can be recognised. Idempotent.
#[utoipa::path(post, path = "/ledger:erase", tag = "ledger",
    request_body(content = EraseBody),
    responses((status = 200, description = "Erased.", body = ErasedRunView), NotErased))]
pub(crate) async fn erase_run(
    State(app): State<AppState>,
    caller: Caller,
    JsonBody(body): JsonBody<EraseBody>,
) -> Result<Json<ErasedRunView>, ApiError> {
    let (Caller { tenant, actor }, EraseBody { run_id, reason }) = (caller, body);
    let reason = reason.parse().map_err(ApiError::erasure_reason)?;
    let Record { commands, erasures, .. } = app.record()?;
    let unfinished_from = erasures.possible().await?;
    let erased = commands.erase_run(&tenant, &actor, &run_id, reason, unfinished_from).await?;
    erasures.carried_out(erased.seq).await?;
    Ok(Json(ErasedRunView {
        run_id,
        payloads: erased.payloads,
        seq: erased.seq,
        recorded_at: erased.recorded_at,
        replayed: erased.replayed,
    }))
}

/// Both commands always record an event, so that there is always a receipt.
fn answer(recorded: Result<Option<Receipt>, CommandError>) -> Result<Json<ReceiptView>, ApiError> {
    let receipt = recorded?.ok_or_else(ApiError::ledger_not_opened)?;
    Ok(Json(ReceiptView {
        seq: receipt.last_seq,
        hash: receipt.hash.to_string(),
        recorded_at: receipt.recorded_at,
    }))
}
