//! Refusals of the write side, as answers.

use axum::http::StatusCode;
use stella_commands::Refusal;
use stella_domain::{
    aggregate::{ControlRefusal, DagRefusal, LedgerRefusal, RunRefusal, ScheduleRefusal},
    ids::{DagId, RunId, ScheduleId},
    schedule::ScheduleError,
};

use super::ApiError;
use crate::types::SpecErrorView;

impl ApiError {
    pub(crate) fn run_not_found(run_id: &RunId) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RUN_NOT_FOUND", format!("there is no run {run_id}"))
    }

    pub(crate) fn run_not_yet(run_id: &RunId, seq: u64, begins: u64) -> Self {
        let detail = format!("run {run_id} begins with event {begins}, after asOf={seq}");
        Self::new(StatusCode::NOT_FOUND, "RUN_NOT_FOUND", detail)
    }

    pub(crate) fn dag_not_found(dag_id: &DagId) -> Self {
        DagRefusal::Unknown.into_error(dag_id)
    }

    pub(crate) fn dag_version_not_found(dag_id: &DagId, asked: u32, newest: u32) -> Self {
        DagRefusal::UnknownVersion { asked, newest }.into_error(dag_id)
    }

    pub(crate) fn dag_version_enabled(dag_id: &DagId, version: u32) -> Self {
        let detail = format!(
            "version {version} of DAG {dag_id} is enabled, so more of its runs may start: disable \
             it first"
        );
        Self::new(StatusCode::CONFLICT, "DAG_VERSION_ENABLED", detail)
    }

    pub(crate) fn too_many_reruns(cap: u32) -> Self {
        let detail = format!(
            "more than {cap} runs would be run again: narrow the filter or the window, or raise cap \
             (1000 at most)"
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "TOO_MANY_RUNS", detail)
    }

    pub(crate) fn schedule_not_found(id: &ScheduleId) -> Self {
        Self::schedule_refusal(id, ScheduleRefusal::Unknown)
    }

    pub(crate) fn schedule(errors: Vec<ScheduleError>) -> Self {
        let detail = format!("the schedule does not hold: {} error(s)", errors.len());
        let errors = errors.into_iter();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "SCHEDULE_INVALID", detail).with_errors(
            errors
                .map(|error| SpecErrorView { path: error.path.to_owned(), message: error.message }),
        )
    }

    pub(crate) fn schedule_refusal(id: &ScheduleId, refusal: ScheduleRefusal) -> Self {
        let (status, code) = match &refusal {
            ScheduleRefusal::Unknown => (StatusCode::NOT_FOUND, "SCHEDULE_NOT_FOUND"),
            ScheduleRefusal::Invalid(errors) => return Self::schedule(errors.clone()),
            ScheduleRefusal::Exists => (StatusCode::CONFLICT, "SCHEDULE_EXISTS"),
            ScheduleRefusal::BackfillUnderWay => (StatusCode::CONFLICT, "BACKFILL_UNDER_WAY"),
            ScheduleRefusal::BackfillAhead { .. } => (StatusCode::BAD_REQUEST, "WINDOW_INVALID"),
            ScheduleRefusal::BackfillEmpty => (StatusCode::UNPROCESSABLE_ENTITY, "BACKFILL_EMPTY"),
            ScheduleRefusal::BackfillTooLarge { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "BACKFILL_TOO_LARGE")
            }
            ScheduleRefusal::TooManyOpen => {
                return Self::unavailable("TOO_MANY_OPEN_FIRES", format_args!("{id}: {refusal}"));
            }
        };
        Self::new(status, code, format_args!("schedule {id}: {refusal}"))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Run(refusal) => refusal.into(),
            Refusal::Dag(dag_id, refusal) => refusal.into_error(&dag_id),
            Refusal::Schedule(id, refusal) => Self::schedule_refusal(&id, refusal),
            Refusal::Control(refusal @ ControlRefusal::Draining) => {
                Self::unavailable("QUEUE_DRAINING", refusal)
            }
            Refusal::Control(refusal @ ControlRefusal::DispatchPaused) => {
                Self::new(StatusCode::CONFLICT, "DISPATCH_PAUSED", refusal)
            }
            Refusal::Ledger(refusal @ LedgerRefusal::NotOpened) => {
                Self::new(StatusCode::CONFLICT, "LEDGER_NOT_OPENED", refusal)
            }
            Refusal::Ledger(
                refusal @ (LedgerRefusal::RotationUnsound(_) | LedgerRefusal::KeyNotCurrent { .. }),
            ) => Self::new(StatusCode::CONFLICT, "KEY_ROTATION_REFUSED", refusal),
            Refusal::Ledger(LedgerRefusal::RunUnknown(run_id)) => Self::run_not_found(&run_id),
            Refusal::Ledger(refusal @ LedgerRefusal::RunNotEnded { .. }) => {
                Self::new(StatusCode::CONFLICT, "RUN_NOT_ENDED", refusal)
            }
            Refusal::Ledger(refusal @ LedgerRefusal::NothingToErase(_)) => {
                Self::new(StatusCode::CONFLICT, "NOTHING_TO_ERASE", refusal)
            }
            refusal @ Refusal::TooLarge { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "EVENT_TOO_LARGE", refusal)
            }
            Refusal::Ledger(refusal @ LedgerRefusal::ErasedMeanwhile(_)) => {
                Self::unavailable("STREAM_BUSY", refusal)
            }
            // Decided again so often already that others are to go first.
            refusal @ Refusal::Conflict { .. } => Self::unavailable("STREAM_BUSY", refusal),
        }
    }
}

impl From<RunRefusal> for ApiError {
    fn from(refusal: RunRefusal) -> Self {
        let (status, code) = match &refusal {
            RunRefusal::Unknown => (StatusCode::NOT_FOUND, "RUN_NOT_FOUND"),
            RunRefusal::NotEnded => (StatusCode::CONFLICT, "RUN_NOT_ENDED"),
            RunRefusal::InputsErased => (StatusCode::CONFLICT, "INPUTS_ERASED"),
            RunRefusal::TokenConflict { .. } => (StatusCode::CONFLICT, "RUN_TOKEN_CONFLICT"),
            RunRefusal::InputsInvalid { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "INPUTS_INVALID")
            }
            RunRefusal::LabelRefused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "LABEL_REFUSED"),
            RunRefusal::SpecMissing => (StatusCode::INTERNAL_SERVER_ERROR, "SPEC_UNREADABLE"),
            RunRefusal::NotQueued(_) => (StatusCode::CONFLICT, "STEP_NOT_QUEUED"),
            RunRefusal::UnknownLease(_) => (StatusCode::NOT_FOUND, "LEASE_NOT_FOUND"),
            RunRefusal::StaleToken { .. } => (StatusCode::CONFLICT, "FENCING_TOKEN_STALE"),
            RunRefusal::NotHolder { .. } => (StatusCode::CONFLICT, "LEASE_NOT_HELD"),
            RunRefusal::NoSuchStep(_) => (StatusCode::NOT_FOUND, "STEP_NOT_FOUND"),
            RunRefusal::NotAwaitingApproval { .. } => {
                (StatusCode::CONFLICT, "STEP_NOT_AWAITING_APPROVAL")
            }
            RunRefusal::AlreadyDecided { .. } => (StatusCode::CONFLICT, "APPROVAL_DECIDED"),
            RunRefusal::AlreadyClosed(_) => (StatusCode::CONFLICT, "LEASE_ENDED"),
        };
        let error = Self::new(status, code, &refusal);
        match refusal {
            RunRefusal::InputsInvalid { violations, .. } => {
                error.with_errors(violations.listed.into_iter().map(SpecErrorView::from))
            }
            _ => error,
        }
    }
}

/// A DAG's refusal does not say which DAG it is.
trait OfDag {
    fn into_error(self, dag_id: &DagId) -> ApiError;
}

impl OfDag for DagRefusal {
    fn into_error(self, dag_id: &DagId) -> ApiError {
        let (status, code) = match &self {
            Self::Unknown => (StatusCode::NOT_FOUND, "DAG_NOT_FOUND"),
            Self::UnknownVersion { .. } => (StatusCode::NOT_FOUND, "DAG_VERSION_NOT_FOUND"),
            Self::Paused | Self::BudgetSpent { .. } => (StatusCode::CONFLICT, "DAG_PAUSED"),
            Self::Disabled { .. } => (StatusCode::CONFLICT, "DAG_VERSION_DISABLED"),
            Self::NotOlder { .. } => (StatusCode::CONFLICT, "DAG_VERSION_NOT_OLDER"),
            Self::Unreadable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "SPEC_UNREADABLE"),
        };
        ApiError::new(status, code, format_args!("DAG {dag_id}: {self}"))
    }
}
