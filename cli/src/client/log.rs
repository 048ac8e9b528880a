//! The log of a step, piece by piece.

use reqwest::Method;
use stella_domain::ids::{RunId, StepId};

use super::{ANSWER_TIMEOUT, Client, path};
use crate::failure::Failure;

/// Part of a log.
pub(crate) struct LogPiece {
    pub(crate) bytes: Vec<u8>,
    /// Nothing follows.
    pub(crate) is_complete: bool,
}

impl Client {
    /// The log of a step's attempt from `offset` on, as far as it is written or fits into one answer.
    pub(crate) async fn log(
        &self,
        run_id: &RunId,
        step_id: &StepId,
        attempt: u32,
        offset: u64,
    ) -> Result<LogPiece, Failure> {
        let query = [("attempt", attempt.to_string()), ("offset", offset.to_string())];
        let path = path("runs", run_id, &format!("/logs/{step_id}"));
        let request = self.request(Method::GET, &path).timeout(ANSWER_TIMEOUT).query(&query);
        let response = self.send(request).await?;
        let complete = response.headers().get("log-complete").is_some_and(|value| value == "true");
        Ok(LogPiece { bytes: self.body(response).await?, is_complete: complete })
    }
}
