//! What tenants have had of the workers that they share, for their weights: who has had least goes
//! first (stride scheduling).

use std::{collections::HashMap, num::NonZeroU32};

use stella_domain::ids::Tenant;

/// What a lease costs a tenant of weight 1.
const COST: u64 = 1 << 24;

#[derive(Default)]
pub(super) struct Shares {
    tenants: HashMap<Tenant, Share>,
    /// What the tenant had had that was served last, before it was: it rises only. Who comes back after
    /// a while goes on from here, and has saved nothing up.
    reached: u64,
}

struct Share {
    had: u64,
    weight: NonZeroU32,
}

impl Default for Share {
    fn default() -> Self {
        Self { had: 0, weight: NonZeroU32::MIN }
    }
}

impl Shares {
    pub(super) fn set_weight(&mut self, tenant: &Tenant, weight: NonZeroU32) {
        self.tenants.entry(tenant.clone()).or_default().weight = weight;
    }

    /// What the tenant has had: least goes first.
    pub(super) fn had(&self, tenant: &Tenant) -> u64 {
        self.tenants.get(tenant).map_or(0, |share| share.had)
    }

    /// The tenant gets a place of a worker.
    pub(super) fn serve(&mut self, tenant: &Tenant) {
        let share = self.tenants.entry(tenant.clone()).or_default();
        self.reached = self.reached.max(share.had);
        share.had = self.reached + COST / u64::from(share.weight.get());
    }
}
