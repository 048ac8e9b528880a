//! Queued steps in the order in which they go: higher priority first, then older first; while the
//! queue is drained, older first alone.
//!
//! Steps stand in lanes: those of one plugin, one DAG and one concurrency key. All steps of a lane
//! are held back together, so that finding the next one looks at lanes, however deep they are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
};

use stella_domain::ids::{DagId, PluginName, RunId, StepId};

use super::{StepKind, holds::Holds};

/// A step's place: priority, then the seq of its `StepQueued`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueKey {
    priority: Reverse<i32>,
    seq: u64,
}

impl QueueKey {
    pub(super) fn new(priority: i32, seq: u64) -> Self {
        Self { priority: Reverse(priority), seq }
    }
}

/// What the steps of a lane share besides plugin and DAG: nothing, or a limit, of the whole DAG or
/// of a key.
type LaneId = Option<Option<String>>;

/// One tenant's queue.
#[derive(Default)]
pub(super) struct Queue {
    plugins: HashMap<PluginName, HashMap<Option<DagId>, Lanes>>,
    /// Whether priorities count for nothing.
    oldest_first: bool,
}

/// The lanes of one plugin and one DAG.
#[derive(Default)]
struct Lanes {
    lanes: HashMap<LaneId, Lane>,
    /// The first of every lane that is not known to be full.
    heads: BTreeSet<(QueueKey, LaneId)>,
}

#[derive(Default)]
struct Lane {
    steps: BTreeMap<QueueKey, (RunId, StepId)>,
    /// Versions of a DAG may differ: what the step says that was queued last holds for all.
    limit: Option<NonZeroU32>,
    /// Full when it was last looked at: as many steps run as may.
    full: bool,
}

/// A step that may go.
pub(super) struct Next {
    key: QueueKey,
    plugin: PluginName,
    dag_id: Option<DagId>,
    lane: LaneId,
}

impl Next {
    /// Where it stands among others.
    pub(super) fn place(&self) -> impl Ord + use<> {
        self.key
    }
}

impl Queue {
    pub(super) fn insert(
        &mut self,
        kind: &StepKind,
        key: QueueKey,
        run_id: RunId,
        step_id: StepId,
    ) {
        let key = self.key(key);
        let lanes = self.plugins.entry(kind.plugin.clone()).or_default();
        let lanes = lanes.entry(kind.dag_id.clone()).or_default();
        lanes.change(&lane_of(kind), |lane| {
            lane.steps.insert(key, (run_id, step_id));
            lane.limit = kind.concurrency.as_ref().map(|concurrency| concurrency.limit);
            lane.full = false;
        });
    }

    pub(super) fn remove(&mut self, kind: &StepKind, key: QueueKey) {
        let key = self.key(key);
        self.take(&kind.plugin, &kind.dag_id, &lane_of(kind), key);
    }

    /// The step of this plugin that goes next, of those that nothing holds back.
    pub(super) fn next(&mut self, plugin: &PluginName, holds: &Holds) -> Option<Next> {
        let dags = self.plugins.get_mut(plugin)?;
        if holds.of_plugin(plugin).is_some() {
            return None;
        }
        let open = dags.iter_mut().filter(|(dag_id, _)| holds.of_dag(dag_id.as_ref()).is_none());
        let first = open.filter_map(|(dag_id, lanes)| {
            let (key, lane) = lanes.first(dag_id.as_ref(), holds)?;
            Some(Next { key, plugin: plugin.clone(), dag_id: dag_id.clone(), lane })
        });
        first.min_by_key(|next| next.key)
    }

    /// Whether a step of this plugin that is queued now, with this priority, goes next.
    pub(super) fn none_before(
        &mut self,
        plugin: &PluginName,
        priority: i32,
        holds: &Holds,
    ) -> bool {
        let newest = self.key(QueueKey::new(priority, u64::MAX));
        self.next(plugin, holds).is_none_or(|next| next.key > newest)
    }

    pub(super) fn take_next(&mut self, next: &Next) -> Option<(RunId, StepId)> {
        self.take(&next.plugin, &next.dag_id, &next.lane, next.key)
    }

    /// A step of this kind runs no more: what waits behind the same limit may go.
    pub(super) fn freed(&mut self, kind: &StepKind) {
        let lane = lane_of(kind);
        if lane.is_none() {
            return;
        }
        for dags in self.plugins.values_mut() {
            if let Some(lanes) = dags.get_mut(&kind.dag_id) {
                lanes.change(&lane, |lane| lane.full = false);
            }
        }
    }

    /// An empty queue in which priorities count for nothing, or for something again.
    pub(super) fn ordered(oldest_first: bool) -> Self {
        Self { plugins: HashMap::new(), oldest_first }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }

    fn key(&self, key: QueueKey) -> QueueKey {
        if self.oldest_first { QueueKey::new(0, key.seq) } else { key }
    }

    fn take(
        &mut self,
        plugin: &PluginName,
        dag_id: &Option<DagId>,
        lane: &LaneId,
        key: QueueKey,
    ) -> Option<(RunId, StepId)> {
        let dags = self.plugins.get_mut(plugin)?;
        let lanes = dags.get_mut(dag_id)?;
        let taken = lanes.change(lane, |lane| lane.steps.remove(&key));
        if lanes.lanes.is_empty() {
            dags.remove(dag_id);
        }
        if dags.is_empty() {
            self.plugins.remove(plugin);
        }
        taken
    }
}

impl Lanes {
    /// Change a lane, and what is known of its first step with it.
    fn change<R>(&mut self, id: &LaneId, change: impl FnOnce(&mut Lane) -> R) -> R {
        let lane = self.lanes.entry(id.clone()).or_default();
        let before = lane.head();
        let result = change(lane);
        let after = lane.head();
        if lane.steps.is_empty() {
            self.lanes.remove(id);
        }
        if before != after {
            if let Some(key) = before {
                self.heads.remove(&(key, id.clone()));
            }
            if let Some(key) = after {
                self.heads.insert((key, id.clone()));
            }
        }
        result
    }

    /// The first step of a lane that is not full; lanes that are found to be full are left out
    /// until something runs no more.
    fn first(&mut self, dag_id: Option<&DagId>, holds: &Holds) -> Option<(QueueKey, LaneId)> {
        while let Some((key, id)) = self.heads.first().cloned() {
            let limit = self.lanes.get(&id).and_then(|lane| lane.limit);
            let full = match (dag_id, &id, limit) {
                (Some(dag_id), Some(shared), Some(limit)) => {
                    holds.of_key(dag_id, shared.as_ref(), limit).is_some()
                }
                _ => false,
            };
            if !full {
                return Some((key, id));
            }
            self.change(&id, |lane| lane.full = true);
        }
        None
    }
}

impl Lane {
    fn head(&self) -> Option<QueueKey> {
        if self.full { None } else { self.steps.keys().next().copied() }
    }
}

fn lane_of(kind: &StepKind) -> LaneId {
    kind.concurrency.as_ref().map(|concurrency| concurrency.key.clone())
}
