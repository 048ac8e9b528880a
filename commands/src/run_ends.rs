//! Waiting for a run's end, answered from committed events.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stella_domain::{
    aggregate::RunStatus,
    event::{Event, RunEvent, RunFailed},
    ids::{RunId, Tenant},
    time::Timestamp,
};
use stella_ledger::recorded::Recorded;
use tokio::sync::watch;

/// How and when a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// One of the ended statuses.
    pub status: RunStatus,
    /// `recordedAt` of its last event.
    pub ended_at: Timestamp,
    /// `seq` of its last event.
    pub seq: u64,
    /// What failed, if it failed.
    pub failure: Option<RunFailed>,
}

type Waiting = HashMap<(Tenant, RunId), watch::Sender<Option<RunEnd>>>;

/// Those who wait for runs to end.
#[derive(Default)]
pub(crate) struct RunEnds {
    waiting: Mutex<Waiting>,
}

impl RunEnds {
    /// Be told when the run ends, if that is yet to come.
    pub(crate) fn subscribe(&self, tenant: &Tenant, run_id: &RunId) -> RunEndWait {
        let mut waiting = self.locked();
        // Those who gave up leave empty places behind; they go when the map has grown by as much.
        if waiting.len() == waiting.capacity() {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        let sender = waiting
            .entry((tenant.clone(), run_id.clone()))
            .or_insert_with(|| watch::Sender::new(None));
        RunEndWait(sender.subscribe())
    }

    pub(crate) fn recorded(&self, tenant: &Tenant, run_id: &RunId, recorded: &Recorded) {
        let Some(Event::Run(last)) = recorded.events.last() else { return };
        let (status, failure) = match last {
            RunEvent::RunSucceeded(..) => (RunStatus::Succeeded, None),
            RunEvent::RunFailed(failure) => (RunStatus::Failed, Some(failure.clone())),
            RunEvent::RunCancelled(_) => (RunStatus::Cancelled, None),
            RunEvent::RunTimedOut(_) => (RunStatus::TimedOut, None),
            _ => return,
        };
        let sender = self.locked().remove(&(tenant.clone(), run_id.clone()));
        if let Some(sender) = sender {
            let (ended_at, seq) = (recorded.commit.recorded_at, recorded.commit.last_seq());
            sender.send_replace(Some(RunEnd { status, ended_at, seq, failure }));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Waiting> {
        // Every holder leaves the map whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run's end to come.
pub struct RunEndWait(watch::Receiver<Option<RunEnd>>);

impl RunEndWait {
    /// The end, when it is durable. Bound the wait: a run may take days.
    pub async fn ended(mut self) -> Option<RunEnd> {
        let ended = self.0.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }
}
