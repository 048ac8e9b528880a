//! What is known of a DAG and its versions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stella_domain::{event::Brake, ids::DagId, json::CanonicalJson, time::Timestamp};

use super::{Mark, Row};
use crate::model::{Model, Value};

/// A DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagRow {
    /// The version that runs start with unless they name one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_version: Option<u32>,
    /// Why it is paused, where nobody paused it but its budget of starts was spent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub brake: Option<Brake>,
    /// When its first version was registered.
    pub created_at: Timestamp,
    /// The DAG.
    pub dag_id: DagId,
    /// Versions that no run starts with, ascending.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub disabled_versions: BTreeSet<u32>,
    /// The newest version.
    pub latest_version: u32,
    /// Since when nothing of it starts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<Mark>,
    /// `seq` of the newest `DagResumed`: earlier starts count against no budget.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resumed_seq: Option<u64>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Row for DagRow {
    const MODEL: Model = Model::Dags;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([self.dag_id.as_str().into(), Value::Text(text)]);
    }
}

/// A version of a DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DagVersionRow {
    /// The DAG.
    pub dag_id: DagId,
    /// `b3:` and the hex digest of the canonical spec.
    pub digest: String,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// `seq` of its `DagVersionRegistered`.
    pub seq: u64,
    /// The spec as its author wrote it, in canonical form.
    pub spec: CanonicalJson,
    /// Its number, from 1.
    pub version: u32,
}

impl Row for DagVersionRow {
    const MODEL: Model = Model::DagVersions;

    fn bind(&self, text: String, values: &mut Vec<Value>) {
        values.extend([
            self.seq.into(),
            Value::Text(text),
            self.dag_id.as_str().into(),
            u64::from(self.version).into(),
        ]);
    }
}
