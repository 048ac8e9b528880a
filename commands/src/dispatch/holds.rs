//! What keeps steps from being leased: pauses, and limits of how much runs at once.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    num::NonZeroU32,
};

use stella_domain::{
    aggregate::Control,
    event::{LimitScope, StepConcurrency},
    ids::{DagId, PluginName},
};

use super::StepKind;

/// Why a step is not leased although it is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Dispatch is paused.
    DispatchPaused,
    /// Its plugin is paused.
    PluginPaused(PluginName),
    /// Its DAG is paused.
    DagPaused(DagId),
    /// As many steps run as an operator lets.
    Limit {
        /// Of which steps.
        scope: LimitScope,
        /// How many.
        limit: NonZeroU32,
    },
    /// As many steps run as the DAG's `concurrency` lets, of the DAG or with the same key.
    Concurrency {
        /// How many.
        limit: NonZeroU32,
        /// Whether only those that share a key count.
        keyed: bool,
    },
}

/// Pauses and limits of a tenant, and what counts against them: leases, and places of workers that
/// are claimed for a lease.
#[derive(Default)]
pub(super) struct Holds {
    pub(super) control: Control,
    pub(super) paused_dags: BTreeSet<DagId>,
    running: u32,
    by_plugin: HashMap<PluginName, u32>,
    by_dag: HashMap<DagId, u32>,
    by_key: HashMap<(DagId, Option<String>), u32>,
}

impl Holds {
    /// What keeps a step of this kind, whichever it is.
    pub(super) fn of(&self, kind: &StepKind) -> Option<Hold> {
        let of_key = || {
            let (dag_id, shared) = (kind.dag_id.as_ref()?, kind.concurrency.as_ref()?);
            self.of_key(dag_id, shared.key.as_ref(), shared.limit)
        };
        self.of_plugin(&kind.plugin).or_else(|| self.of_dag(kind.dag_id.as_ref())).or_else(of_key)
    }

    pub(super) fn of_plugin(&self, plugin: &PluginName) -> Option<Hold> {
        if self.control.dispatch_paused {
            return Some(Hold::DispatchPaused);
        }
        if self.control.plugins_paused.contains(plugin) {
            return Some(Hold::PluginPaused(plugin.clone()));
        }
        let of_plugin = || LimitScope::Plugin(plugin.clone());
        self.at_limit(|| LimitScope::Tenant, self.running)
            .or_else(|| self.at_limit(of_plugin, count(&self.by_plugin, plugin)))
    }

    pub(super) fn of_dag(&self, dag_id: Option<&DagId>) -> Option<Hold> {
        let dag_id = dag_id?;
        if self.paused_dags.contains(dag_id) {
            return Some(Hold::DagPaused(dag_id.clone()));
        }
        self.at_limit(|| LimitScope::Dag(dag_id.clone()), count(&self.by_dag, dag_id))
    }

    pub(super) fn of_key(
        &self,
        dag_id: &DagId,
        key: Option<&String>,
        limit: NonZeroU32,
    ) -> Option<Hold> {
        let running = count(&self.by_key, &(dag_id.clone(), key.cloned()));
        let held = Hold::Concurrency { limit, keyed: key.is_some() };
        (running >= limit.get()).then_some(held)
    }

    /// A step of this kind runs, or is about to.
    pub(super) fn take(&mut self, kind: &StepKind) {
        self.running += 1;
        *self.by_plugin.entry(kind.plugin.clone()).or_default() += 1;
        let Some(dag_id) = &kind.dag_id else { return };
        *self.by_dag.entry(dag_id.clone()).or_default() += 1;
        if let Some(StepConcurrency { key, .. }) = &kind.concurrency {
            *self.by_key.entry((dag_id.clone(), key.clone())).or_default() += 1;
        }
    }

    /// It runs no more, or did not come to it.
    pub(super) fn give_back(&mut self, kind: &StepKind) {
        self.running = self.running.saturating_sub(1);
        uncount(&mut self.by_plugin, &kind.plugin);
        let Some(dag_id) = &kind.dag_id else { return };
        uncount(&mut self.by_dag, dag_id);
        if let Some(StepConcurrency { key, .. }) = &kind.concurrency {
            uncount(&mut self.by_key, &(dag_id.clone(), key.clone()));
        }
    }

    fn at_limit(&self, scope: impl Fn() -> LimitScope, running: u32) -> Option<Hold> {
        if self.control.limits.is_empty() {
            return None;
        }
        let scope = scope();
        let limit = *self.control.limits.get(&scope)?;
        (running >= limit.get()).then_some(Hold::Limit { scope, limit })
    }
}

fn count<K: Eq + Hash>(counts: &HashMap<K, u32>, of: &K) -> u32 {
    counts.get(of).copied().unwrap_or(0)
}

fn uncount<K: Eq + Hash>(counts: &mut HashMap<K, u32>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}
