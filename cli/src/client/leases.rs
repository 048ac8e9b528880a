//! A worker's way to its leases, over HTTP.

use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all};
use stella_api::types::{
    ArtifactView, CancellationsBody, CancellationsView, CompleteBody, FailBody, FailureKind,
    HeartbeatBody, HeartbeatView, LeaseView, LeasesView, LeaveBody, LogSizeView, POLL_WAIT_MS,
    PollBody, PollMore, Problem, VerdictView,
};
use stella_domain::{
    artifact::Artifact,
    event::ErrorCode,
    ids::{FencingToken, RunId, WorkerId},
    time::Timestamp,
};
use stella_worker::{
    ArtifactBytes, Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome,
    PollRequest, Verdict,
};

use tokio_util::io::ReaderStream;

use super::{Client, path};
use crate::failure::Failure;

/// Between two questions for what is cancelled.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Leases of the server that `client` talks to.
pub(crate) struct HttpLeases {
    client: Client,
    /// What it said last about loading plugins again.
    warm: Mutex<Option<Timestamp>>,
}

#[async_trait]
impl LeaseSource for HttpLeases {
    async fn poll(&self, request: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        let body = PollBody {
            worker_id: request.worker_id,
            plugins: request.plugins.to_vec(),
            max: request.max,
            wait_ms: request.wait_ms,
        };
        let answer: LeasesView = self.post("/workers:poll", &body).await?;
        self.hear(answer.warm);
        Ok(answer.leases.into_iter().map(lease).collect())
    }

    async fn complete(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        and_poll: Option<PollRequest>,
    ) -> Result<Completed, LeaseError> {
        let worker_id = worker_id.clone();
        let and_poll =
            and_poll.map(|more| PollMore { plugins: more.plugins.to_vec(), max: more.max });
        let fail = |kind, code: ErrorCode, message, retryable| {
            let worker_id = worker_id.clone();
            let and_poll = and_poll.clone();
            FailBody { worker_id, kind, code, message, retryable, and_poll }
        };
        let bare = |kind| fail(kind, ErrorCode::lenient("WORKER_ERROR"), String::new(), true);
        let failed = match outcome {
            Outcome::Succeeded { outputs } => {
                let body = CompleteBody { worker_id, outputs, and_poll };
                return self.report(token, ":complete", &body).await;
            }
            Outcome::Failed { code, message, retryable } => {
                fail(FailureKind::Failed, code, message, retryable)
            }
            Outcome::TimedOut => bare(FailureKind::TimedOut),
            Outcome::Cancelled => bare(FailureKind::Cancelled),
        };
        self.report(token, ":fail", &failed).await
    }

    async fn heartbeat(
        &self,
        worker_id: &WorkerId,
        tokens: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError> {
        let body = HeartbeatBody { worker_id: worker_id.clone() };
        let beats = tokens.iter().map(async |token| {
            let path = path("leases", token, ":heartbeat");
            let answer: HeartbeatView = self.post(&path, &body).await?;
            self.hear(answer.warm);
            let verdict = match answer.verdict {
                VerdictView::Continue => Verdict::Continue,
                VerdictView::Cancel => Verdict::Cancel,
                VerdictView::Lost => Verdict::Lost,
            };
            Ok::<_, LeaseError>(HeartbeatAnswer { token: token.clone(), verdict })
        });
        try_join_all(beats).await
    }

    async fn append_log(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), LeaseError> {
        let query = [("workerId", worker_id.to_string()), ("offset", offset.to_string())];
        let path = path("leases", token, "/logs");
        let _: LogSizeView = self.put(&path, &query, "text/plain", bytes.into()).await?;
        Ok(())
    }

    async fn put_artifact(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        name: &str,
        media_type: &str,
        file: &Path,
    ) -> Result<Artifact, LeaseError> {
        let query = [
            ("workerId", worker_id.to_string()),
            ("name", name.to_owned()),
            ("mediaType", media_type.to_owned()),
        ];
        let file = tokio::fs::File::open(file).await;
        let file = file.map_err(|error| LeaseError::Refused(error.to_string()))?;
        let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
        let path = path("leases", token, "/artifacts");
        let ArtifactView { digest, media_type, name, size } =
            self.put(&path, &query, "application/octet-stream", body).await?;
        Ok(Artifact { digest, media_type, name, size })
    }

    async fn get_artifact(
        &self,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError> {
        let path = format!("/runs/{run_id}/artifacts/{}", artifact.digest);
        match self.client.try_open(&path).await {
            Ok(Ok(response)) => Ok(response.bytes_stream().map_err(io::Error::other).boxed()),
            Ok(Err(problem)) => Err(lease_error(problem)),
            Err(Failure { what, .. }) => Err(LeaseError::Unavailable(what)),
        }
    }

    async fn leave(&self, worker_id: &WorkerId) {
        let body = LeaveBody { worker_id: worker_id.clone() };
        if let Err(error) = self.post::<LeaveBody>("/workers:leave", &body).await {
            tracing::debug!(%error, "the server does not hear that this worker ends");
        }
    }

    async fn cancellations(&self, worker_id: &WorkerId) -> Vec<FencingToken> {
        let body = CancellationsBody { worker_id: worker_id.clone(), wait_ms: POLL_WAIT_MS };
        loop {
            match self.post::<CancellationsView>("/workers:cancellations", &body).await {
                Ok(answer) if !answer.tokens.is_empty() => return answer.tokens,
                Ok(_) => {}
                // The heartbeats say what is wrong with the server.
                Err(error) => tracing::debug!(%error, "was not told what is cancelled"),
            }
            // A server that is about to stop, or that knows no such route, answers at once.
            tokio::time::sleep(ASKED_AGAIN_AFTER).await;
        }
    }

    fn warm_asked_at(&self) -> Option<Timestamp> {
        *self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpLeases {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, warm: Mutex::default() }
    }

    /// Answers overtake each other; a server that has started anew says nothing, or a later time.
    fn hear(&self, warm: Option<Timestamp>) {
        let mut heard = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = (*heard).max(warm);
    }

    async fn report(
        &self,
        token: &FencingToken,
        verb: &str,
        body: &impl serde::Serialize,
    ) -> Result<Completed, LeaseError> {
        let answer: LeasesView = self.post(&path("leases", token, verb), body).await?;
        self.hear(answer.warm);
        Ok(Completed { next: answer.leases.into_iter().map(lease).collect() })
    }

    async fn put<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        media_type: &str,
        body: reqwest::Body,
    ) -> Result<T, LeaseError> {
        match self.client.try_post_bytes(path, query, media_type, body).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(lease_error(problem)),
            Err(Failure { what, .. }) => Err(LeaseError::Unavailable(what)),
        }
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, LeaseError> {
        match self.client.try_post(path, body).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(problem)) => Err(lease_error(problem)),
            Err(Failure { what, .. }) => Err(LeaseError::Unavailable(what)),
        }
    }
}

/// What a worker is to make of a refusal.
fn lease_error(problem: Problem) -> LeaseError {
    let said = format!("{} ({})", problem.detail, problem.code);
    match (problem.code.as_str(), problem.status) {
        (
            "FENCING_TOKEN_STALE"
            | "LEASE_NOT_HELD"
            | "LEASE_ENDED"
            | "LEASE_NOT_FOUND"
            | "RUN_NOT_FOUND",
            _,
        ) => LeaseError::Stale,
        (_, 503 | 408) => LeaseError::Unavailable(said),
        _ => LeaseError::Refused(said),
    }
}

fn lease(lease: LeaseView) -> Lease {
    Lease {
        token: lease.token,
        run_id: lease.run_id,
        step_id: lease.step_id,
        attempt: lease.attempt,
        dag_id: lease.dag_id,
        plugin: lease.plugin,
        action: lease.action,
        with: lease.with,
        lease_ttl_ms: lease.lease_ttl_ms,
        timeout_ms: lease.timeout_ms,
    }
}
