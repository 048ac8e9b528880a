//! What a step does once its needs are met.

use super::template::{RenderError, Scope, Template};
use crate::{artifact::Artifact, ids::PluginName, json::CanonicalJson, limits::INLINE_BYTES};

/// Items of one `forEach`.
pub const MAX_ITEMS: usize = 10_000;
/// Items of one `forEach` that are queued or run at once, at most.
pub const MAX_PARALLELISM: u32 = 1_000;
pub(super) const DEFAULT_PARALLELISM: u32 = 256;

/// What a step does once its needs are met.
#[derive(Debug)]
pub enum Work {
    /// A worker carries out an action of a plugin.
    Action(Box<Action>),
    /// An operator approves or rejects.
    Approval(Approval),
}

/// An action of a plugin.
#[derive(Debug)]
pub struct Action {
    /// What carries it out.
    pub plugin: PluginName,
    /// Which of the plugin's actions.
    pub name: String,
    /// What the action is given.
    pub with: Template,
    /// For each item of a list instead of once.
    pub for_each: Option<ForEach>,
}

/// An operator's decision.
#[derive(Debug, Default)]
pub struct Approval {
    /// What the operator is told.
    pub message: Option<String>,
    /// How long it is waited for; none means for ever.
    pub timeout: Option<ApprovalTimeout>,
}

/// What becomes of an approval that nobody decided about in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalTimeout {
    /// Milliseconds from the question on.
    pub after_ms: u64,
    /// Whether it counts as approved then, and not as rejected.
    pub approves: bool,
}

/// A list, for each item of which a step is carried out.
#[derive(Debug)]
pub struct ForEach {
    pub(super) items: Template,
    /// How many items are queued or run at once, at most.
    pub parallelism: u32,
}

/// Why a `forEach` has no items.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// Its expression leads nowhere, or to too much.
    #[error("forEach: {0}")]
    Render(#[from] RenderError),
    /// It leads to something else than a list.
    #[error("forEach gave something that is not a list: name a list")]
    NotAList,
    /// The list is so large that it is no part of an event.
    #[error(
        "forEach gave a value of {size} bytes, which became an artifact, and a list is not looked \
         up there: give one of up to {INLINE_BYTES} bytes, or a step that makes such lists of it"
    )]
    Artifact {
        /// Its bytes.
        size: u64,
    },
    /// The list is too long.
    #[error("forEach gave a list of {0} items, and {MAX_ITEMS} are allowed: split the list")]
    TooMany(usize),
}

impl ForEach {
    /// The steps whose outputs are read, in spec order.
    pub(super) fn reads(&self) -> &[super::StepIndex] {
        self.items.reads()
    }

    /// The items, each in canonical form.
    ///
    /// # Errors
    /// [`ItemsError`] when there is no such list, or it is too long.
    pub fn items(&self, scope: &Scope<'_>) -> Result<Vec<CanonicalJson>, ItemsError> {
        let list = self.items.render(scope)?;
        if !list.as_str().starts_with('[') {
            let artifact = Artifact::named_by(&list.to_value());
            return Err(artifact.map_or(ItemsError::NotAList, |artifact| ItemsError::Artifact {
                size: artifact.size,
            }));
        }
        // Slices of canonical text are canonical.
        let items: Vec<&serde_json::value::RawValue> =
            serde_json::from_str(list.as_str()).map_err(|_| ItemsError::NotAList)?;
        if items.len() > MAX_ITEMS {
            return Err(ItemsError::TooMany(items.len()));
        }
        Ok(items.into_iter().map(|item| CanonicalJson::trusted(item.get())).collect())
    }
}
