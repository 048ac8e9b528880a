//! `concurrency`: how many steps of a DAG, or of those of its runs that share a key, run at once.

use std::num::NonZeroU32;

use super::{
    inputs::InputViolation,
    template::{Scope, Template},
};
use crate::{event::StepConcurrency, hash, ids::DagId, json::CanonicalJson};

/// What a spec says of it.
#[derive(Debug, Clone)]
pub struct Concurrency {
    pub(super) limit: NonZeroU32,
    /// Of the inputs; runs for which it gives the same value share the limit.
    pub(super) key: Option<Template>,
}

impl Concurrency {
    /// What holds for the steps of a run with these inputs.
    ///
    /// # Errors
    /// The inputs have nothing where the key looks.
    pub fn of_run(
        &self,
        dag_id: &DagId,
        inputs: &CanonicalJson,
    ) -> Result<StepConcurrency, InputViolation> {
        let scope = Scope { inputs, outputs: &|_| Ok(None), item: None, missing_is_null: false };
        let key = self.key.as_ref().map(|key| key.render(&scope)).transpose();
        let key = key.map_err(|error| InputViolation {
            path: String::new(),
            message: format!("concurrency.key: {error}"),
        })?;
        // A hash, because inputs can be erased and this stays.
        let key = key.map(|value| hash::concurrency_key(dag_id, &value));
        Ok(StepConcurrency { key, limit: self.limit })
    }
}
