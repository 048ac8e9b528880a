//! What is known of a schedule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stella_domain::{
    event::{BackfillRequested, FireCause, Labels, MissReason},
    ids::{RunId, ScheduleId},
    json::CanonicalJson,
    schedule::ScheduleSpec,
    time::Timestamp,
};

use super::{Mark, Row};
use crate::model::{Model, Value};

/// A fire whose run has not ended, or does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FireRow {
    /// It starts when this run has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<RunId>,
    /// Whether that run is cancelled for it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancels: bool,
    /// Why it fired.
    pub cause: FireCause,
    /// Its run.
    pub run_id: RunId,
    /// Whether the run exists.
    pub started: bool,
}

/// A backfill, under way or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackfillRow {
    /// Whether somebody ended it early.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancelled: Option<Mark>,
    /// Fire times that were decided on.
    pub done: u32,
    /// Of them, those that had a run already.
    pub had_run: u32,
    /// Who asked for it.
    pub requested: Mark,
    /// What was asked for.
    pub what: BackfillRequested,
}

impl BackfillRow {
    /// Whether there is more to come of it.
    pub fn is_under_way(&self) -> bool {
        self.cancelled.is_none() && self.done < self.what.fires
    }
}

/// The newest of what a schedule did not fire for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissRow {
    /// When it was decided.
    pub at: Timestamp,
    /// The first fire time.
    pub from: Timestamp,
    /// Why.
    pub reason: MissReason,
    /// The last one.
    pub to: Timestamp,
}

/// The newest fire of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFireRow {
    /// When it was decided.
    pub at: Timestamp,
    /// Why.
    pub cause: FireCause,
    /// The time that it is for.
    pub fire_time: Timestamp,
    /// Its run.
    pub run_id: RunId,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleRow {
    /// The newest backfill.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backfill: Option<BackfillRow>,
    /// Who created it.
    pub created: Mark,
    /// Who deleted it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deleted: Option<Mark>,
    /// Times that it fired.
    pub fired: u64,
    /// What its runs start with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<CanonicalJson>,
    /// Their labels.
    pub labels: Labels,
    /// Its newest fire.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_fire: Option<LastFireRow>,
    /// The newest of what it did not fire for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_miss: Option<MissRow>,
    /// Fires whose run has not ended, by the time that they are for.
    pub open: BTreeMap<Timestamp, FireRow>,
    /// Who paused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<Mark>,
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The last fire time that was decided on, or the moment from which on fire times count.
    pub seen: Timestamp,
    /// What it does.
    pub spec: ScheduleSpec,
    /// Who changed it last.
    pub updated: Mark,
}

impl Row for ScheduleRow {
    const MODEL: Model = Model::Schedules;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([self.schedule_id.as_str().into(), Value::Text(text)]);
    }
}
