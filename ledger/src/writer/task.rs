//! The writer's loop. One batch is under way at a time; what is decided meanwhile makes the next.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use stella_domain::{
    chain::{Commit, Draft, Head},
    ids::{LedgerId, StreamId, Tenant},
    limits::CLOCK_TOLERANCE_MICROS,
    time::Timestamp,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    Decider, Receipt, Request, WriteError, WriterConfig, Written,
    append::{Appended, Failure, append_resolved},
    decider::{Decided, Decision},
    salt::Salts,
    tenant::{Opened, TenantState, accepts_clock_fault, open},
};
use crate::{
    feed::Feed,
    port::{Ledger, LedgerError},
    recorded::Recorded,
};

/// Commits in one batch at most.
const BATCH_COMMITS: usize = 1_000;
/// Decisions that wait for a batch at most; the inbox is left alone beyond that.
const STAGED_LIMIT: usize = 4 * BATCH_COMMITS;
/// Requests taken from the inbox at a time.
const TAKEN_AT_ONCE: usize = 1_024;
/// Commands that nobody asked for, decided in one go at most.
const DUE_AT_ONCE: usize = 1_024;
/// Streams loaded by one query at most.
const LOADED_AT_ONCE: usize = 256;
/// While the storage is down, one command is let through this often to see whether it is back.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const CLOCK_CHECK_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Task<D: Decider> {
    pub(super) config: WriterConfig,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) feed: Arc<Feed>,
    pub(super) decider: D,
    pub(super) tenants: HashMap<Tenant, TenantState<D>>,
    pub(super) staged: VecDeque<Staged<D>>,
    pub(super) salts: Salts,
    /// Set while the storage does not take writes: why, and when to try again.
    pub(super) outage: Option<(String, Instant)>,
    /// Own clock minus the storage server's.
    pub(super) clock_skew_micros: i64,
}

/// A decided command that waits to become durable.
pub(super) struct Staged<D: Decider> {
    request: Request<D>,
    commit: Option<Arc<Recorded>>,
    answer: D::Answer,
    effects: Vec<D::Effect>,
    /// Where the ledger ended, for this decision, with its own commit.
    head: Head,
}

/// A batch that has ended.
struct BatchDone<D: Decider> {
    items: Vec<Staged<D>>,
    appended: Appended,
    /// For tenants of which the batch wrote nothing: whether what was answered is the newest state.
    confirmed: HashMap<Tenant, Result<bool, LedgerError>>,
}

/// Reading that has ended.
enum Loaded {
    Opened(Tenant, Result<Opened, LedgerError>),
    Streams(Tenant, Vec<StreamId>, Result<Vec<Recorded>, LedgerError>),
    ServerTime(Timestamp, Result<Option<Timestamp>, LedgerError>),
}

impl<D: Decider> Task<D> {
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request<D>>, wake: Arc<Notify>) {
        let mut taken = Vec::with_capacity(TAKEN_AT_ONCE);
        let mut batch: Option<BoxFuture<'static, BatchDone<D>>> = None;
        let mut loads: JoinSet<Loaded> = JoinSet::new();
        let mut open_inbox = true;
        let mut clock_check = tokio::time::interval(CLOCK_CHECK_EVERY);
        while open_inbox || batch.is_some() || !self.staged.is_empty() || !loads.is_empty() {
            let wake_in = self.wake_in();
            tokio::select! {
                biased;
                done = async { match batch.as_mut() { Some(b) => b.await, None => std::future::pending().await } } => {
                    batch = None;
                    self.batch_done(done);
                }
                Some(loaded) = loads.join_next(), if !loads.is_empty() => match loaded {
                    Ok(loaded) => self.loaded(loaded),
                    Err(panicked) => tracing::error!(%panicked, "a load of the writer ended badly"),
                },
                n = inbox.recv_many(&mut taken, TAKEN_AT_ONCE), if open_inbox && self.staged.len() < STAGED_LIMIT => {
                    open_inbox = n > 0;
                    for request in taken.drain(..) {
                        self.admit(request);
                    }
                }
                _ = clock_check.tick(), if open_inbox => {
                    let (ledger, clock) = (Arc::clone(&self.ledger), Arc::clone(&self.config.clock));
                    loads.spawn(async move {
                        let server = ledger.server_time().await;
                        Loaded::ServerTime(clock.now(), server)
                    });
                }
                () = wake.notified(), if open_inbox => {}
                () = tokio::time::sleep(wake_in), if open_inbox => {}
            }
            self.decide_due();
            self.start_loads(&mut loads);
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
        for _ in 0..at_once {
            if self.staged.len() >= STAGED_LIMIT {
                return;
            }
            let Some((tenant, command)) = self.decider.next_due(self.config.clock.now()) else {
                return;
            };
            self.admit(Request { tenant, command, reply: None });
        }
    }

    fn tenant(&mut self, tenant: &Tenant) -> &mut TenantState<D> {
        let config = &mut self.config;
        self.tenants.entry(tenant.clone()).or_insert_with(|| {
            let ledger = LedgerId { origin: config.origin.clone(), tenant: tenant.clone() };
            TenantState::new(ledger, config.known.remove(tenant))
        })
    }

    /// Decide `request`, or park it until what it needs is loaded.
    fn admit(&mut self, request: Request<D>) {
        if let Some((reason, probe_at)) = &mut self.outage {
            if Instant::now() < *probe_at {
                let reason = reason.clone();
                return self.refuse(request, WriteError::Unavailable(reason));
            }
            *probe_at = Instant::now() + PROBE_EVERY;
        }
        let state = self.tenant(&request.tenant);
        if state.staged_head.is_none() {
            return state.parked.push_back(request);
        }
        if !self.decider.missing(&request.tenant, &request.command).is_empty() {
            return self.tenant(&request.tenant).parked.push_back(request);
        }
        self.decide(request);
    }

    fn decide(&mut self, request: Request<D>) {
        let now = self.config.clock.now();
        let skew = self.clock_skew_micros;
        let state = self.tenant(&request.tenant);
        let Some(head) = state.staged_head else { return state.parked.push_back(request) };
        let fault = clock_fault(now, skew, &head);
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
        let commit = match commit.map(|decided| self.seal(&request.tenant, &head, at, decided)) {
            None => None,
            Some(Ok(commit)) => Some(Arc::new(commit)),
            Some(Err(reason)) => {
                for effect in effects {
                    self.decider.abandon(&request.tenant, effect);
                }
                self.give_up(&request.tenant.clone());
                return self.refuse(request, WriteError::Unavailable(reason));
            }
        };
        let head = commit.as_ref().map_or(head, |recorded| recorded.commit.head());
        self.tenant(&request.tenant).staged_head = Some(head);
        self.staged.push_back(Staged { request, commit, answer, effects, head });
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
            events.push((event.encode(), self.salts.next()?));
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

    /// Start what reading is needed before parked requests can be decided, one reading a tenant.
    fn start_loads(&mut self, loads: &mut JoinSet<Loaded>) {
        let mut ready = vec![];
        for (tenant, state) in &mut self.tenants {
            if state.loading || state.parked.is_empty() {
                continue;
            }
            let (ledger, tenant) = (Arc::clone(&self.ledger), tenant.clone());
            if state.staged_head.is_none() {
                state.loading = true;
                let (known, opened) = (state.durable_head, state.opened);
                loads.spawn(async move {
                    let opened = open(&*ledger, &tenant, known, opened).await;
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
            let streams: Vec<StreamId> = missing.into_iter().take(LOADED_AT_ONCE).collect();
            loads.spawn(async move {
                let commits = read_streams(&*ledger, &tenant, &streams).await;
                Loaded::Streams(tenant, streams, commits)
            });
        }
        for tenant in ready {
            self.unpark(&tenant);
        }
    }

    fn loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Opened(tenant, Ok(opened)) => self.opened(&tenant, opened),
            Loaded::Streams(tenant, streams, Ok(commits)) => {
                self.tenant(&tenant).loading = false;
                // Forgotten meanwhile: the state that these belong to is being read anew.
                if self.tenant(&tenant).staged_head.is_some() {
                    self.decider.load(&tenant, &streams, commits);
                    self.unpark(&tenant);
                }
            }
            Loaded::Opened(tenant, Err(error)) | Loaded::Streams(tenant, _, Err(error)) => {
                let error = match error {
                    LedgerError::Unavailable(reason) => {
                        self.outage = Some((reason.clone(), Instant::now() + PROBE_EVERY));
                        WriteError::Unavailable(reason)
                    }
                    other => WriteError::Unreadable(other.to_string()),
                };
                let state = self.tenant(&tenant);
                state.loading = false;
                for request in std::mem::take(&mut state.parked) {
                    self.refuse(request, error.clone());
                }
            }
            Loaded::ServerTime(now, Ok(server)) => {
                self.clock_skew_micros =
                    server.map_or(0, |server| now.as_micros() - server.as_micros());
            }
            Loaded::ServerTime(_, Err(error)) => {
                tracing::debug!(%error, "could not compare clocks with the storage server");
            }
        }
    }

    fn opened(&mut self, tenant: &Tenant, opened: Opened) {
        self.outage = None;
        for recorded in opened.news {
            let recorded = Arc::new(recorded);
            self.decider.recorded(tenant, &recorded, false);
            self.feed.publish(tenant, &recorded);
        }
        let state = self.tenant(tenant);
        state.loading = false;
        state.opened = true;
        state.staged_head = Some(opened.head);
        state.durable_head = Some(opened.head);
        state.clock_fault_accepted_at =
            opened.clock_fault_accepted_at.or(state.clock_fault_accepted_at);
        self.feed.reached(tenant, opened.head.next_seq);
        self.unpark(tenant);
    }

    fn unpark(&mut self, tenant: &Tenant) {
        let parked = std::mem::take(&mut self.tenant(tenant).parked);
        for request in parked {
            self.admit(request);
        }
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
            commits.extend(staged.commit.clone());
            items.push(staged);
        }
        let written: HashSet<&Tenant> = commits.iter().map(|c| &c.commit.ledger.tenant).collect();
        let to_confirm: HashMap<Tenant, u64> = items
            .iter()
            .filter(|item| item.commit.is_none() && !written.contains(&item.request.tenant))
            .map(|item| (item.request.tenant.clone(), item.head.next_seq))
            .collect();
        let ledger = Arc::clone(&self.ledger);
        Box::pin(async move {
            let confirm = futures::future::join_all(to_confirm.into_iter().map(
                async |(tenant, next_seq)| {
                    let confirmed = ledger.is_head(&tenant, next_seq).await;
                    (tenant, confirmed)
                },
            ));
            let commits: Vec<Arc<Commit>> =
                commits.iter().map(|recorded| Arc::clone(&recorded.commit)).collect();
            let (appended, confirmed) =
                futures::future::join(append_resolved(&*ledger, &commits), confirm).await;
            BatchDone { items, appended, confirmed: confirmed.into_iter().collect() }
        })
    }

    fn batch_done(&mut self, done: BatchDone<D>) {
        let BatchDone { items, appended, confirmed } = done;
        let mut landed = appended.landed;
        let mut failure = appended.failure;
        // Tenants whose state turned out not to be the newest, in the order of their commands.
        let mut overtaken: Vec<Tenant> = vec![];
        let mut unsent: Vec<Staged<D>> = vec![];
        // Tenants of which something is unsent: what follows builds on it and waits with it.
        let mut held: HashSet<Tenant> = HashSet::new();
        let reached = tenants_written(&items, landed);
        if failure.is_none() && !items.is_empty() {
            self.outage = None;
        }
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let tenant = item.request.tenant.clone();
            match &item.commit {
                Some(_) if landed > 0 => {
                    landed -= 1;
                    self.durable(item);
                }
                // The first commit that did not land says why; the others were not tried.
                Some(_) => match failure.take() {
                    Some(Failure::Conflict) => {
                        held.insert(tenant.clone());
                        overtaken.push(tenant);
                        unsent.push(item);
                    }
                    Some(Failure::Unknown(reason)) => {
                        let error = WriteError::OutcomeUnknown(reason.clone());
                        self.abandon(item, Some(error));
                        unsent.extend(items);
                        return self.outage(unsent, reason, tenant);
                    }
                    Some(Failure::Unavailable(reason)) => {
                        unsent.push(item);
                        unsent.extend(items);
                        return self.outage(unsent, reason, tenant);
                    }
                    None => {
                        held.insert(tenant);
                        unsent.push(item);
                    }
                },
                None if held.contains(&tenant) => unsent.push(item),
                None => match confirmed.get(&tenant) {
                    Some(Ok(true)) => self.durable(item),
                    // A commit of the tenant that landed in this batch shows that nobody else had
                    // written before it. If none landed, the answer may be stale.
                    None if reached.contains(&tenant) => self.durable(item),
                    None => {
                        held.insert(tenant);
                        unsent.push(item);
                    }
                    Some(Ok(false)) => {
                        held.insert(tenant.clone());
                        overtaken.push(tenant);
                        unsent.push(item);
                    }
                    Some(Err(error)) => {
                        let error = WriteError::Unavailable(error.to_string());
                        self.abandon(item, Some(error));
                    }
                },
            }
        }
        // What did not land and was not overtaken is sent again, before what was staged since.
        for item in unsent.into_iter().rev() {
            self.staged.push_front(item);
        }
        for tenant in overtaken {
            self.redo(&tenant);
        }
    }

    /// The storage takes no writes: whatever is staged is answered so, and was not written.
    fn outage(&mut self, unsent: Vec<Staged<D>>, reason: String, tenant: Tenant) {
        tracing::warn!(reason, "the ledger does not take writes");
        self.outage = Some((reason.clone(), Instant::now() + PROBE_EVERY));
        let mut tenants = HashSet::from([tenant]);
        let staged: Vec<Staged<D>> = unsent.into_iter().chain(self.staged.drain(..)).collect();
        for item in staged.into_iter().rev() {
            tenants.insert(item.request.tenant.clone());
            self.abandon(item, Some(WriteError::Unavailable(reason.clone())));
        }
        for tenant in tenants {
            self.give_up(&tenant);
        }
    }

    /// Another writer was first: drop what the tenant has staged and decide it again.
    fn redo(&mut self, tenant: &Tenant) {
        let (again, keep): (VecDeque<_>, VecDeque<_>) =
            self.staged.drain(..).partition(|item| item.request.tenant == *tenant);
        self.staged = keep;
        let mut requests = VecDeque::new();
        for item in again.into_iter().rev() {
            if let Some(request) = self.abandon(item, None) {
                requests.push_front(request);
            }
        }
        let state = self.tenant(tenant);
        requests.extend(state.parked.drain(..));
        state.parked = requests;
        self.give_up(tenant);
    }

    /// Forget the tenant's state; it is read again when the next request comes.
    fn give_up(&mut self, tenant: &Tenant) {
        self.decider.forget(tenant);
        self.tenant(tenant).staged_head = None;
    }

    fn abandon(&mut self, item: Staged<D>, error: Option<WriteError>) -> Option<Request<D>> {
        for effect in item.effects {
            self.decider.abandon(&item.request.tenant, effect);
        }
        match error {
            Some(error) => {
                self.refuse(item.request, error);
                None
            }
            None => Some(item.request),
        }
    }

    fn refuse(&mut self, request: Request<D>, error: WriteError) {
        match request.reply {
            // The caller may have gone away: then there is nobody to tell.
            Some(reply) => drop(reply.send(Err(error))),
            None => self.decider.undecided(&request.tenant, request.command),
        }
    }

    fn durable(&mut self, item: Staged<D>) {
        let Staged { request, commit, answer, effects, head } = item;
        let receipt = commit.as_deref().map(|recorded| Receipt {
            first_seq: recorded.commit.seq,
            last_seq: recorded.commit.last_seq(),
            hash: head.hash,
            recorded_at: recorded.commit.recorded_at,
        });
        if let Some(recorded) = &commit {
            self.decider.recorded(&request.tenant, recorded, true);
            let state = self.tenant(&request.tenant);
            state.durable_head = Some(head);
            if accepts_clock_fault(recorded) {
                state.clock_fault_accepted_at = Some(recorded.commit.recorded_at);
            }
            self.feed.publish(&request.tenant, recorded);
        }
        for effect in effects {
            self.decider.perform(&request.tenant, effect);
        }
        if let Some(reply) = request.reply {
            let as_of = head.next_seq.saturating_sub(1);
            // The caller may have gone away; what is recorded stays recorded.
            let _ = reply.send(Ok(Written { answer, receipt, as_of }));
        }
    }
}

/// The tenants of the first `landed` commits among `items`.
fn tenants_written<D: Decider>(items: &[Staged<D>], landed: usize) -> HashSet<Tenant> {
    let written = items.iter().filter(|item| item.commit.is_some()).take(landed);
    written.map(|item| item.request.tenant.clone()).collect()
}

async fn read_streams(
    ledger: &dyn Ledger,
    tenant: &Tenant,
    streams: &[StreamId],
) -> Result<Vec<Recorded>, LedgerError> {
    let commits = ledger.read_streams(tenant, streams).await?;
    Ok(commits.into_iter().map(Recorded::decode).collect::<Result<_, _>>()?)
}

/// What is wrong with the clock, if anything is (ledger format, section 4).
fn clock_fault(now: Timestamp, skew_micros: i64, head: &Head) -> Option<String> {
    let seconds = |micros: i64| micros / 1_000_000;
    let behind = head.recorded_at.as_micros() - now.as_micros();
    if behind > CLOCK_TOLERANCE_MICROS {
        let last = head.recorded_at;
        return Some(format!("it stands {} s behind the last event ({last})", seconds(behind)));
    }
    if skew_micros.abs() > CLOCK_TOLERANCE_MICROS {
        let skew = seconds(skew_micros);
        return Some(format!("it differs by {skew} s from the storage server's"));
    }
    None
}
