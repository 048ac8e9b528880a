//! What a plugin of the `process` runtime reads and prints: one JSON object each way.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stella_domain::{
    ids::{DagId, RunId, StepId},
    json::{self, CanonicalJson},
    time::Timestamp,
};

use crate::{error::StepError, lease::Lease, schema::Schema};

/// The request, one line on the plugin's stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What to do.
    pub action: String,
    /// The step's `with`, its expressions resolved.
    pub inputs: CanonicalJson,
    /// The run; with the step it makes a good idempotency key.
    pub run_id: RunId,
    /// The run's DAG.
    pub dag_id: DagId,
    /// The step.
    pub step_id: StepId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How long the attempt may take from now on, in milliseconds.
    pub timeout_ms: u64,
    /// When that is over, by the worker's clock.
    pub deadline: Timestamp,
}

impl Request {
    /// The request for a lease that is carried out `now` with these inputs.
    pub fn new(lease: &Lease, inputs: CanonicalJson, now: Timestamp) -> Self {
        Self {
            action: lease.action.clone(),
            inputs,
            run_id: lease.run_id.clone(),
            dag_id: lease.dag_id.clone(),
            step_id: lease.step_id.clone(),
            attempt: lease.attempt,
            timeout_ms: lease.timeout_ms,
            deadline: now.plus_ms(lease.timeout_ms),
        }
    }
}

/// The answer, all of the plugin's stdout: one of the two members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Answer {
    /// The step is done; an object.
    Outputs(Value),
    /// The step failed.
    Error(ErrorAnswer),
}

/// A plugin's own error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorAnswer {
    /// Stable code, `[A-Z][A-Z0-9_]{0,63}`.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Whether another attempt may help; yes unless said otherwise.
    #[serde(default = "yes")]
    pub retryable: bool,
}

fn yes() -> bool {
    true
}

impl Answer {
    /// Parse what a plugin printed.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn parse(printed: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(printed)
            .map_err(|e| format!("it is not UTF-8 from byte {} on", e.valid_up_to()))?
            .trim_ascii();
        if text.is_empty() {
            return Err("nothing was printed on stdout; print one JSON object with \
                        \"outputs\" or \"error\""
                .into());
        }
        let value = json::parse_i_json(text).map_err(|e| e.to_string())?;
        if !value.is_object() {
            return Err("it is not a JSON object with \"outputs\" or \"error\"".into());
        }
        serde_json::from_value(value)
            .map_err(|e| format!("it is not an object with either \"outputs\" or \"error\": {e}"))
    }

    /// The outputs that it gives, checked, or the plugin's own error.
    ///
    /// # Errors
    /// [`StepError::Plugin`], [`StepError::OutputInvalid`] and [`StepError::OutputTooLarge`].
    pub fn into_outputs(
        self,
        schema: Option<&Schema>,
        max_bytes: usize,
    ) -> Result<CanonicalJson, StepError> {
        let outputs = match self {
            Self::Outputs(outputs) => outputs,
            Self::Error(error) => return Err(error.into_step_error()),
        };
        if !outputs.is_object() {
            return Err(StepError::OutputInvalid("outputs is not an object".into()));
        }
        if let Some(schema) = schema {
            schema.check(&outputs).map_err(StepError::OutputInvalid)?;
        }
        let canonical = CanonicalJson::from_value(&outputs)
            .map_err(|e| StepError::OutputInvalid(e.to_string()))?;
        within(canonical, max_bytes)
    }
}

impl ErrorAnswer {
    fn into_step_error(self) -> StepError {
        let fits = self.code.len() <= 64
            && self.code.starts_with(|c: char| c.is_ascii_uppercase())
            && self.code.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        if !fits {
            let shown: String = self.code.chars().take(80).collect();
            return StepError::OutputInvalid(format!(
                "error.code {shown:?} must be 1 to 64 of A-Z 0-9 _, beginning with a letter; its \
                 message: {}",
                self.message
            ));
        }
        StepError::Plugin { code: self.code, message: self.message, retryable: self.retryable }
    }
}

/// `outputs`, unless they are larger than is allowed.
pub(crate) fn within(outputs: CanonicalJson, max_bytes: usize) -> Result<CanonicalJson, StepError> {
    let bytes = outputs.as_str().len();
    if bytes <= max_bytes {
        return Ok(outputs);
    }
    Err(StepError::OutputTooLarge(format!(
        "the outputs have {bytes} bytes in canonical form, at most {max_bytes} are allowed: leave \
         large results as files in the folder $STELLA_ARTIFACTS"
    )))
}
