//! What operators hold back, and who did it when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stella_domain::{
    aggregate::Control,
    event::{ConcurrencyLimitSet, DrainStarted},
    ids::{Actor, PluginName, Tenant},
    time::Timestamp,
};

use super::Row;
use crate::model::{Model, Value};

/// Who did something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
    /// In their words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// `seq` of the event.
    pub seq: u64,
}

/// A drain, under way or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainRow {
    /// Whether it ended because nothing was left; none while it is under way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub emptied: Option<bool>,
    /// Its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Mark>,
    /// Its beginning.
    pub started: Mark,
    /// Whether dispatch is paused once nothing is left.
    pub then_pause: bool,
}

/// A limit of how much runs at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Who set it.
    pub set: Mark,
    /// What it is.
    pub value: ConcurrencyLimitSet,
}

/// What a tenant's operators hold back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlRow {
    /// Since when no step is leased.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dispatch_paused: Option<Mark>,
    /// The newest drain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drain: Option<DrainRow>,
    /// Limits, by what they are of.
    pub limits: Vec<LimitRow>,
    /// Plugins of which no step is leased.
    pub plugins_paused: BTreeMap<PluginName, Mark>,
    /// Since when no schedule fires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedulers_paused: Option<Mark>,
    /// The tenant.
    pub tenant: Tenant,
    /// Events in the stream.
    pub version: u64,
}

impl ControlRow {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self {
            dispatch_paused: None,
            drain: None,
            limits: vec![],
            plugins_paused: BTreeMap::new(),
            schedulers_paused: None,
            tenant,
            version: 0,
        }
    }

    /// The drain that is under way.
    pub fn draining(&self) -> Option<&DrainRow> {
        self.drain.as_ref().filter(|drain| drain.ended.is_none())
    }

    /// The state of the stream that this is a view of.
    pub fn state(&self) -> Control {
        let limit = |row: &LimitRow| Some((row.value.scope.clone(), row.value.limit?));
        let draining = self.draining();
        Control {
            dispatch_paused: self.dispatch_paused.is_some(),
            plugins_paused: self.plugins_paused.keys().cloned().collect(),
            schedulers_paused: self.schedulers_paused.is_some(),
            draining: draining.map(|drain| DrainStarted { then_pause: drain.then_pause }),
            limits: self.limits.iter().filter_map(limit).collect(),
            version: self.version,
        }
    }
}

impl Row for ControlRow {
    const MODEL: Model = Model::Controls;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([self.tenant.as_str().into(), Value::Text(text)]);
    }
}
