//! The writer's loop. One batch is under way at a time; what is decided meanwhile makes the next.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use stella_domain::{
    chain::{Commit, Draft, Head},
    hash::Salt,
    ids::{LedgerId, Tenant},
    time::Timestamp,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    Decider, Request, WriteError, WriterConfig,
    append::append_resolved,
    confirm::{Confirmed, Unconfirmed},
    decider::{Decided, Decision},
    loads::{CLOCK_CHECK_EVERY, Loaded},
    salt::Salts,
    settle::BatchDone,
    skew,
    tenant::TenantState,
};
use crate::{
    feed::Feed,
    port::{Ledger, Prepared},
    recorded::Recorded,
};

/// Commits in one batch at most.
const BATCH_COMMITS: usize = 1_000;
/// Decisions that wait for a batch, and requests that wait to be decided, at most; the inbox is left
/// alone beyond that.
const STAGED_LIMIT: usize = 4 * BATCH_COMMITS;
/// Requests taken from the inbox at a time.
const TAKEN_AT_ONCE: usize = 1_024;
/// Commands that nobody asked for, decided in one go at most.
const DUE_AT_ONCE: usize = 1_024;
/// While the storage is down, one command is let through this often to see whether it is back.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A ledger that was left alone for this long is looked at before it is written on: meanwhile
/// somebody may have restored a backup, and not every storage refuses the gap.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

pub(super) struct Task<D: Decider> {
    pub(super) config: WriterConfig,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) feed: Arc<Feed>,
    pub(super) decider: D,
    pub(super) tenants: HashMap<Tenant, TenantState<D>>,
    /// Those that may have requests parked: with thousands of tenants, few do at any time.
    pub(super) waiting: HashSet<Tenant>,
    pub(super) staged: VecDeque<Staged<D>>,
    /// Durable, and still to be told to everybody.
    pub(super) settling: VecDeque<Staged<D>>,
    /// Whose followers are still to hear of what is new.
    pub(super) unannounced: Vec<Tenant>,
    pub(super) unconfirmed: HashMap<Tenant, Unconfirmed<D>>,
    pub(super) salts: Salts,
    /// Set while the storage does not take writes: why, and when to try again.
    pub(super) outage: Option<(String, Instant)>,
    /// Own clock minus the storage server's.
    pub(super) clock_skew_micros: i64,
    /// When that was found out; `None` until the first ledger is opened.
    pub(super) clock_compared_at: Option<Instant>,
}

/// A decided command that waits to become durable.
pub(super) struct Staged<D: Decider> {
    pub(super) request: Request<D>,
    pub(super) commit: Option<Arc<Recorded>>,
    /// The same, as it is written.
    pub(super) prepared: Option<Prepared>,
    pub(super) answer: D::Answer,
    pub(super) effects: Vec<D::Effect>,
    /// Where the ledger ended, for this decision, with its own commit.
    pub(super) head: Head,
}

impl<D: Decider> Task<D> {
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request<D>>, wake: Arc<Notify>) {
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut batch: Option<BoxFuture<'static, BatchDone<D>>> = None;
        let mut loads: JoinSet<Loaded<D::Fold>> = JoinSet::new();
        let mut reads: JoinSet<Confirmed> = JoinSet::new();
        let mut open_inbox = true;
        // The first time, it is part of opening a ledger.
        let first_check = Instant::now() + CLOCK_CHECK_EVERY;
        let mut clock_check = tokio::time::interval_at(first_check, CLOCK_CHECK_EVERY);
        while open_inbox
            || batch.is_some()
            || !self.staged.is_empty()
            || !loads.is_empty()
            || !reads.is_empty()
        {
            let wake_in = self.wake_in();
            tokio::select! {
                biased;
                done = async { match batch.as_mut() { Some(b) => b.await, None => std::future::pending().await } } => {
                    self.settle_all();
                    batch = None;
                    if done.is_whole() {
                        // Answering takes time, in which the storage has something to do.
                        batch = (!self.staged.is_empty()).then(|| self.next_batch());
                        self.whole_batch_done(done, batch.is_some());
                    } else {
                        self.batch_done(done);
                    }
                }
                // Between slices the batch goes on, whose connection belongs to other tasks.
                () = tokio::task::yield_now(), if !self.settling.is_empty() => self.settle_some(),
                Some(loaded) = loads.join_next(), if !loads.is_empty() => match loaded {
                    Ok(loaded) => self.loaded(loaded),
                    Err(panicked) => tracing::error!(%panicked, "a load of the writer ended badly"),
                },
                Some(confirmed) = reads.join_next(), if !reads.is_empty() => match confirmed {
                    Ok(confirmed) => self.confirmed(confirmed),
                    Err(panicked) => tracing::error!(%panicked, "a read of the writer ended badly"),
                },
                n = inbox.recv_many(&mut taken, TAKEN_AT_ONCE), if open_inbox && self.room() > 0 => {
                    open_inbox = n > 0;
                    for request in taken.drain(..) {
                        self.admit(request);
                    }
                }
                _ = clock_check.tick(), if open_inbox => self.compare_clocks(&mut loads),
                () = wake.notified(), if open_inbox => {}
                () = tokio::time::sleep(wake_in), if open_inbox => {}
            }
            self.announce();
            self.decide_due();
            self.start_loads(&mut loads);
            self.start_reads(&mut reads);
            if batch.is_none() && !self.staged.is_empty() {
                batch = Some(self.next_batch());
            }
        }
    }

    /// Until the decider may have work of its own; bounded, so that a clock that jumps is noticed.
    fn wake_in(&self) -> Duration {
        const AT_MOST: Duration = Duration::from_secs(1);
        match self.decider.wake_at() {
            // While the storage is down, what is due waits for the next probe.
            Some(_) if self.outage.is_some() => AT_MOST,
            Some(at) => Duration::from_millis(at.ms_since(self.config.clock.now())).min(AT_MOST),
            None => AT_MOST,
        }
    }

    fn decide_due(&mut self) {
        // Work of its own probes the storage too: recovery does not wait for somebody to ask.
        if self.outage.as_ref().is_some_and(|(_, probe_at)| Instant::now() < *probe_at) {
            return;
        }
        let at_once = if self.outage.is_some() { 1 } else { DUE_AT_ONCE };
        for _ in 0..self.room().min(at_once) {
            let Some((tenant, command)) = self.decider.next_due(self.config.clock.now()) else {
                return;
            };
            self.admit(Request { tenant, command, reply: None });
        }
    }

    /// How many more may wait.
    fn room(&self) -> usize {
        let states = self.waiting.iter().filter_map(|tenant| self.tenants.get(tenant));
        let parked: usize = states.map(|state| state.parked.len()).sum();
        let unconfirmed: usize = self.unconfirmed.values().map(Unconfirmed::len).sum();
        STAGED_LIMIT.saturating_sub(self.staged.len() + parked + unconfirmed)
    }

    pub(super) fn tenant(&mut self, tenant: &Tenant) -> &mut TenantState<D> {
        let config = &mut self.config;
        self.tenants.entry(tenant.clone()).or_insert_with(|| {
            let ledger = LedgerId { origin: config.origin.clone(), tenant: tenant.clone() };
            TenantState::new(ledger, config.known.remove(tenant))
        })
    }

    /// Decide `request`, or park it until what it needs is loaded; unless the storage is down.
    fn admit(&mut self, request: Request<D>) {
        if let Some((reason, probe_at)) = &mut self.outage {
            if Instant::now() < *probe_at {
                let reason = reason.clone();
                return self.refuse(request, WriteError::Unavailable(reason));
            }
            *probe_at = Instant::now() + PROBE_EVERY;
        }
        self.place(request);
    }

    /// Decide `request`, which was let in, or park it.
    pub(super) fn place(&mut self, request: Request<D>) {
        let state = self.tenant(&request.tenant);
        let at_rest = state.in_flight == 0 && !state.loading;
        if at_rest && state.seen_at.elapsed() >= TRUSTED_FOR {
            state.staged_head = None;
        }
        let undecidable = state.staged_head.is_none()
            || !self.decider.missing(&request.tenant, &request.command).is_empty();
        if undecidable { self.park(request) } else { self.decide(request) }
    }

    pub(super) fn park(&mut self, request: Request<D>) {
        if !self.waiting.contains(&request.tenant) {
            self.waiting.insert(request.tenant.clone());
        }
        self.tenant(&request.tenant).parked.push_back(request);
    }

    fn decide(&mut self, request: Request<D>) {
        let now = self.config.clock.now();
        let skew = self.clock_skew_micros;
        let state = self.tenant(&request.tenant);
        let Some(head) = state.staged_head else { return self.park(request) };
        let fault = skew::fault(now, skew, &head);
        if let Some(fault) = &fault {
            let known = state.clock_fault_accepted_at == Some(head.recorded_at);
            if !known && !self.decider.accepts_clock_fault(&request.command) {
                return self.refuse(request, WriteError::ClockFault(fault.clone()));
            }
        }
        // Time stands still while a fault is accepted; an empty ledger has no time yet.
        let stands_still = fault.is_some() && head.next_seq > 0;
        let at = if stands_still { head.recorded_at } else { now.max(head.recorded_at) };
        let Decision { commit, answer, effects } =
            self.decider.decide(&request.tenant, &request.command, at);
        let stream = commit.as_ref().map(|decided| decided.stream.clone());
        let commit = match commit.map(|decided| self.seal(&request.tenant, &head, at, decided)) {
            None => None,
            Some(Ok(commit)) => Some(Arc::new(commit)),
            Some(Err(reason)) => {
                for effect in effects {
                    self.decider.abandon(&request.tenant, effect, false);
                }
                self.give_up(&request.tenant, &Vec::from_iter(stream));
                return self.refuse(request, WriteError::Unavailable(reason));
            }
        };
        let head = commit.as_ref().map_or(head, |recorded| recorded.commit.head());
        let prepare = |recorded: &Arc<Recorded>| self.ledger.prepare(Arc::clone(&recorded.commit));
        let prepared = commit.as_ref().map(prepare);
        let state = self.tenant(&request.tenant);
        state.staged_head = Some(head);
        state.in_flight += 1;
        self.staged.push_back(Staged { request, commit, prepared, answer, effects, head });
    }

    fn seal(
        &mut self,
        tenant: &Tenant,
        head: &Head,
        at: Timestamp,
        decided: Decided,
    ) -> Result<Recorded, String> {
        let mut events = Vec::with_capacity(decided.events.len());
        for event in &decided.events {
            let event = event.encode();
            // Most have no payload to be hidden.
            let salt = if event.payload.is_some() { self.salts.next()? } else { Salt::ZERO };
            events.push((event, salt));
        }
        let draft = Draft {
            stream: decided.stream,
            stream_version: decided.stream_version,
            actor: decided.actor,
            events,
        };
        let ledger = Arc::clone(&self.tenant(tenant).ledger);
        let commit = Commit::seal(&ledger, head, at, draft).map_err(|e| e.to_string())?;
        Ok(Recorded { commit: Arc::new(commit), events: decided.events })
    }

    /// Take what is staged and send it off.
    fn next_batch(&mut self) -> BoxFuture<'static, BatchDone<D>> {
        let mut items = Vec::new();
        let mut commits = Vec::new();
        while let Some(staged) = self.staged.front() {
            if commits.len() >= BATCH_COMMITS && staged.commit.is_some() {
                break;
            }
            let Some(staged) = self.staged.pop_front() else { break };
            commits.extend(staged.prepared.clone());
            items.push(staged);
        }
        let ledger = Arc::clone(&self.ledger);
        Box::pin(async move {
            let appended = append_resolved(&*ledger, &commits).await;
            BatchDone { items, appended }
        })
    }
}
