//! Why a step did not succeed, with the stable code that is recorded.

use stella_domain::limits::MESSAGE_BYTES;

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// This worker has no such plugin, action or entry file.
    #[error("{0}")]
    NotFound(String),
    /// The step's inputs do not fit the action.
    #[error("the inputs do not fit the action: {0}")]
    InputInvalid(String),
    /// The plugin's process could not be started.
    #[error("the plugin's process could not be started: {0}")]
    Spawn(String),
    /// The plugin's process ended without success.
    #[error("{0}")]
    Exit(String),
    /// What the plugin printed is not an answer, or does not fit its own schema.
    #[error("the plugin's answer is not valid: {0}")]
    OutputInvalid(String),
    /// The plugin printed, or put out, more than is allowed.
    #[error("{0}")]
    OutputTooLarge(String),
    /// The step's time ran out.
    #[error("the step took longer than {timeout_ms} ms and was ended")]
    TimedOut {
        /// The time that the step had, in milliseconds.
        timeout_ms: u64,
    },
    /// The step was told to stop.
    #[error("the step was cancelled and has been ended")]
    Cancelled,
    /// The plugin says so itself.
    #[error("{message}")]
    Plugin {
        /// The plugin's own code, `UPPER_SNAKE`.
        code: String,
        /// What it says to people.
        message: String,
        /// Whether another attempt may help.
        retryable: bool,
    },
    /// What the step is given, or leaves, could not be had or handed over.
    #[error("an artifact: {0}")]
    Artifact(String),
    /// The worker's own code panicked while it carried out the step.
    #[error("the worker panicked while it carried out the step: {0}")]
    Panicked(String),
}

impl StepError {
    /// The stable code, `[A-Z][A-Z0-9_]{0,63}`.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound(_) => "PLUGIN_NOT_FOUND",
            Self::InputInvalid(_) => "PLUGIN_INPUT_INVALID",
            Self::Spawn(_) => "PLUGIN_SPAWN",
            Self::Exit(_) => "PLUGIN_EXIT",
            Self::OutputInvalid(_) => "PLUGIN_OUTPUT_INVALID",
            Self::OutputTooLarge(_) => "OUTPUT_TOO_LARGE",
            Self::TimedOut { .. } => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Plugin { code, .. } => code,
            Self::Artifact(_) => "ARTIFACT_FAILED",
            Self::Panicked(_) => "WORKER_PANIC",
        }
    }

    /// Whether another attempt of the same step with the same inputs may end differently.
    pub fn retryable(&self) -> bool {
        match self {
            // What is missing or does not fit is so the next time as well.
            Self::NotFound(_)
            | Self::InputInvalid(_)
            | Self::OutputInvalid(_)
            | Self::OutputTooLarge(_) => false,
            // Out of processes or memory, a crash, a slow neighbour: it may pass.
            Self::Spawn(_)
            | Self::Exit(_)
            | Self::TimedOut { .. }
            | Self::Artifact(_)
            | Self::Panicked(_) => true,
            // Somebody wanted it to end.
            Self::Cancelled => false,
            Self::Plugin { retryable, .. } => *retryable,
        }
    }

    /// The text for people, at most 4 KiB.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
        text
    }
}
