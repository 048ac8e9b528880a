//! Why a run refuses a command.

use crate::{
    dag::InputViolations,
    ids::{DagId, StepId, WorkerId},
    limits::LABELS,
};

/// Why a run refuses a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// Only what has ended is run again.
    #[error("the run has not ended: wait for its end, or cancel it, before it is run again")]
    NotEnded,
    /// What it was started with is gone.
    #[error("the run's inputs are erased: start a new run with inputs of its own")]
    InputsErased,
    /// There is no such run.
    #[error("there is no such run")]
    Unknown,
    /// The run token was used for another start.
    #[error(
        "this runToken already started a run of {have}, and this request asks for {asked}: \
         use another runToken, or ask for the same"
    )]
    TokenConflict {
        /// What the recorded run is of.
        have: String,
        /// What was asked for.
        asked: String,
    },
    /// The inputs do not fit the DAG's schema.
    #[error("the inputs do not fit the schema of DAG {dag_id}: {violations}")]
    InputsInvalid {
        /// The DAG.
        dag_id: DagId,
        /// Every violation.
        violations: InputViolations,
    },
    /// The labels do not keep the rules.
    #[error(
        "label {0:?} is not allowed: at most {LABELS} labels, each name 1 to 64 of \
         A-Z a-z 0-9 . _ / -"
    )]
    LabelRefused(String),
    /// The run's version of the DAG cannot be read by this build.
    #[error("the DAG version that this run follows cannot be read by this release")]
    SpecMissing,
    /// The step does not wait for a worker.
    #[error("step {0} is not queued")]
    NotQueued(StepId),
    /// No lease of this run carries that token.
    #[error("no lease of this run has fencing token version {0}")]
    UnknownLease(u64),
    /// A newer lease was granted since.
    #[error("fencing token version {presented} is stale: the step's newest lease has {newest}")]
    StaleToken {
        /// As presented.
        presented: u64,
        /// The newest lease's.
        newest: u64,
    },
    /// The lease is not this worker's.
    #[error("this lease is held by worker {holder}, not by {presented}")]
    NotHolder {
        /// Who holds it.
        holder: WorkerId,
        /// Who presented the token.
        presented: WorkerId,
    },
    /// The DAG has no such step, or the item was never queued.
    #[error("this run has no step {0}")]
    NoSuchStep(StepId),
    /// Nothing is asked of an operator there.
    #[error(
        "step {step_id} waits for no operator: it is {phase}, in a run that is {status}; approvals \
         are given to steps that are awaitingApproval, while their run is running"
    )]
    NotAwaitingApproval {
        /// The step.
        step_id: StepId,
        /// Where it stands.
        phase: &'static str,
        /// Where its run stands.
        status: &'static str,
    },
    /// An operator decided otherwise before.
    #[error("step {step_id} was {decided} already: what is decided stays")]
    AlreadyDecided {
        /// The step.
        step_id: StepId,
        /// Approved or rejected.
        decided: &'static str,
    },
    /// The lease has ended already, in another way.
    #[error("this lease has already ended: {0}")]
    AlreadyClosed(String),
}
