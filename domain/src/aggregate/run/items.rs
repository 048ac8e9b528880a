//! A step that is carried out for each item of a list.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::StepRecord;
use crate::{
    dag::{MAX_RENDERED_BYTES, RenderError},
    json::CanonicalJson,
};

/// How the items of a `forEach` stand. Items are queued in the order of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Items {
    /// How many there are.
    pub count: u32,
    /// Those that were ever queued, by their places among the run's steps.
    pub started: Vec<usize>,
    /// Those that are done.
    pub done: u32,
    /// Derived from payloads, and no part of what the run is: no transition looks at it.
    #[serde(skip)]
    derived: Derived,
}

/// Which item of which step a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemPlace {
    /// The step with the list.
    pub parent: usize,
    /// The item's place in the list.
    pub index: u32,
}

#[derive(Debug, Clone, Default)]
struct Derived {
    /// What stands in the list, while it is not erased.
    values: Vec<CanonicalJson>,
    /// The outputs of all items, once somebody has read them.
    outputs: OnceLock<Result<CanonicalJson, RenderError>>,
}

/// Two runs are the same whether or not somebody has read their outputs.
impl PartialEq for Derived {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Items {
    pub(super) fn new(count: u32, values: Vec<CanonicalJson>) -> Self {
        let derived = Derived { values, outputs: OnceLock::new() };
        Self { count, started: vec![], done: 0, derived }
    }

    /// Items that were queued and are not done.
    pub(super) fn active(&self) -> u32 {
        self.queued_ever() - self.done
    }

    pub(super) fn queued_ever(&self) -> u32 {
        // At most `count` of them.
        u32::try_from(self.started.len()).unwrap_or(u32::MAX)
    }

    /// What stands in the list at `index`.
    pub(super) fn value(&self, index: u32) -> Option<&CanonicalJson> {
        self.derived.values.get(index as usize)
    }

    /// The outputs of all items, worked out when they are first read. To be called once all are
    /// done.
    pub(super) fn outputs(&self, steps: &[StepRecord]) -> Result<&CanonicalJson, RenderError> {
        let outputs = self.derived.outputs.get_or_init(|| self.collect(steps, None));
        outputs.as_ref().map_err(Clone::clone)
    }

    /// `{"items": […]}`; null for an item that failed. `last` are the outputs of an item that is
    /// just being done.
    pub(super) fn collect(
        &self,
        steps: &[StepRecord],
        last: Option<(usize, &CanonicalJson)>,
    ) -> Result<CanonicalJson, RenderError> {
        let mut text = String::from("{\"items\":[");
        for (n, at) in self.started.iter().enumerate() {
            let given = match last {
                Some((place, outputs)) if place == *at => Some(outputs),
                _ => steps.get(*at).and_then(|step| step.outputs.as_ref()),
            };
            text.push_str(if n > 0 { "," } else { "" });
            text.push_str(given.map_or("null", CanonicalJson::as_str));
            if text.len() > MAX_RENDERED_BYTES {
                return Err(RenderError::TooLarge);
            }
        }
        text.push_str("]}");
        Ok(CanonicalJson::trusted(text))
    }
}
