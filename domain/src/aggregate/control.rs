//! What operators hold back, as an aggregate: dispatch, schedules, admission, and how much runs at
//! once.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use serde::{Deserialize, Serialize};

use super::Aggregate;
use crate::{
    event::{
        ConcurrencyLimitSet, ControlEvent, DispatchScope, DrainEnded, DrainStarted, LimitScope,
        NoData, Reason,
    },
    ids::PluginName,
};

/// State of the stream `control/<tenant>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// Whether no step is leased.
    pub dispatch_paused: bool,
    /// Plugins of which no step is leased.
    pub plugins_paused: BTreeSet<PluginName>,
    /// Whether no schedule fires.
    pub schedulers_paused: bool,
    /// While the queue is being drained: no run is admitted.
    pub draining: Option<DrainStarted>,
    /// Steps that run at once at most.
    #[serde(with = "as_list")]
    pub limits: BTreeMap<LimitScope, NonZeroU32>,
    /// Events in the stream.
    pub version: u64,
}

/// Members of JSON objects are named by texts, and scopes are more than that.
mod as_list {
    use std::{collections::BTreeMap, num::NonZeroU32};

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::event::LimitScope;

    type Limits = BTreeMap<LimitScope, NonZeroU32>;

    pub(super) fn serialize<S: Serializer>(limits: &Limits, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(limits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Limits, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

/// What can be asked. Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ControlChange {
    /// Lease no step, or none of a plugin.
    PauseDispatch {
        /// The plugin; none means everything.
        plugin: Option<PluginName>,
    },
    /// Lease steps again. For everything, this also ends a drain.
    ResumeDispatch {
        /// The plugin; none means everything.
        plugin: Option<PluginName>,
    },
    /// Let no schedule fire.
    PauseSchedulers,
    /// Let schedules fire again.
    ResumeSchedulers,
    /// Admit no run until what there is has ended.
    StartDrain {
        /// Whether dispatch is paused then; as it was decided before, where nothing is said.
        then_pause: Option<bool>,
    },
    /// Nothing is left.
    Drained,
    /// Let so many steps run at once at most.
    SetLimit {
        /// Of which steps.
        scope: LimitScope,
        /// How many; none lifts the limit.
        limit: Option<NonZeroU32>,
    },
    /// Have workers load their plugins again: it is asked for each time anew.
    WarmWorkers,
}

/// A change, and why.
#[derive(Debug, Clone)]
pub struct ControlCommand {
    /// What to change.
    pub change: ControlChange,
    /// In the operator's words.
    pub reason: String,
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlRefusal {
    /// Nothing would be worked off.
    #[error("dispatch is paused, so a drain would never end: resume it first")]
    DispatchPaused,
    /// No run is admitted now.
    #[error(
        "the queue is being drained, and no run is admitted until it is empty: start the run \
         later, or end the drain with `stella orch queue resume`"
    )]
    Draining,
}

impl Control {
    /// Whether no step of this plugin is leased.
    pub fn holds(&self, plugin: &PluginName) -> bool {
        self.dispatch_paused || self.plugins_paused.contains(plugin)
    }

    fn is_paused(&self, plugin: Option<&PluginName>) -> bool {
        plugin.map_or(self.dispatch_paused, |plugin| self.plugins_paused.contains(plugin))
    }

    fn set_paused(&mut self, plugin: Option<&PluginName>, paused: bool) {
        match plugin {
            None => self.dispatch_paused = paused,
            Some(plugin) if paused => {
                self.plugins_paused.insert(plugin.clone());
            }
            Some(plugin) => {
                self.plugins_paused.remove(plugin);
            }
        }
    }
}

impl Aggregate for Control {
    type Command = ControlCommand;
    type Event = ControlEvent;
    type Error = ControlRefusal;

    fn decide(&self, command: ControlCommand) -> Result<Vec<ControlEvent>, ControlRefusal> {
        let ControlCommand { change, reason } = command;
        let reason = Some(Reason { reason });
        let mut events = vec![];
        match change {
            ControlChange::PauseDispatch { plugin } if !self.is_paused(plugin.as_ref()) => {
                events.push(ControlEvent::DispatchPaused(DispatchScope { plugin }, reason));
            }
            ControlChange::ResumeDispatch { plugin } => {
                if plugin.is_none() && self.draining.is_some() {
                    let ended = DrainEnded { emptied: false };
                    events.push(ControlEvent::DrainEnded(ended, reason.clone()));
                }
                if self.is_paused(plugin.as_ref()) {
                    events.push(ControlEvent::DispatchResumed(DispatchScope { plugin }, reason));
                }
            }
            ControlChange::PauseSchedulers if !self.schedulers_paused => {
                events.push(ControlEvent::SchedulersPaused(NoData {}, reason));
            }
            ControlChange::ResumeSchedulers if self.schedulers_paused => {
                events.push(ControlEvent::SchedulersResumed(NoData {}, reason));
            }
            ControlChange::StartDrain { .. } if self.dispatch_paused => {
                return Err(ControlRefusal::DispatchPaused);
            }
            ControlChange::StartDrain { then_pause } => {
                let under_way = self.draining.is_some_and(|drain| drain.then_pause);
                let started = DrainStarted { then_pause: then_pause.unwrap_or(under_way) };
                if self.draining != Some(started) {
                    events.push(ControlEvent::DrainStarted(started, reason));
                }
            }
            ControlChange::Drained => {
                if let Some(DrainStarted { then_pause }) = self.draining {
                    let ended = DrainEnded { emptied: true };
                    events.push(ControlEvent::DrainEnded(ended, None));
                    if then_pause && !self.dispatch_paused {
                        events.push(ControlEvent::DispatchPaused(DispatchScope::default(), None));
                    }
                }
            }
            ControlChange::SetLimit { scope, limit } => {
                if self.limits.get(&scope).copied() != limit {
                    let set = ConcurrencyLimitSet { limit, scope };
                    events.push(ControlEvent::ConcurrencyLimitSet(set, reason));
                }
            }
            ControlChange::WarmWorkers => {
                events.push(ControlEvent::WorkersWarmed(NoData {}, reason));
            }
            ControlChange::PauseDispatch { .. }
            | ControlChange::PauseSchedulers
            | ControlChange::ResumeSchedulers => {}
        }
        Ok(events)
    }

    fn evolve(&mut self, event: &ControlEvent) {
        self.version += 1;
        match event {
            ControlEvent::SchedulersPaused(..) => self.schedulers_paused = true,
            ControlEvent::SchedulersResumed(..) => self.schedulers_paused = false,
            ControlEvent::DispatchPaused(data, _) => self.set_paused(data.plugin.as_ref(), true),
            ControlEvent::DispatchResumed(data, _) => self.set_paused(data.plugin.as_ref(), false),
            ControlEvent::DrainStarted(data, _) => self.draining = Some(*data),
            ControlEvent::DrainEnded(..) => self.draining = None,
            ControlEvent::WorkersWarmed(..) => {}
            ControlEvent::ConcurrencyLimitSet(data, _) => {
                match data.limit {
                    Some(limit) => self.limits.insert(data.scope.clone(), limit),
                    None => self.limits.remove(&data.scope),
                };
            }
        }
    }
}
