//! Answers that are text as it stands: notes and receipts, whose bytes are what counts.

use reqwest::{Method, RequestBuilder};

use super::{ANSWER_TIMEOUT, Client};
use crate::failure::Failure;

impl Client {
    /// `GET` a resource that is text.
    pub(crate) async fn get_text(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<String, Failure> {
        self.text(self.request(Method::GET, path).query(query)).await
    }

    /// `POST` nothing; the answer is text.
    pub(crate) async fn post_for_text(&self, path: &str) -> Result<String, Failure> {
        self.text(self.request(Method::POST, path)).await
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, Failure> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        let bytes = self.body(response).await?;
        String::from_utf8(bytes)
            .map_err(|_| Failure::failed(format!("{} answered no text", self.server)))
    }
}
