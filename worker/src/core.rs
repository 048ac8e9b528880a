//! The built-in plugin `core`, for trials and benchmarks: it runs in the worker's own process.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, de::DeserializeOwned};
use stella_domain::json::CanonicalJson;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::BuiltIn,
    error::StepError,
    lease::Lease,
    manifest::MAX_OUTPUT_KB,
    protocol::{Answer, ErrorAnswer, within},
};

/// `core`: `noop` puts out nothing, `echo` its inputs, `sleep` waits `ms`, `fail` fails as told.
#[derive(Debug, Clone, Copy)]
pub struct Core;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fail {
    #[serde(default = "default_code")]
    code: String,
    #[serde(default = "default_message")]
    message: String,
    /// The first attempt that succeeds.
    until_attempt: Option<u32>,
    #[serde(default = "default_retryable")]
    retryable: bool,
}

fn default_code() -> String {
    "CORE_FAIL".into()
}

fn default_message() -> String {
    "core.fail was told to fail".into()
}

fn default_retryable() -> bool {
    true
}

#[async_trait]
impl BuiltIn for Core {
    fn actions(&self) -> Vec<String> {
        ["echo", "fail", "noop", "sleep"].map(String::from).to_vec()
    }

    async fn execute(
        &self,
        lease: &Lease,
        _cancel: &CancellationToken,
    ) -> Result<CanonicalJson, StepError> {
        match lease.action.as_str() {
            "noop" => Ok(CanonicalJson::empty_object()),
            "echo" => within(lease.with.clone(), MAX_OUTPUT_KB as usize * 1024),
            "sleep" => {
                let Sleep { ms } = inputs(lease)?;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(CanonicalJson::empty_object())
            }
            "fail" => fail(inputs(lease)?, lease.attempt),
            other => Err(StepError::NotFound(format!(
                "plugin core has no action {other:?}: it has noop, echo, sleep and fail"
            ))),
        }
    }
}

fn fail(told: Fail, attempt: u32) -> Result<CanonicalJson, StepError> {
    if told.until_attempt.is_some_and(|first| attempt >= first) {
        return Ok(CanonicalJson::empty_object());
    }
    let Fail { code, message, retryable, .. } = told;
    Answer::Error(ErrorAnswer { code, message, retryable }).into_outputs(None, 0)
}

fn inputs<T: DeserializeOwned>(lease: &Lease) -> Result<T, StepError> {
    serde_json::from_str(lease.with.as_str()).map_err(|e| StepError::InputInvalid(e.to_string()))
}
