//! What goes wrong with time windows: their exports and their proofs.

use axum::http::StatusCode;
use stella_replay::{
    bundle::ProveError,
    export::{ExportError, WindowError},
};

use super::ApiError;

impl From<WindowError> for ApiError {
    fn from(error: WindowError) -> Self {
        match error {
            WindowError::FromAfterTo { .. } => Self::bad_request("WINDOW_INVALID", error),
            WindowError::Open { .. } => Self::new(StatusCode::CONFLICT, "WINDOW_OPEN", error),
            WindowError::Ledger(error) => error.into(),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Ledger(error) => error.into(),
            ExportError::ResumeOutside { .. } => Self::bad_request("SEQ_OUTSIDE_WINDOW", error),
            ExportError::Shrunk { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "LEDGER_DAMAGED", error)
            }
            ExportError::Write(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "EXPORT_FAILED", error)
            }
        }
    }
}

impl From<ProveError> for ApiError {
    fn from(error: ProveError) -> Self {
        match error {
            ProveError::Proof(error) => error.into(),
            ProveError::NotSigned { .. } => Self::unavailable("NOT_SIGNED_YET", error),
            ProveError::NotCosigned { .. } => Self::unavailable("NOT_COSIGNED_YET", error),
            ProveError::SinceBeyond { .. } => {
                Self::new(StatusCode::CONFLICT, "CHECKPOINT_BEYOND_LEDGER", error)
            }
            ProveError::TooManyErasures => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "TOO_MANY_ERASURES", error)
            }
        }
    }
}
