//! What a writing process says was acknowledged to it, one line of JSON each.

use serde::{Deserialize, Serialize};
use stella_domain::{
    dag::{DagSpec, PluginCatalog},
    hash::Hash32,
    ids::{FencingToken, PluginName, RunId},
};

/// Run tokens `shared-0` and so on that every process starts runs with.
pub const SHARED_TOKENS: usize = 12;
/// The DAG that all runs follow.
pub const SHARED_DAG: &str = "shared";
/// The DAG of which every process registers versions.
pub const OWN_DAG: &str = "versions";

/// An acknowledgement.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Acknowledged {
    /// These events are durable.
    Receipt {
        /// `seq` of the commit's first event.
        first_seq: u64,
        /// `seq` of its last event.
        last_seq: u64,
        /// Hash of its last event.
        hash: Hash32,
    },
    /// A run of this token exists.
    Run {
        /// The run token.
        token: String,
        /// The run.
        run_id: RunId,
        /// Whether this very request made it.
        created: bool,
    },
    /// A run's cancellation was asked for, or it had ended.
    Cancelled {
        /// The run.
        run_id: RunId,
    },
    /// A step's end is recorded.
    Completed {
        /// The lease that it ended.
        token: FencingToken,
    },
    /// Every command was answered.
    Done,
}

/// A DAG of two steps, one after the other; every `version` differs in its description.
pub fn spec(id: &str, version: u64) -> DagSpec {
    let spec = serde_json::json!({"id": id, "description": format!("version {version}"), "steps": [
        {"id": "first", "plugin": "core", "action": "noop", "retries": {"max": 1, "backoff": "1s"}},
        {"id": "second", "plugin": "core", "action": "noop", "needs": ["first"]},
    ]});
    DagSpec::parse(&spec.to_string(), &CoreAlone).expect("a spec that stands in this file")
}

struct CoreAlone;

impl PluginCatalog for CoreAlone {
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>> {
        (plugin.as_str() == "core").then(|| vec!["noop".to_owned()])
    }
}
