//! What goes wrong with artifacts, as answers.

use axum::http::StatusCode;
use stella_artifacts::{ArtifactError, LogError};
use stella_domain::ids::{FencingToken, RunId};

use super::ApiError;
use crate::node::artifacts::{ReportError, RerunError, StartError, ValueError};

impl ApiError {
    pub(crate) fn lease_not_held(token: &FencingToken) -> Self {
        let detail = format!("the lease {token} is not this worker's, or its attempt is over");
        Self::new(StatusCode::CONFLICT, "LEASE_NOT_HELD", detail)
    }

    pub(crate) fn step_not_found(run_id: &RunId, step_id: &str) -> Self {
        let detail = format!("of run {run_id} no step {step_id} was started");
        Self::new(StatusCode::NOT_FOUND, "STEP_NOT_FOUND", detail)
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        match &error {
            ArtifactError::Unavailable { .. } | ArtifactError::File(_) => {
                Self::unavailable("ARTIFACT_STORE_UNAVAILABLE", error)
            }
            ArtifactError::Missing { .. } => {
                Self::new(StatusCode::NOT_FOUND, "ARTIFACT_NOT_FOUND", error)
            }
            ArtifactError::Corrupt { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ARTIFACT_DAMAGED", error)
            }
            ArtifactError::TooLarge { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "ARTIFACT_TOO_LARGE", error)
            }
        }
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Gap { .. } => Self::new(StatusCode::CONFLICT, "LOG_GAP", error),
            LogError::Closed => Self::new(StatusCode::CONFLICT, "LEASE_ENDED", error),
            LogError::TooLarge => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "LOG_TOO_LARGE", error)
            }
            LogError::File(_) => Self::unavailable("ARTIFACT_STORE_UNAVAILABLE", error),
        }
    }
}

impl ApiError {
    /// `what`: inputs or outputs.
    fn value(what: &str, error: ValueError) -> Self {
        let code = match error {
            ValueError::Store(error) => return error.into(),
            ValueError::TooLarge { .. } => "EVENT_TOO_LARGE",
            ValueError::NotKept(_) => "ARTIFACT_UNKNOWN",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, format_args!("the {what}: {error}"))
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Inputs(error) => Self::value("inputs", error),
            StartError::Store(error) => error.into(),
            StartError::Command(error) => error.into(),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Outputs(error) => Self::value("outputs", error),
            ReportError::Log(error) => error.into(),
            ReportError::Command(error) => error.into(),
        }
    }
}

impl From<RerunError> for ApiError {
    fn from(error: RerunError) -> Self {
        match error {
            RerunError::Store(error) => error.into(),
            RerunError::Ledger(error) => error.into(),
            RerunError::Command(error) => error.into(),
        }
    }
}
