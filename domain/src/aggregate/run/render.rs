//! What expressions, lists and conditions of a run lead to. Decisions look at payloads here; what
//! comes of it goes into the events, so that no transition has to.

use std::sync::LazyLock;

use super::{ItemPlace, Run, StepPhase};
use crate::{
    dag::{ConditionError, Item, ItemsError, RenderError, Scope, StepFacts, StepIndex, Template},
    ids::StepId,
    json::CanonicalJson,
    limits::EVENT_PART_BYTES,
};

/// Room for what stands in a payload beside the value.
const PAYLOAD_MARGIN_BYTES: usize = 64;

/// Steps that are done by a decision and not yet by the state.
pub(super) trait Overlay {
    /// How step `i` is done, if this decision is what ends it.
    fn phase(&self, i: usize) -> Option<StepPhase>;
    /// What it gave then.
    fn outputs(&self, i: usize) -> Option<Result<Option<&CanonicalJson>, RenderError>>;
}

/// The state alone.
struct AsRecorded;

impl Overlay for AsRecorded {
    fn phase(&self, _: usize) -> Option<StepPhase> {
        None
    }

    fn outputs(&self, _: usize) -> Option<Result<Option<&CanonicalJson>, RenderError>> {
        None
    }
}

impl Run {
    /// The step's `with`, its expressions resolved: what a worker is given.
    ///
    /// # Errors
    /// [`RenderError`] names the expression that refers to something which is not there.
    pub fn render_with(&self, id: &StepId) -> Result<CanonicalJson, RenderError> {
        let action = self.step_spec(id).and_then(|step| step.action());
        let Some(action) = action else { return Ok(CanonicalJson::empty_object()) };
        let item = self.index_of(id).and_then(|i| self.item(i));
        action.with.render(&Scope {
            inputs: self.inputs(),
            outputs: &|step| self.outputs_of(step, &AsRecorded),
            item: item.as_ref(),
            missing_is_null: false,
        })
    }

    /// The items of the list that step `i` is carried out for; `None` when it has no list.
    pub(super) fn items_of(&self, i: usize) -> Option<Result<Vec<CanonicalJson>, ItemsError>> {
        self.items_with(i, &AsRecorded)
    }

    pub(super) fn items_with(
        &self,
        i: usize,
        overlay: &dyn Overlay,
    ) -> Option<Result<Vec<CanonicalJson>, ItemsError>> {
        let list = self.spec()?.steps().get(i)?.for_each()?;
        Some(list.items(&Scope {
            inputs: self.inputs(),
            outputs: &|step| self.outputs_of(step, overlay),
            item: None,
            missing_is_null: false,
        }))
    }

    /// Whether step `i` is carried out, as far as its own condition says.
    pub(super) fn condition_holds(
        &self,
        i: usize,
        overlay: &dyn Overlay,
    ) -> Result<bool, ConditionError> {
        let condition = self.spec().and_then(|spec| spec.steps()[i].when.as_ref());
        let Some(condition) = condition else { return Ok(true) };
        condition.holds(self.inputs(), |step: StepIndex| {
            let recorded = || Some(self.steps.get(step.get())?.phase);
            let phase = overlay.phase(step.get()).or_else(recorded);
            // What a step needs is done before its condition is asked.
            let status = phase.and_then(StepPhase::outcome).unwrap_or("waiting");
            Ok::<_, RenderError>(StepFacts { status, outputs: self.outputs_of(step, overlay)? })
        })
    }

    /// What the run gives: null where an expression leads nowhere, because which steps were carried
    /// out may differ from run to run.
    ///
    /// # Errors
    /// [`RenderError`] when it is larger than an event may be.
    pub(super) fn render_outputs(
        &self,
        template: &Template,
        overlay: &dyn Overlay,
    ) -> Result<CanonicalJson, RenderError> {
        let rendered = template.render(&Scope {
            inputs: self.inputs(),
            outputs: &|step| self.outputs_of(step, overlay),
            item: None,
            missing_is_null: true,
        })?;
        if rendered.as_str().len() > EVENT_PART_BYTES - PAYLOAD_MARGIN_BYTES {
            return Err(RenderError::TooLarge);
        }
        Ok(rendered)
    }

    fn inputs(&self) -> &CanonicalJson {
        static NOTHING: LazyLock<CanonicalJson> = LazyLock::new(CanonicalJson::empty_object);
        self.request.as_ref().map_or(&NOTHING, |request| &request.inputs)
    }

    fn outputs_of<'a>(
        &'a self,
        step: StepIndex,
        overlay: &'a dyn Overlay,
    ) -> Result<Option<&'a CanonicalJson>, RenderError> {
        if let Some(outputs) = overlay.outputs(step.get()) {
            return outputs;
        }
        let Some(record) = self.steps.get(step.get()) else { return Ok(None) };
        match &record.items {
            Some(items) if record.phase == StepPhase::Succeeded => {
                items.outputs(&self.steps).map(Some)
            }
            Some(_) | None => Ok(record.outputs.as_ref()),
        }
    }

    fn item(&self, i: usize) -> Option<Item> {
        let ItemPlace { parent, index } = self.steps.get(i)?.item?;
        let value = self.steps.get(parent)?.items.as_ref()?.value(index)?.clone();
        Some(Item { value, index: CanonicalJson::trusted(index.to_string()) })
    }
}
