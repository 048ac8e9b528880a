//! The in-process worker's way to its leases: straight to the write side.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use stella_commands::{
    CommandError, Commands, Poll, Refusal,
    dispatch::{Grant, Renewal},
};
use stella_domain::{
    aggregate::RunRefusal,
    ids::{FencingToken, Tenant, WorkerId},
};
use stella_ledger::writer::WriteError;
use stella_worker::{
    Completed, HeartbeatAnswer, Lease, LeaseError, LeaseSource, Outcome, PollRequest, Verdict,
};

/// Leases of one tenant, in process.
pub(super) struct LocalLeases {
    pub(super) commands: Commands,
    pub(super) tenant: Tenant,
}

#[async_trait]
impl LeaseSource for LocalLeases {
    async fn poll(&self, request: PollRequest) -> Result<Vec<Lease>, LeaseError> {
        let granted = self.commands.poll(&self.tenant, poll(&request)).await;
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
            .commands
            .complete(&self.tenant, worker_id, token, outcome.into(), None, and_poll.as_ref())
            .await
            .map_err(lease_error)?;
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

    async fn cancellations(&self, worker_id: &WorkerId) -> Vec<FencingToken> {
        self.commands.cancellations(&self.tenant, worker_id).await
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
