//! The in-process worker's way to its leases: straight to the write side.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use stella_artifacts::{ArtifactError, LogError, digest_of};
use stella_commands::{
    CommandError, Commands, Poll, Refusal,
    dispatch::{Grant, Renewal},
};
use stella_domain::{
    aggregate::RunRefusal,
    artifact::Artifact,
    ids::{FencingToken, RunId, Tenant, WorkerId},
};
use stella_ledger::writer::WriteError;
use stella_worker::{
    ArtifactBytes, Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome,
    PollRequest, Shelf, Verdict,
};

use super::artifacts::{Artifacts, ReportError, ValueError};
use crate::warmth::Warmth;

/// Leases of one tenant, in process.
pub(super) struct LocalLeases {
    pub(super) commands: Commands,
    pub(super) tenant: Tenant,
    pub(super) artifacts: Artifacts,
    /// The worker's plugins.
    pub(super) shelf: Arc<Shelf>,
    pub(super) warmth: Warmth,
}

#[async_trait]
impl LeaseSource for LocalLeases {
    async fn poll(&self, request: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        let asked_again = self.warmth.asked_again();
        // Looked at after that: nothing falls between.
        if !Arc::ptr_eq(&request.plugins, &self.shelf.stock().announced) {
            return Ok(vec![]);
        }
        let granted = tokio::select! {
            granted = self.commands.poll(&self.tenant, poll(&request)) => granted,
            // What it was granted meanwhile is granted again; it asks anew with what it has now.
            () = asked_again => vec![],
        };
        Ok(granted.into_iter().map(lease).collect())
    }

    async fn complete(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        outcome: Outcome,
        and_poll: Option<PollRequest>,
    ) -> Result<Completed, LeaseError> {
        let and_poll = and_poll.as_ref().map(poll);
        let completion = self
            .artifacts
            .complete(&self.commands, worker_id, token, outcome.into(), and_poll.as_ref())
            .await
            .map_err(report_error)?;
        Ok(Completed { next: completion.next.into_iter().map(lease).collect() })
    }

    async fn heartbeat(
        &self,
        worker_id: &WorkerId,
        tokens: &[FencingToken],
    ) -> Result<Vec<HeartbeatAnswer>, LeaseError> {
        let answers = self.commands.heartbeat(&self.tenant, worker_id, tokens);
        Ok(answers.into_iter().map(heartbeat_answer).collect())
    }

    async fn append_log(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), LeaseError> {
        self.held(worker_id, token)?;
        let (live, token) = (Arc::clone(&self.artifacts.live), token.clone());
        let appended = tokio::task::spawn_blocking(move || live.append(&token, offset, &bytes));
        match appended.await.map_err(|error| LeaseError::Refused(error.to_string()))? {
            Ok(_) => Ok(()),
            Err(LogError::File(error)) => Err(LeaseError::Unavailable(error.to_string())),
            Err(error) => Err(LeaseError::Refused(error.to_string())),
        }
    }

    async fn put_artifact(
        &self,
        worker_id: &WorkerId,
        token: &FencingToken,
        name: &str,
        media_type: &str,
        path: &Path,
    ) -> Result<Artifact, LeaseError> {
        self.held(worker_id, token)?;
        let Artifacts { store, .. } = &self.artifacts;
        let (digest, size) = digest_of(path).await.map_err(store_error)?;
        let (media_type, name) = (media_type.into(), Some(name.into()));
        let artifact = Artifact { digest, media_type, name, size };
        let file = tokio::fs::File::open(path).await;
        let file = file.map_err(|error| store_error(error.into()))?;
        let put = store.put_file(self.artifacts.ledger(), &token.run_id, &artifact, file);
        put.await.map_err(store_error)?;
        Ok(artifact)
    }

    async fn get_artifact(
        &self,
        run_id: &RunId,
        artifact: &Artifact,
    ) -> Result<ArtifactBytes, LeaseError> {
        let (store, ledger) = (&self.artifacts.store, self.artifacts.ledger());
        let stored = store.get(ledger, run_id, &artifact.digest).await.map_err(store_error)?;
        Ok(stored.bytes)
    }

    async fn leave(&self, worker_id: &WorkerId) {
        self.commands.leave(&self.tenant, worker_id);
    }

    async fn cancellations(&self, worker_id: &WorkerId) -> Vec<FencingToken> {
        self.commands.cancellations(&self.tenant, worker_id).await
    }
}

impl LocalLeases {
    fn held(&self, worker_id: &WorkerId, token: &FencingToken) -> Result<(), LeaseError> {
        let is_held = self.commands.holds(&self.tenant, worker_id, token);
        if is_held { Ok(()) } else { Err(LeaseError::Stale) }
    }
}

fn store_error(error: ArtifactError) -> LeaseError {
    match error {
        error @ ArtifactError::Unavailable { .. } => LeaseError::Unavailable(error.to_string()),
        error => LeaseError::Refused(error.to_string()),
    }
}

fn poll(request: &PollRequest) -> Poll {
    Poll {
        worker_id: request.worker_id.clone(),
        plugins: Arc::clone(&request.plugins),
        max: request.max,
        wait: Duration::from_millis(request.wait_ms),
    }
}

fn lease(grant: Grant) -> Lease {
    Lease {
        run_id: grant.token.run_id.clone(),
        token: grant.token,
        step_id: grant.step_id,
        attempt: grant.attempt,
        dag_id: grant.dag_id,
        plugin: grant.plugin,
        action: grant.action,
        with: grant.with,
        lease_ttl_ms: grant.lease_ms,
        timeout_ms: grant.timeout_ms,
    }
}

fn heartbeat_answer((token, renewal): (FencingToken, Renewal)) -> HeartbeatAnswer {
    let verdict = match renewal {
        Renewal::Renewed => Verdict::Continue,
        Renewal::Cancel => Verdict::Cancel,
        Renewal::Lost => Verdict::Lost,
    };
    HeartbeatAnswer { token, verdict }
}

/// What a worker is to make of a report that was not recorded.
fn report_error(error: ReportError) -> LeaseError {
    match error {
        ReportError::Command(error) => lease_error(error),
        error @ (ReportError::Log(_) | ReportError::Outputs(ValueError::Store(_))) => {
            LeaseError::Unavailable(error.to_string())
        }
        ReportError::Outputs(_) => LeaseError::Refused(error.to_string()),
    }
}

fn lease_error(error: CommandError) -> LeaseError {
    match error {
        CommandError::Refused(Refusal::Run(
            RunRefusal::StaleToken { .. }
            | RunRefusal::NotHolder { .. }
            | RunRefusal::UnknownLease(_)
            | RunRefusal::AlreadyClosed(_)
            | RunRefusal::Unknown,
        )) => LeaseError::Stale,
        CommandError::Refused(refusal) => LeaseError::Refused(refusal.to_string()),
        CommandError::Write(
            error @ (WriteError::Unavailable(_)
            | WriteError::OutcomeUnknown(_)
            | WriteError::ClockFault(_)
            | WriteError::ShuttingDown),
        ) => LeaseError::Unavailable(error.to_string()),
        CommandError::Write(error @ WriteError::Unreadable(_)) => {
            LeaseError::Refused(error.to_string())
        }
    }
}
