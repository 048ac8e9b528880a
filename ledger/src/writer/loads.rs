//! What has to be read before a parked request can be decided: where a ledger ends, and streams.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt as _};
use stella_domain::ids::{LedgerId, StreamId, Tenant};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Decider, WriteError, skew,
    task::Task,
    tenant::{Opened, open},
};
use crate::{
    port::{Ledger, LedgerError},
    recorded::Recorded,
    snapshots::{Snapshots, read_on},
};

/// Streams loaded by one query at most.
const LOADED_AT_ONCE: usize = 256;
/// Streams read from snapshots on at a time.
const READ_AT_ONCE: usize = 16;
/// How often clocks are compared.
pub(super) const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(30);

/// Reading that has ended.
pub(super) enum Loaded<F> {
    /// A ledger; with it, how far the clock is off where clocks were compared.
    Opened(Tenant, Result<(Opened, Option<i64>), LedgerError>),
    Streams(Tenant, Result<Streams<F>, LedgerError>),
    ClockSkew(Result<i64, LedgerError>),
}

/// Streams that were read.
pub(super) struct Streams<F> {
    streams: Vec<StreamId>,
    /// Of some of them what a snapshot had, and the stream version that it reaches.
    folds: Vec<(StreamId, u64, F)>,
    /// All else there is of them, by seq.
    commits: Vec<Recorded>,
    /// Streams of which something does not verify or decode.
    unreadable: Vec<(StreamId, LedgerError)>,
}

impl<D: Decider> Task<D> {
    /// Start what reading is needed before parked requests can be decided, one reading a tenant.
    pub(super) fn start_loads(&mut self, loads: &mut JoinSet<Loaded<D::Fold>>) {
        let mut ready = vec![];
        let tenants = &self.tenants;
        self.waiting.retain(|tenant| tenants.get(tenant).is_some_and(|s| !s.parked.is_empty()));
        for tenant in &self.waiting {
            let Some(state) = self.tenants.get_mut(tenant).filter(|state| !state.loading) else {
                continue;
            };
            let (ledger, tenant) = (Arc::clone(&self.ledger), tenant.clone());
            if state.staged_head.is_none() {
                // What is under way would come back as news.
                if state.in_flight > 0 {
                    continue;
                }
                state.loading = true;
                let (name, known, opened) =
                    (Arc::clone(&state.ledger), state.durable_head, state.opened);
                let due = |at: Instant| at.elapsed() >= CLOCK_CHECK_EVERY;
                let compare = self.clock_compared_at.is_none_or(due);
                let clock = compare.then(|| Arc::clone(&self.config.clock));
                let snapshots = Arc::clone(&self.config.snapshots);
                loads.spawn(async move {
                    let opening = async {
                        let opened = open(&*ledger, &*snapshots, &name, known, opened).await?;
                        let skew = match clock {
                            Some(clock) => Some(skew::compare(&*ledger, &*clock).await?),
                            None => None,
                        };
                        Ok((opened, skew))
                    };
                    let opened = unless_it_panics(&name, opening).await;
                    Loaded::Opened(tenant, opened)
                });
                continue;
            }
            let mut missing = HashSet::new();
            for request in &state.parked {
                missing.extend(self.decider.missing(&tenant, &request.command));
                if missing.len() >= LOADED_AT_ONCE {
                    break;
                }
            }
            if missing.is_empty() {
                ready.push(tenant);
                continue;
            }
            state.loading = true;
            let name = Arc::clone(&state.ledger);
            let streams: Vec<StreamId> = missing.into_iter().take(LOADED_AT_ONCE).collect();
            let snapshots = Arc::clone(&self.config.snapshots);
            loads.spawn(async move {
                let reading = read_streams::<D>(&*ledger, &*snapshots, &tenant, streams);
                let streams = unless_it_panics(&name, reading).await;
                Loaded::Streams(tenant, streams)
            });
        }
        for tenant in ready {
            self.unpark(&tenant);
        }
    }

    pub(super) fn compare_clocks(&self, loads: &mut JoinSet<Loaded<D::Fold>>) {
        let (ledger, clock) = (Arc::clone(&self.ledger), Arc::clone(&self.config.clock));
        loads.spawn(async move { Loaded::ClockSkew(skew::compare(&*ledger, &*clock).await) });
    }

    pub(super) fn loaded(&mut self, loaded: Loaded<D::Fold>) {
        match loaded {
            Loaded::Opened(tenant, Ok((opened, skew))) => {
                if let Some(skew) = skew {
                    self.clocks_compared(skew);
                }
                self.opened(&tenant, opened);
            }
            Loaded::Streams(tenant, Ok(streams)) => {
                self.tenant(&tenant).loading = false;
                // Forgotten meanwhile: the state that these belong to is being read anew.
                if self.tenant(&tenant).staged_head.is_some() {
                    self.streams_loaded(&tenant, streams);
                }
            }
            Loaded::Opened(tenant, Err(error)) | Loaded::Streams(tenant, Err(error)) => {
                self.load_failed(&tenant, error);
            }
            Loaded::ClockSkew(Ok(skew)) => self.clocks_compared(skew),
            Loaded::ClockSkew(Err(error)) => {
                tracing::debug!(%error, "could not compare clocks with the storage server");
            }
        }
    }

    fn clocks_compared(&mut self, skew_micros: i64) {
        self.clock_skew_micros = skew_micros;
        self.clock_compared_at = Some(Instant::now());
    }

    fn load_failed(&mut self, tenant: &Tenant, error: LedgerError) {
        let error = match error {
            LedgerError::Unavailable(reason) => {
                self.is_down(&reason);
                WriteError::Unavailable(reason)
            }
            other => WriteError::Unreadable(other.to_string()),
        };
        let state = self.tenant(tenant);
        state.loading = false;
        for request in std::mem::take(&mut state.parked) {
            self.refuse(request, error.clone());
        }
    }

    fn opened(&mut self, tenant: &Tenant, opened: Opened) {
        for recorded in opened.news {
            let recorded = Arc::new(recorded);
            self.decider.recorded(tenant, &recorded, false);
            self.feed.publish(tenant, &recorded);
        }
        let state = self.tenant(tenant);
        state.loading = false;
        state.opened = true;
        state.durable_head = Some(opened.head);
        state.seen_at = Instant::now();
        state.clock_fault_accepted_at =
            opened.clock_fault_accepted_at.or(state.clock_fault_accepted_at);
        // With more to read it is opened again, from there on.
        state.staged_head = (!opened.more).then_some(opened.head);
        self.feed.reached(tenant, opened.head.next_seq);
        if !opened.more {
            self.unpark(tenant);
        }
    }

    /// What cannot be read concerns those alone who need it.
    fn streams_loaded(&mut self, tenant: &Tenant, loaded: Streams<D::Fold>) {
        self.decider.load(tenant, &loaded.streams, loaded.folds, loaded.commits);
        if !loaded.unreadable.is_empty() {
            for request in std::mem::take(&mut self.tenant(tenant).parked) {
                let missing = self.decider.missing(tenant, &request.command);
                let concerns = |(stream, _): &&(StreamId, _)| missing.contains(stream);
                match loaded.unreadable.iter().find(concerns) {
                    Some((stream, error)) => {
                        let reason = format!("{stream}: {error}");
                        self.refuse(request, WriteError::Unreadable(reason));
                    }
                    None => self.park(request),
                }
            }
        }
        self.unpark(tenant);
    }

    fn unpark(&mut self, tenant: &Tenant) {
        let parked = std::mem::take(&mut self.tenant(tenant).parked);
        for request in parked {
            self.place(request);
        }
    }
}

/// A reading that panics has failed: those who wait for it are told.
pub(super) async fn unless_it_panics<T>(
    name: &LedgerId,
    reading: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    AssertUnwindSafe(reading).catch_unwind().await.unwrap_or_else(|_| {
        let reason = "reading it panicked, which the log has more about".to_owned();
        Err(LedgerError::Malformed { id: format!("(of {name})"), reason })
    })
}

/// Read `streams`: from a snapshot on where there is one, the others all at once; where something of
/// them cannot be read, halves of them, until it is known of which.
async fn read_streams<D: Decider>(
    ledger: &dyn Ledger,
    snapshots: &dyn Snapshots,
    tenant: &Tenant,
    asked: Vec<StreamId>,
) -> Result<Streams<D::Fold>, LedgerError> {
    let (streams, folds, commits, unreadable) = (vec![], vec![], vec![], vec![]);
    let mut loaded = Streams { streams, folds, commits, unreadable };
    let reading = asked.into_iter().map(async |stream| {
        let fold = |state: &str| D::fold(&stream, state);
        let read = read_on(ledger, snapshots, tenant, &stream, fold).await;
        (stream, read)
    });
    let mut reading = futures::stream::iter(reading).buffer_unordered(READ_AT_ONCE);
    let mut whole = vec![];
    while let Some((stream, read)) = reading.next().await {
        match read {
            Ok(Some(read)) => {
                loaded.streams.push(stream.clone());
                loaded.commits.extend(read.commits);
                loaded.folds.push((stream, read.version, read.fold));
            }
            Err(error @ LedgerError::Unavailable(_)) => return Err(error),
            // Read whole, it is found out what is wrong with it.
            Ok(None) | Err(_) => whole.push(stream),
        }
    }
    let mut open = Vec::from_iter((!whole.is_empty()).then_some(whole));
    while let Some(mut streams) = open.pop() {
        match read_all(ledger, tenant, &streams).await {
            Ok(commits) => {
                loaded.streams.append(&mut streams);
                loaded.commits.extend(commits);
            }
            Err(error @ LedgerError::Unavailable(_)) => return Err(error),
            Err(error) => {
                let half = streams.split_off(streams.len() / 2);
                match streams.is_empty() {
                    true => loaded.unreadable.extend(half.into_iter().map(|s| (s, error.clone()))),
                    false => open.extend([streams, half]),
                }
            }
        }
    }
    loaded.commits.sort_by_key(|recorded| recorded.commit.seq);
    Ok(loaded)
}

async fn read_all(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    streams: &[StreamId],
) -> Result<Vec<Recorded>, LedgerError> {
    let commits = ledger.read_streams(tenant, streams).await?;
    Ok(commits.into_iter().map(Recorded::decode).collect::<Result<_, _>>()?)
}
