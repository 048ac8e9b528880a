//! Events of what operators hold back, stream `control/<tenant>`.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{NoData, Reason, events};
use crate::ids::{DagId, PluginName};

/// Data of `DispatchPaused` and `DispatchResumed`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DispatchScope {
    /// Steps of this plugin; every step where none is named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plugin: Option<PluginName>,
}

/// Data of `DrainStarted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStarted {
    /// Whether dispatch is paused once nothing is left, instead of runs being admitted again.
    pub then_pause: bool,
}

/// Data of `DrainEnded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrainEnded {
    /// Whether nothing was left; else somebody ended it before.
    pub emptied: bool,
}

/// Of which steps only so many run at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitScope {
    /// Of all of the tenant's.
    Tenant,
    /// Of a DAG's.
    Dag(DagId),
    /// Of a plugin's.
    Plugin(PluginName),
}

impl std::fmt::Display for LimitScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenant => f.pad("tenant"),
            Self::Dag(id) => write!(f, "dag {id}"),
            Self::Plugin(name) => write!(f, "plugin {name}"),
        }
    }
}

/// Data of `ConcurrencyLimitSet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyLimitSet {
    /// Steps that run at once at most; none where the limit is lifted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<NonZeroU32>,
    /// Of which steps.
    pub scope: LimitScope,
}

events! {
    /// What operators hold back.
    ControlEvent {
        /// No schedule fires.
        SchedulersPaused = 1 (NoData, payload: Reason),
        /// Schedules fire again.
        SchedulersResumed = 1 (NoData, payload: Reason),
        /// No step, or none of a plugin, is leased.
        DispatchPaused = 1 (DispatchScope, payload: Reason),
        /// Steps are leased again.
        DispatchResumed = 1 (DispatchScope, payload: Reason),
        /// No run is admitted until what there is has ended; the oldest goes first.
        DrainStarted = 1 (DrainStarted, payload: Reason),
        /// Runs are admitted again.
        DrainEnded = 1 (DrainEnded, payload: Reason),
        /// So many steps of a kind run at once at most.
        ConcurrencyLimitSet = 1 (ConcurrencyLimitSet, payload: Reason),
        /// Workers are asked to load their plugins again.
        WorkersWarmed = 1 (NoData, payload: Reason),
    }
}
