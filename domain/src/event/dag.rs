//! Events of a DAG, stream `dag/<dagId>`.

use serde::{Deserialize, Serialize};

use super::{NoData, Reason, events};
use crate::{
    ids::{Actor, DagId, ScheduleId},
    json::CanonicalJson,
};

/// Data of `DagVersionRegistered`: the spec decides what runs do, so it is data, never erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagVersionRegistered {
    /// The DAG.
    pub dag_id: DagId,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// The spec as its author wrote it, in canonical form.
    #[serde(deserialize_with = "crate::json::stored")]
    pub spec: CanonicalJson,
    /// Its number, from 1, no gap.
    pub version: u32,
}

/// Data of `DagVersionActivated`, `DagVersionDisabled` and `DagVersionEnabled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DagVersion {
    /// The version concerned.
    pub version: u32,
}

/// Data of `DagRolledBack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DagRolledBack {
    /// The version that was active.
    pub from: u32,
    /// The older version that is active now.
    pub to: u32,
}

/// Data of `DagPaused`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DagPaused {
    /// What happened, where nobody paused it but its budget of starts was spent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub brake: Option<Brake>,
}

/// A budget of starts that was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Brake {
    /// Who started how many of them, those who started most first; ten at most.
    pub causes: Vec<StartCause>,
    /// Runs that were started in the window.
    pub starts: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
}

/// Who started how many runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartCause {
    /// Who.
    pub actor: Actor,
    /// For this schedule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule_id: Option<ScheduleId>,
    /// How many.
    pub starts: u32,
}

events! {
    /// What happens to a DAG.
    DagEvent {
        /// A new, immutable version.
        DagVersionRegistered = 1 (DagVersionRegistered),
        /// The version that runs start with unless they name one.
        DagVersionActivated = 1 (DagVersion, payload: Reason),
        /// No run starts with this version any more.
        DagVersionDisabled = 1 (DagVersion, payload: Reason),
        /// Runs may start with this version again.
        DagVersionEnabled = 1 (DagVersion, payload: Reason),
        /// An older version is active again.
        DagRolledBack = 1 (DagRolledBack, payload: Reason),
        /// No run starts, and no step of a run is leased.
        DagPaused = 1 (DagPaused, payload: Reason),
        /// Runs start and steps are leased again.
        DagResumed = 1 (NoData, payload: Reason),
    }
}
