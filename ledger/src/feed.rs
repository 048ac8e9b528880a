//! Following a ledger: committed events, by seq, with no gap and no repeat.
//!
//! Recent commits are kept in memory for those who keep up; who falls behind reads the ledger.
//! Nobody can hold back the writer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use stella_domain::{ids::Tenant, json::CanonicalJson};
use tokio::sync::watch;

use crate::{
    port::{Ledger, LedgerError, READ_LIMIT},
    recorded::Recorded,
};

/// Commits kept in memory per tenant.
const RECENT_COMMITS: usize = 4_096;
/// Bytes of data and payloads kept in memory per tenant.
const RECENT_BYTES: usize = 16 * 1024 * 1024;
/// How often a follower looks for commits of other writers when it hears of none.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Hands committed events to everybody who follows a ledger on this node.
pub struct Feed {
    ledger: Arc<dyn Ledger>,
    tenants: Mutex<HashMap<Tenant, Arc<TenantFeed>>>,
}

#[derive(Default)]
struct Recent {
    commits: VecDeque<Arc<Recorded>>,
    bytes: usize,
}

struct TenantFeed {
    recent: Mutex<Recent>,
    /// Events known to be durable.
    next_seq: watch::Sender<u64>,
    polled_at: Mutex<Option<Instant>>,
}

impl Feed {
    /// A feed of the commits of `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self { ledger, tenants: Mutex::default() })
    }

    /// Follow the tenant's ledger from the event `from_seq` on.
    pub fn follow(self: &Arc<Self>, tenant: &Tenant, from_seq: u64) -> Follower {
        let feed = self.tenant(tenant);
        let reached = feed.next_seq.subscribe();
        Follower {
            ledger: Arc::clone(&self.ledger),
            tenant: tenant.clone(),
            feed,
            reached,
            next_seq: from_seq,
        }
    }

    /// How many events of the tenant are known to be durable.
    pub fn next_seq(&self, tenant: &Tenant) -> u64 {
        *self.tenant(tenant).next_seq.borrow()
    }

    /// `recorded` is durable. Followers hear of it with what [`reached`](Self::reached) says next.
    pub(crate) fn publish(&self, tenant: &Tenant, recorded: &Arc<Recorded>) {
        locked(&self.tenant(tenant).recent).push(recorded);
    }

    /// The tenant's ledger is known to hold `next_seq` events.
    pub(crate) fn reached(&self, tenant: &Tenant, next_seq: u64) {
        self.tenant(tenant).reach(next_seq);
    }

    fn tenant(&self, tenant: &Tenant) -> Arc<TenantFeed> {
        let mut tenants = locked(&self.tenants);
        if let Some(feed) = tenants.get(tenant) {
            return Arc::clone(feed);
        }
        let feed = Arc::new(TenantFeed {
            recent: Mutex::default(),
            next_seq: watch::Sender::new(0),
            polled_at: Mutex::default(),
        });
        tenants.insert(tenant.clone(), Arc::clone(&feed));
        feed
    }
}

impl Recent {
    fn push(&mut self, recorded: &Arc<Recorded>) {
        let last = self.commits.back();
        let parted = last.is_some_and(|last| last.commit.head().next_seq != recorded.commit.seq);
        // What was erased is not kept in memory either. Who is behind reads the ledger.
        if parted || recorded.erasures().next().is_some() {
            *self = Self::default();
        }
        self.bytes += bytes(recorded);
        self.commits.push_back(Arc::clone(recorded));
        while self.commits.len() > RECENT_COMMITS || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.commits.pop_front() else { return };
            self.bytes -= bytes(&oldest);
        }
    }

    /// An erasure at `seq` was recorded by somebody else.
    fn forget_before(&mut self, seq: u64) {
        if self.commits.front().is_some_and(|first| first.commit.seq < seq) {
            *self = Self::default();
        }
    }
}

fn bytes(recorded: &Recorded) -> usize {
    let events = recorded.commit.events.iter();
    let payload = |json: &CanonicalJson| json.as_str().len();
    events.map(|e| e.data.as_str().len() + e.payload.json().map_or(0, payload)).sum()
}

impl TenantFeed {
    fn reach(&self, next_seq: u64) {
        self.next_seq.send_if_modified(|known| {
            let more = next_seq > *known;
            *known = next_seq.max(*known);
            more
        });
    }

    /// Another node's commits are not announced here: one follower a tenant looks for them now and
    /// then, on behalf of all.
    fn may_poll(&self) -> bool {
        let mut polled_at = locked(&self.polled_at);
        let due = polled_at.is_none_or(|at| at.elapsed() >= POLL_EVERY);
        if due {
            *polled_at = Some(Instant::now());
        }
        due
    }

    /// Recent commits from the one that begins at `from_seq` on; `None` when it is not recent.
    fn recent_from(&self, from_seq: u64, limit: usize) -> Option<Vec<Arc<Recorded>>> {
        let recent = locked(&self.recent);
        let start = recent.commits.partition_point(|recorded| recorded.commit.seq < from_seq);
        let first = recent.commits.get(start)?;
        (first.commit.seq == from_seq)
            .then(|| recent.commits.range(start..).take(limit).cloned().collect())
    }
}

/// A place in a tenant's ledger, and the way on from there.
pub struct Follower {
    ledger: Arc<dyn Ledger>,
    tenant: Tenant,
    feed: Arc<TenantFeed>,
    reached: watch::Receiver<u64>,
    next_seq: u64,
}

impl Follower {
    /// The seq of the next event that this follower will see.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether events from its place on are known to be durable.
    pub fn is_behind(&self) -> bool {
        *self.reached.borrow() > self.next_seq
    }

    /// Commits from here on, at most `limit`, as soon as there are some. The first may begin
    /// before the follower's place when that lies within a commit.
    ///
    /// Safe to cancel: the place moves only when commits are returned.
    ///
    /// # Errors
    /// [`LedgerError`]; the place stays, so that the call can be repeated.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Arc<Recorded>>, LedgerError> {
        loop {
            if *self.reached.borrow_and_update() > self.next_seq || self.feed.may_poll() {
                let commits = self.try_next(limit).await?;
                if !commits.is_empty() {
                    return Ok(commits);
                }
            }
            let _ = tokio::time::timeout(POLL_EVERY, self.reached.changed()).await;
        }
    }

    /// Like [`next`](Self::next), but returns nothing where there is nothing yet.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn try_next(&mut self, limit: usize) -> Result<Vec<Arc<Recorded>>, LedgerError> {
        let commits = self.available(limit).await?;
        if let Some(last) = commits.last() {
            self.next_seq = last.commit.head().next_seq;
        }
        Ok(commits)
    }

    async fn available(&mut self, limit: usize) -> Result<Vec<Arc<Recorded>>, LedgerError> {
        if let Some(recent) = self.feed.recent_from(self.next_seq, limit) {
            return Ok(recent);
        }
        let commits = self.ledger.read(&self.tenant, self.next_seq, limit.min(READ_LIMIT)).await?;
        if let Some(last) = commits.last() {
            self.feed.reach(last.head().next_seq);
        }
        let mut decoded = Vec::with_capacity(commits.len());
        for commit in commits {
            match Recorded::decode(commit) {
                Ok(recorded) => decoded.push(Arc::new(recorded)),
                // What stands before it comes first: whoever follows stops at the event itself.
                Err(_) if !decoded.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        let commits = decoded;
        // Another node's erasure is heard of here first.
        let erased = commits.iter().rev().find(|recorded| recorded.erasures().next().is_some());
        if let Some(erased) = erased {
            locked(&self.feed.recent).forget_before(erased.commit.seq);
        }
        Ok(commits)
    }
}

/// A poisoned lock guards plain data that every holder leaves whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
