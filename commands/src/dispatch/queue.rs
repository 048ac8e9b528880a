//! Queued steps in the order in which they go: higher priority first, then older first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use stella_domain::ids::{PluginName, RunId, StepId};

/// A step's place: priority, then the seq of its `StepQueued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey(Reverse<i32>, u64);

impl QueueKey {
    pub(super) fn new(priority: i32, seq: u64) -> Self {
        Self(Reverse(priority), seq)
    }
}

/// One tenant's queue, by plugin.
#[derive(Default)]
pub(super) struct Queue {
    plugins: HashMap<PluginName, BTreeMap<QueueKey, (RunId, StepId)>>,
}

impl Queue {
    pub(super) fn insert(
        &mut self,
        plugin: PluginName,
        key: QueueKey,
        run_id: RunId,
        step_id: StepId,
    ) {
        self.plugins.entry(plugin).or_default().insert(key, (run_id, step_id));
    }

    pub(super) fn remove(&mut self, plugin: &PluginName, key: &QueueKey) {
        if let Some(steps) = self.plugins.get_mut(plugin) {
            steps.remove(key);
            if steps.is_empty() {
                self.plugins.remove(plugin);
            }
        }
    }

    /// Whether no step of this plugin and of at least this priority waits.
    pub(super) fn none_before(&self, plugin: &PluginName, priority: i32) -> bool {
        self.first(plugin).is_none_or(|key| key.0 > Reverse(priority))
    }

    /// The place of the step of this plugin that goes next.
    pub(super) fn first(&self, plugin: &PluginName) -> Option<QueueKey> {
        self.plugins.get(plugin)?.keys().next().copied()
    }

    pub(super) fn take_first(&mut self, plugin: &PluginName) -> Option<(RunId, StepId)> {
        let steps = self.plugins.get_mut(plugin)?;
        let taken = steps.pop_first();
        if steps.is_empty() {
            self.plugins.remove(plugin);
        }
        taken.map(|(_, step)| step)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}
