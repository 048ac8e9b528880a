//! Answers that nothing is recorded for: a repeat, a refusal. They are given once it is certain that
//! they were decided on the newest state, without keeping what is to be written waiting: a
//! linearizable read takes a storage up to a tenth of a second when nothing is written meanwhile.

use std::{collections::HashSet, sync::Arc};

use stella_domain::ids::Tenant;
use tokio::task::JoinSet;

use super::{
    Decider, WriteError,
    loads::unless_it_panics,
    task::{Staged, Task},
};
use crate::port::LedgerError;

/// Answers of one tenant that wait to be confirmed.
pub(super) struct Unconfirmed<D: Decider> {
    /// Those that the read under way speaks for: it began after they were decided.
    asked: Vec<Staged<D>>,
    /// Those that came since.
    next: Vec<Staged<D>>,
    reading: bool,
}

impl<D: Decider> Default for Unconfirmed<D> {
    fn default() -> Self {
        Self { asked: vec![], next: vec![], reading: false }
    }
}

impl<D: Decider> Unconfirmed<D> {
    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.next.len()
    }

    /// All of them, in the order in which they were decided.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Staged<D>> + use<D> {
        std::mem::take(&mut self.asked).into_iter().chain(std::mem::take(&mut self.next))
    }
}

/// What a read said: whether the tenant's ledger still ends where it was known to.
pub(super) struct Confirmed {
    tenant: Tenant,
    is_head: Result<bool, LedgerError>,
}

impl<D: Decider> Task<D> {
    /// Of a batch that has ended and wrote for the tenants `written`: what can be told, in order;
    /// the rest waits to be confirmed.
    pub(super) fn certain_of(
        &mut self,
        items: Vec<Staged<D>>,
        written: &HashSet<Tenant>,
    ) -> Vec<Staged<D>> {
        let mut told = Vec::with_capacity(items.len());
        // What this node has written next, nobody else has.
        for tenant in written {
            told.extend(self.take_unconfirmed(tenant));
        }
        for item in items {
            if self.is_certain(&item, written) {
                told.push(item)
            } else {
                self.await_confirmation(item)
            }
        }
        told
    }

    /// Whether `item`, which is not to be written any more, may be told of.
    pub(super) fn is_certain(&self, item: &Staged<D>, written: &HashSet<Tenant>) -> bool {
        // What nobody asked for is decided again when the ledger turns out to have gone on; in an
        // outage it is what shows that the storage is back.
        let own = item.request.reply.is_none() && self.outage.is_none();
        item.commit.is_some() || own || written.contains(&item.request.tenant)
    }

    pub(super) fn await_confirmation(&mut self, item: Staged<D>) {
        let tenant = &item.request.tenant;
        if !self.unconfirmed.contains_key(tenant) {
            self.unconfirmed.insert(tenant.clone(), Unconfirmed::default());
        }
        if let Some(unconfirmed) = self.unconfirmed.get_mut(tenant) {
            unconfirmed.next.push(item);
        }
    }

    pub(super) fn take_unconfirmed(&mut self, tenant: &Tenant) -> Vec<Staged<D>> {
        let unconfirmed = self.unconfirmed.get_mut(tenant);
        unconfirmed.into_iter().flat_map(Unconfirmed::take).collect()
    }

    /// Ask the storage where something waits for it, one read a tenant.
    pub(super) fn start_reads(&mut self, reads: &mut JoinSet<Confirmed>) {
        self.unconfirmed.retain(|_, of| of.reading || of.len() > 0);
        for (tenant, of) in &mut self.unconfirmed {
            let Some(newest) = of.next.last().filter(|_| !of.reading) else { continue };
            let Some(state) = self.tenants.get(tenant) else { continue };
            let (ledger, name) = (Arc::clone(&self.ledger), Arc::clone(&state.ledger));
            let next_seq = newest.head.next_seq;
            of.asked.append(&mut of.next);
            of.reading = true;
            reads.spawn(async move {
                let read = ledger.is_head(&name.tenant, next_seq);
                let is_head = unless_it_panics(&name, read).await;
                Confirmed { tenant: name.tenant.clone(), is_head }
            });
        }
    }

    pub(super) fn confirmed(&mut self, confirmed: Confirmed) {
        let Confirmed { tenant, is_head } = confirmed;
        let in_flight = self.tenant(&tenant).in_flight;
        let Some(of) = self.unconfirmed.get_mut(&tenant) else { return };
        of.reading = false;
        let asked = std::mem::take(&mut of.asked);
        match is_head {
            Ok(_) if asked.is_empty() => {}
            Ok(true) => {
                self.outage = None;
                asked.into_iter().for_each(|item| self.durable(item));
            }
            Ok(false) if in_flight > asked.len() + of.next.len() => {
                // It may be this node that went on: what becomes of that says more.
                of.next.splice(0..0, asked);
            }
            Ok(false) => {
                self.outage = None;
                of.next.splice(0..0, asked);
                self.redo(&tenant);
            }
            Err(error) => {
                for item in asked {
                    let request = self.abandon(item, false);
                    self.refuse(request, WriteError::Unavailable(error.to_string()));
                }
            }
        }
    }
}
