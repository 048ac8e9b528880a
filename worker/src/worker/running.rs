//! The leases that a worker holds, and the one loop that keeps all of them alive.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stella_domain::ids::{FencingToken, WorkerId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::lease::{HeartbeatAnswer, Lease, LeaseSource, Verdict};

/// Heartbeats in the life of a lease: two may be lost before it is.
const BEATS_PER_TTL: u64 = 3;

/// Why a running step has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its run is being cancelled.
    Cancel,
    /// Its lease is another's, or nobody's.
    Lost,
}

/// The leases that are held.
pub(super) struct Running {
    leases: Mutex<HashMap<FencingToken, Arc<State>>>,
    /// Of all leases so far; sets the pace of the heartbeats.
    shortest_ttl_ms: AtomicU64,
    shortened: Notify,
}

struct State {
    ttl: Duration,
    cancel: CancellationToken,
    lost: CancellationToken,
    renewal: Mutex<Renewal>,
}

struct Renewal {
    at: Instant,
    stop: Option<Stop>,
}

/// A held lease; dropping it ends its heartbeats.
pub(super) struct Held<'a> {
    running: &'a Running,
    token: FencingToken,
    state: Arc<State>,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            leases: Mutex::default(),
            shortest_ttl_ms: AtomicU64::new(u64::MAX),
            shortened: Notify::new(),
        }
    }
}

impl Running {
    /// Keep `lease` alive until the answer is dropped; `stop` ends its execution.
    pub(super) fn hold(&self, lease: &Lease, stop: &CancellationToken) -> Held<'_> {
        let state = Arc::new(State {
            ttl: Duration::from_millis(lease.lease_ttl_ms),
            cancel: stop.child_token(),
            lost: CancellationToken::new(),
            renewal: Mutex::new(Renewal { at: Instant::now(), stop: None }),
        });
        self.leases().insert(lease.token.clone(), Arc::clone(&state));
        let ttl_ms = lease.lease_ttl_ms;
        if self.shortest_ttl_ms.fetch_min(ttl_ms, Ordering::Relaxed) > ttl_ms {
            self.shortened.notify_one();
        }
        Held { running: self, token: lease.token.clone(), state }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<FencingToken, Arc<State>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take note of what the server said about leases that were asked for at `asked_at`.
    fn apply(&self, answers: &[HeartbeatAnswer], asked_at: Instant) {
        let leases = self.leases();
        for answer in answers {
            let Some(state) = leases.get(&answer.token) else { continue };
            match answer.verdict {
                Verdict::Continue => state.renew(asked_at),
                Verdict::Cancel => {
                    state.renew(asked_at);
                    state.end(Stop::Cancel);
                }
                Verdict::Lost => state.end(Stop::Lost),
            }
        }
    }

    /// A lease that was not renewed for its whole term may be another's by now.
    fn end_expired(&self) {
        for state in self.leases().values() {
            let expired = state.renewal().at.elapsed() > state.ttl;
            if expired {
                state.end(Stop::Lost);
            }
        }
    }
}

impl State {
    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, at: Instant) {
        self.renewal().at = at;
    }

    fn end(&self, stop: Stop) {
        self.renewal().stop = Some(stop);
        if stop == Stop::Lost {
            self.lost.cancel();
        }
        self.cancel.cancel();
    }
}

impl Held<'_> {
    /// Cancelled when the execution has to end, whatever for.
    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.state.cancel
    }

    /// The lease is lost.
    pub(super) async fn lost(&self) {
        self.state.lost.cancelled().await;
    }

    /// Why it has to end; none if it need not, or if the worker as a whole stops.
    pub(super) fn stop(&self) -> Option<Stop> {
        self.state.renewal().stop
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.running.leases().remove(&self.token);
    }
}

/// End what is to be cancelled, where the source can say so before the next heartbeat.
async fn cancelled(running: &Running, source: &dyn LeaseSource, id: &WorkerId) {
    /// A lease is named until its end is recorded, which takes a while.
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        for token in source.cancellations(id).await {
            if let Some(state) = running.leases().get(&token) {
                state.end(Stop::Cancel);
            }
        }
        sleep(PAUSE).await;
    }
}

/// Renew all leases, for ever, three times in the shortest term seen.
pub(super) async fn heartbeats(running: &Running, source: &dyn LeaseSource, id: &WorkerId) {
    loop {
        let ttl_ms = running.shortest_ttl_ms.load(Ordering::Relaxed);
        let period = Duration::from_millis((ttl_ms / BEATS_PER_TTL).max(1));
        tokio::select! {
            () = sleep(period) => {}
            () = running.shortened.notified() => continue,
            () = cancelled(running, source, id) => {}
        }
        let tokens: Vec<_> = running.leases().keys().cloned().collect();
        if tokens.is_empty() {
            continue;
        }
        let asked_at = Instant::now();
        match timeout(period, source.heartbeat(id, &tokens)).await {
            Ok(Ok(answers)) => running.apply(&answers, asked_at),
            Ok(Err(error)) => tracing::warn!(%error, "leases were not renewed"),
            Err(_) => tracing::warn!(waited = ?period, "leases were not renewed in time"),
        }
        running.end_expired();
    }
}
