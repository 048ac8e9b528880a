//! What follows when a batch has ended: callers are answered, and what did not land is sent again,
//! decided again, or given up.

use std::collections::{HashMap, HashSet, VecDeque};

use stella_domain::ids::{StreamId, Tenant};
use tokio::time::Instant;

use super::{
    Decider, Receipt, Request, WriteError, Written,
    append::{Appended, Failure},
    confirm::Unconfirmed,
    task::{PROBE_EVERY, Staged, Task},
    tenant::accepts_clock_fault,
};

/// Answers given before the next batch gets its turn.
const SETTLED_AT_ONCE: usize = 64;

/// A batch that has ended.
pub(super) struct BatchDone<D: Decider> {
    pub(super) items: Vec<Staged<D>>,
    pub(super) appended: Appended,
}

impl<D: Decider> BatchDone<D> {
    /// Whether everything that it was to do was done.
    pub(super) fn is_whole(&self) -> bool {
        self.appended.failure.is_none()
    }
}

impl<D: Decider> Task<D> {
    /// All of it is durable. What waits for it is told at once, or in slices while the next batch is
    /// under way.
    pub(super) fn whole_batch_done(&mut self, done: BatchDone<D>, in_slices: bool) {
        let written = tenants_written(&done.items, done.appended.landed);
        if !written.is_empty() {
            self.outage = None;
        }
        let told = self.certain_of(done.items, &written);
        self.settling.extend(told);
        if !in_slices {
            self.settle_all();
        }
    }

    pub(super) fn batch_done(&mut self, done: BatchDone<D>) {
        let BatchDone { items, appended } = done;
        let Appended { mut landed, mut failure } = appended;
        // Tenants whose state turned out not to be the newest, in the order of their commands.
        let mut overtaken: Vec<Tenant> = vec![];
        let mut unsent: Vec<Staged<D>> = vec![];
        // Tenants of which something is unsent: what follows builds on it and waits with it.
        let mut held: HashSet<Tenant> = HashSet::new();
        let reached = tenants_written(&items, landed);
        for tenant in &reached {
            self.take_unconfirmed(tenant).into_iter().for_each(|item| self.durable(item));
        }
        let mut items = items.into_iter();
        while let Some(item) = items.next() {
            let tenant = item.request.tenant.clone();
            match &item.commit {
                Some(_) if landed > 0 => {
                    landed -= 1;
                    self.durable(item);
                }
                // The first commit that did not land says why; the others were not tried, or share
                // its doubt.
                Some(_) => match failure.take() {
                    Some(Failure::Conflict) => {
                        held.insert(tenant.clone());
                        overtaken.push(tenant);
                        unsent.push(item);
                    }
                    Some(Failure::Unavailable(reason)) => {
                        unsent.push(item);
                        unsent.extend(items);
                        return self.outage(unsent, &reason, 0);
                    }
                    Some(Failure::Unknown { reason, commits }) => {
                        unsent.push(item);
                        unsent.extend(items);
                        return self.outage(unsent, &reason, commits);
                    }
                    None => {
                        held.insert(tenant);
                        unsent.push(item);
                    }
                },
                None if held.contains(&tenant) => unsent.push(item),
                None if self.is_certain(&item, &reached) => self.durable(item),
                None => self.await_confirmation(item),
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

    /// Tell of some of what is durable.
    pub(super) fn settle_some(&mut self) {
        for _ in 0..SETTLED_AT_ONCE {
            let Some(item) = self.settling.pop_front() else { return };
            self.durable(item);
        }
    }

    /// Tell of all that is durable.
    pub(super) fn settle_all(&mut self) {
        while let Some(item) = self.settling.pop_front() {
            self.durable(item);
        }
    }

    /// Let followers know how far their ledgers have come: once for all that was told of in one go, for
    /// each of them wakes up for it.
    pub(super) fn announce(&mut self) {
        for tenant in std::mem::take(&mut self.unannounced) {
            if let Some(head) = self.tenant(&tenant).durable_head {
                self.feed.reached(&tenant, head.next_seq);
            }
        }
    }

    /// Until the storage is back, commands are refused, but for a probe now and then.
    pub(super) fn is_down(&mut self, reason: &str) {
        if self.outage.is_none() {
            tracing::warn!(reason, "the ledger does not take writes");
        }
        self.outage = Some((reason.to_owned(), Instant::now() + PROBE_EVERY));
    }

    /// The storage takes no writes. Of `unsent`, the first `in_doubt` commits may be written, and
    /// what was answered on top of them stands and falls with them; all else that is staged was not
    /// written. Whatever is known of the ledgers is looked at again before anything is written.
    fn outage(&mut self, unsent: Vec<Staged<D>>, reason: &str, mut in_doubt: usize) {
        self.is_down(reason);
        if in_doubt > 0 {
            tracing::warn!(commits = in_doubt, "what was sent last may be written or not");
        }
        let mut doubtful: HashSet<Tenant> = HashSet::new();
        let mut streams: HashMap<Tenant, Vec<StreamId>> = HashMap::new();
        // What waits to be confirmed was decided before anything of this.
        let unconfirmed: Vec<Staged<D>> =
            self.unconfirmed.values_mut().flat_map(Unconfirmed::take).collect();
        let staged: Vec<Staged<D>> =
            unconfirmed.into_iter().chain(unsent).chain(self.staged.drain(..)).collect();
        for item in staged {
            let tenant = item.request.tenant.clone();
            let may_be_written = match &item.commit {
                Some(_) => in_doubt > 0,
                None => doubtful.contains(&tenant),
            };
            if let Some(recorded) = &item.commit {
                in_doubt = in_doubt.saturating_sub(1);
                streams.entry(tenant.clone()).or_default().push(recorded.commit.stream.clone());
            }
            let request = self.abandon(item, may_be_written);
            let reason = reason.to_owned();
            let error = if may_be_written {
                doubtful.insert(tenant);
                WriteError::OutcomeUnknown(reason)
            } else {
                WriteError::Unavailable(reason)
            };
            self.refuse(request, error);
        }
        let tenants: Vec<Tenant> = self.tenants.keys().cloned().collect();
        for tenant in tenants {
            let streams = streams.remove(&tenant).unwrap_or_default();
            self.give_up(&tenant, &streams);
        }
    }

    /// Another writer was first: drop what the tenant has staged and decide it again.
    pub(super) fn redo(&mut self, tenant: &Tenant) {
        let (staged, keep): (VecDeque<_>, VecDeque<_>) =
            self.staged.drain(..).partition(|item| item.request.tenant == *tenant);
        self.staged = keep;
        let again = self.take_unconfirmed(tenant).into_iter().chain(staged);
        let mut streams = vec![];
        let mut requests = VecDeque::new();
        for item in again {
            streams.extend(item.commit.as_ref().map(|recorded| recorded.commit.stream.clone()));
            requests.push_back(self.abandon(item, false));
        }
        let state = self.tenant(tenant);
        requests.extend(state.parked.drain(..));
        state.parked = requests;
        self.waiting.insert(tenant.clone());
        self.give_up(tenant, &streams);
    }

    /// Forget where the tenant's ledger ends, and what was staged on `streams`. It is read again
    /// when the next request comes; what others have written meanwhile then comes as news.
    pub(super) fn give_up(&mut self, tenant: &Tenant, streams: &[StreamId]) {
        self.decider.forget(tenant, streams);
        self.tenant(tenant).staged_head = None;
    }

    /// `item` is not durable, and will not become so by itself.
    pub(super) fn abandon(&mut self, item: Staged<D>, may_be_written: bool) -> Request<D> {
        let Staged { request, effects, .. } = item;
        for effect in effects {
            self.decider.abandon(&request.tenant, effect, may_be_written);
        }
        self.tenant(&request.tenant).in_flight -= 1;
        request
    }

    pub(super) fn refuse(&mut self, request: Request<D>, error: WriteError) {
        match request.reply {
            // The caller may have gone away: then there is nobody to tell.
            Some(reply) => drop(reply.send(Err(error))),
            None => self.decider.undecided(&request.tenant, request.command),
        }
    }

    pub(super) fn durable(&mut self, item: Staged<D>) {
        let Staged { request, commit, prepared: _, answer, effects, head } = item;
        let receipt = commit.as_deref().map(|recorded| Receipt {
            first_seq: recorded.commit.seq,
            last_seq: recorded.commit.last_seq(),
            hash: head.hash,
            recorded_at: recorded.commit.recorded_at,
        });
        self.tenant(&request.tenant).in_flight -= 1;
        if let Some(recorded) = &commit {
            self.decider.recorded(&request.tenant, recorded, true);
            let state = self.tenant(&request.tenant);
            state.durable_head = Some(head);
            state.seen_at = Instant::now();
            if accepts_clock_fault(recorded) {
                state.clock_fault_accepted_at = Some(recorded.commit.recorded_at);
            }
            self.feed.publish(&request.tenant, recorded);
            if self.unannounced.last() != Some(&request.tenant) {
                self.unannounced.push(request.tenant.clone());
            }
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
