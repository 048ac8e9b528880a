//! Which workers there are: those that have asked for work or renewed a lease lately.

use std::{collections::HashMap, sync::Arc};

use stella_domain::{
    ids::{PluginName, WorkerId},
    plugin::WorkerPlugin,
    time::Timestamp,
};

/// A worker that was not heard of for so long is gone; a heartbeat comes every few seconds.
pub const WORKER_GONE_MS: u64 = 120_000;
/// Workers remembered; those that were quiet longest are forgotten first.
const WORKERS: usize = 10_000;

/// A worker that was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenWorker {
    /// The worker.
    pub worker_id: WorkerId,
    /// The plugins that it has asked for last.
    pub plugins: Arc<[WorkerPlugin]>,
    /// When it was heard of last.
    pub seen_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Workers {
    by_id: HashMap<WorkerId, (Arc<[WorkerPlugin]>, Timestamp)>,
    /// When a worker last asked for a plugin.
    by_plugin: HashMap<PluginName, Timestamp>,
}

impl Workers {
    /// It asks for work.
    pub(super) fn asks(&mut self, id: &WorkerId, plugins: &Arc<[WorkerPlugin]>, now: Timestamp) {
        for plugin in plugins.iter() {
            self.by_plugin.insert(plugin.name.clone(), now);
        }
        self.by_id.insert(id.clone(), (Arc::clone(plugins), now));
        if self.by_id.len() > WORKERS {
            let quietest = self.by_id.iter().min_by_key(|(_, (_, seen_at))| *seen_at);
            if let Some(id) = quietest.map(|(id, _)| id.clone()) {
                self.by_id.remove(&id);
            }
        }
        if self.by_plugin.len() > WORKERS {
            self.by_plugin.retain(|_, seen_at| now.ms_since(*seen_at) < WORKER_GONE_MS);
        }
    }

    /// It ends: nobody has to wait for it to be missed.
    pub(super) fn leaves(&mut self, id: &WorkerId) {
        let Some((plugins, _)) = self.by_id.remove(id) else { return };
        for plugin in plugins.iter() {
            let has = |of: &[WorkerPlugin]| of.iter().any(|has| has.name == plugin.name);
            let others = self.by_id.values().filter(|(of, _)| has(of));
            match others.map(|(_, seen_at)| *seen_at).max() {
                Some(seen_at) => drop(self.by_plugin.insert(plugin.name.clone(), seen_at)),
                None => drop(self.by_plugin.remove(&plugin.name)),
            }
        }
    }

    /// It is at work.
    pub(super) fn renews(&mut self, id: &WorkerId, now: Timestamp) {
        let Some((plugins, seen_at)) = self.by_id.get_mut(id) else { return };
        *seen_at = now;
        for plugin in plugins.iter() {
            self.by_plugin.insert(plugin.name.clone(), now);
        }
    }

    /// Whether a worker for this plugin was heard of lately.
    pub(super) fn have(&self, plugin: &PluginName, now: Timestamp) -> bool {
        let seen_at = self.by_plugin.get(plugin);
        seen_at.is_some_and(|seen_at| now.ms_since(*seen_at) < WORKER_GONE_MS)
    }

    pub(super) fn heard_of(&self, now: Timestamp) -> Vec<SeenWorker> {
        let lately = |seen_at: Timestamp| now.ms_since(seen_at) < WORKER_GONE_MS;
        let workers = self.by_id.iter().filter(|(_, (_, seen_at))| lately(*seen_at));
        let mut workers: Vec<SeenWorker> = workers
            .map(|(worker_id, (plugins, seen_at))| SeenWorker {
                worker_id: worker_id.clone(),
                plugins: Arc::clone(plugins),
                seen_at: *seen_at,
            })
            .collect();
        workers.sort_by(|a, b| a.worker_id.cmp(&b.worker_id));
        workers
    }
}
