//! What went wrong, as an answer. The only place that names status codes of errors; what is this
//! node's fault is logged here, once.

mod artifact;
mod refusal;
mod window;

use std::fmt;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use stella_commands::{CommandError, Refusal};
use stella_domain::{
    aggregate::{ErasureReasonError, LedgerRefusal},
    checkpoint::Checkpoint,
    dag::{InputViolation, SpecError, SpecErrors},
};
use stella_ledger::{
    checkpoints::{ProofError, SignerError, receipt::ReceiptError},
    port::LedgerError,
    recorded::UndecodableEvent,
    writer::WriteError,
};
use stella_projections::ProjectionError;

use crate::{
    node::{checkpoints::TooFewWitnesses, erasures::ErasureError},
    types::{PROBLEM_JSON, Problem, SpecErrorView},
};

/// Seconds after which a client may try again what failed for want of the ledger.
const RETRY_AFTER_S: u16 = 1;

/// An answer that says what went wrong.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<SpecErrorView>,
    header: Option<Header>,
}

/// A header that an answer carries besides.
#[derive(Debug, Clone, Copy)]
enum Header {
    RetryAfter,
    Challenge,
    Upgrade,
}

impl From<Header> for (HeaderName, HeaderValue) {
    fn from(header: Header) -> Self {
        match header {
            Header::RetryAfter => (header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S)),
            Header::Challenge => {
                (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"stella\""))
            }
            Header::Upgrade => (header::UPGRADE, HeaderValue::from_static("websocket")),
        }
    }
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        if status.is_server_error() {
            tracing::warn!(code, detail, "a request failed");
        }
        Self { status, code, detail, errors: vec![], header: None }
    }

    fn unavailable(code: &'static str, detail: impl fmt::Display) -> Self {
        let header = Some(Header::RetryAfter);
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// The request itself is wrong.
    pub(crate) fn bad_request(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn unauthorized(detail: &'static str) -> Self {
        let header = Some(Header::Challenge);
        Self { header, ..Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", detail) }
    }

    pub(crate) fn origin_refused() -> Self {
        let detail = "requests from web pages are refused: they carry an Origin header";
        Self::new(StatusCode::FORBIDDEN, "ORIGIN_REFUSED", detail)
    }

    pub(crate) fn unknown_host(host: &str) -> Self {
        let detail = format!(
            "this server is not {host:?}: it answers to localhost, 127.0.0.1 and [::1] only"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "UNKNOWN_HOST", detail)
    }

    pub(crate) fn no_route(path: &str) -> Self {
        let detail = format!("there is nothing at {path:?}: see /openapi.json");
        Self::new(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", detail)
    }

    pub(crate) fn method_not_allowed(method: &str, path: &str) -> Self {
        let detail = format!("{path:?} does not take {method}: see /openapi.json");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
    }

    pub(crate) fn body_too_large(limit: u64) -> Self {
        let detail = format!("the body is larger than {limit} bytes: pass large data by reference");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail)
    }

    pub(crate) fn body_too_slow() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", detail)
    }

    pub(crate) fn media_type(expected: &str) -> Self {
        let detail = format!("the body's Content-Type has to be {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail)
    }

    pub(crate) fn upgrade_required(detail: &str) -> Self {
        let header = Some(Header::Upgrade);
        let detail = format!(
            "this is a stream, over a WebSocket or as Server-Sent Events (with `Accept: \
             text/event-stream`): {detail}"
        );
        Self { header, ..Self::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", detail) }
    }

    pub(crate) fn ledger_not_opened() -> Self {
        Refusal::Ledger(LedgerRefusal::NotOpened).into()
    }

    pub(crate) fn erasure_reason(error: ErasureReasonError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "REASON_REFUSED", error)
    }

    pub(crate) fn checkpoint_not_found(size: Option<u64>) -> Self {
        let detail = match size {
            Some(size) => format!("no checkpoint of exactly {size} events was signed"),
            None => "no checkpoint was signed yet".to_owned(),
        };
        Self::new(StatusCode::NOT_FOUND, "CHECKPOINT_NOT_FOUND", detail)
    }

    pub(crate) fn signed_elsewhere(why: &str) -> Self {
        let detail = format!("this node does not sign: {why}");
        Self::new(StatusCode::CONFLICT, "SIGNED_ELSEWHERE", detail)
    }

    /// Something lies beyond the end of a signed tree.
    pub(crate) fn outside_tree(asked: u64, size: u64) -> Self {
        let detail = format!("the checkpoint's tree has {size} events: {asked} lies outside it");
        Self::bad_request("OUTSIDE_TREE", detail)
    }

    pub(crate) fn not_as_signed(of: &Checkpoint) -> Self {
        ProofError::Contradiction { ledger: of.ledger.clone(), size: of.size }.into()
    }

    pub(crate) fn not_ready(parts: &str) -> Self {
        let detail = format!("not well: {parts}; /api/v1/orchestrator/admin/health says more");
        Self::unavailable("NOT_READY", detail)
    }

    /// The answer took too long; a command may have been recorded.
    pub(crate) fn timed_out() -> Self {
        let detail = "the request took too long and was given up; if it was a command, it may \
                      have been recorded: send it again, with the same runToken";
        Self::unavailable("OUTCOME_UNKNOWN", detail)
    }

    pub(crate) fn panicked() -> Self {
        let detail = "this is a fault of the server; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", detail)
    }

    /// A message that a client reads on a WebSocket that is being closed.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    fn with_errors(mut self, errors: impl IntoIterator<Item = SpecErrorView>) -> Self {
        self.errors.extend(errors);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            errors: self.errors,
        };
        // A struct of strings and integers: serialising it cannot fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let media_type = HeaderValue::from_static(PROBLEM_JSON);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, media_type)], body).into_response();
        if let Some((name, value)) = self.header.map(Into::into) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Write(error) => error.into(),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match &error {
            WriteError::Unavailable(_) => Self::unavailable("LEDGER_UNAVAILABLE", error),
            WriteError::OutcomeUnknown(_) => Self::unavailable("OUTCOME_UNKNOWN", error),
            WriteError::ClockFault(_) => Self::unavailable("CLOCK_FAULT", error),
            WriteError::ShuttingDown => Self::unavailable("SHUTTING_DOWN", error),
            WriteError::Unreadable(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_UNREADABLE", error)
            }
        }
    }
}

impl From<ErasureError> for ApiError {
    fn from(error: ErasureError) -> Self {
        match &error {
            ErasureError::NotConfigured => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "ERASURE_NOT_CONFIGURED", error)
            }
            ErasureError::Refused(_) => Self::unavailable("ERASURE_REFUSED", error),
            ErasureError::Pending { .. } => Self::unavailable("ERASURE_PENDING", error),
        }
    }
}

impl From<SpecErrors> for ApiError {
    fn from(errors: SpecErrors) -> Self {
        let count = errors.errors().len() + errors.unlisted();
        let detail = format!("the DAG spec does not hold: {count} error(s)");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "SPEC_INVALID", detail)
            .with_errors(errors.errors().iter().cloned().map(SpecErrorView::from))
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::Unavailable(_) => Self::unavailable("LEDGER_UNAVAILABLE", error),
            LedgerError::Damaged { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_DAMAGED", error)
            }
            LedgerError::Malformed { .. }
            | LedgerError::OtherName { .. }
            | LedgerError::Undecodable(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_UNREADABLE", error)
            }
        }
    }
}

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Ledger(error) => error.into(),
            ProofError::Contradiction { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_NOT_AS_SIGNED", error)
            }
            // What callers ask for is checked before.
            ProofError::Merkle(_) | ProofError::Note { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "CHECKPOINT_FAULT", error)
            }
        }
    }
}

impl From<SignerError> for ApiError {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Ledger(error) => error.into(),
            SignerError::Proof(error) => error.into(),
            SignerError::Shorter { .. }
            | SignerError::Forked { .. }
            | SignerError::Rotation { .. }
            | SignerError::OtherLedger { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_NOT_AS_SIGNED", error)
            }
            SignerError::Foreign { .. } => {
                Self::new(StatusCode::CONFLICT, "SIGNED_ELSEWHERE", error)
            }
            SignerError::KeyMissing { .. } => {
                Self::new(StatusCode::CONFLICT, "SIGNING_KEY_MISSING", error)
            }
            SignerError::Key(_) => Self::new(StatusCode::CONFLICT, "SIGNING_KEY_UNUSABLE", error),
            SignerError::Kept { .. } => Self::unavailable("CHECKPOINT_NOT_KEPT", error),
        }
    }
}

impl From<TooFewWitnesses> for ApiError {
    fn from(error: TooFewWitnesses) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "TOO_FEW_WITNESSES", error)
    }
}

impl From<ReceiptError> for ApiError {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::UnknownRun(run_id) => Self::run_not_found(&run_id),
            ReceiptError::Proof(error) => error.into(),
            ReceiptError::NotSigned { .. } => Self::unavailable("NOT_SIGNED_YET", error),
            ReceiptError::NotCosigned { .. } => Self::unavailable("NOT_COSIGNED_YET", error),
            ReceiptError::TooLarge => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "RECEIPT_TOO_LARGE", error)
            }
        }
    }
}

impl From<UndecodableEvent> for ApiError {
    fn from(event: UndecodableEvent) -> Self {
        LedgerError::from(event).into()
    }
}

impl From<ProjectionError> for ApiError {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Ledger(error) => error.into(),
            ProjectionError::NotReached { .. } => Self::unavailable("PROJECTION_BEHIND", error),
            ProjectionError::Interrupted => Self::unavailable("SHUTTING_DOWN", error),
            ProjectionError::LedgerBehind { .. } | ProjectionError::LedgerDiffers { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_DIFFERS", error)
            }
            ProjectionError::Storage { .. }
            | ProjectionError::File { .. }
            | ProjectionError::InUse { .. }
            | ProjectionError::NotNext(_)
            | ProjectionError::Contradiction { .. }
            | ProjectionError::BadRow { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "PROJECTION_FAULT", error)
            }
        }
    }
}

impl From<SpecError> for SpecErrorView {
    fn from(SpecError { path, message }: SpecError) -> Self {
        Self { path, message }
    }
}

impl From<InputViolation> for SpecErrorView {
    fn from(InputViolation { path, message }: InputViolation) -> Self {
        Self { path, message }
    }
}
