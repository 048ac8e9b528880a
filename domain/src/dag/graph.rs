//! Which step needs which: names resolved to places in the list, cycles found.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    error::{Problems, did_you_mean, item, member},
    source::StepSource,
};
use crate::ids::StepId;

/// Room for the number of an item in its step's id.
const MAX_ITEMS_STEP_ID: usize = 120;

/// A step's place in its spec, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(pub u32);

impl StepIndex {
    /// The place, to index a list with.
    pub fn get(self) -> usize {
        self.0 as usize
    }

    pub(super) fn at(place: usize) -> Self {
        // A spec has at most `MAX_STEPS` steps, so this never saturates.
        Self(u32::try_from(place).unwrap_or(u32::MAX))
    }
}

/// The needs of all steps, resolved. May hold cycles; they are reported.
pub(super) struct Graph {
    index: HashMap<StepId, StepIndex>,
    /// For each step: place in its `needs`, and the step needed.
    needs: Vec<Vec<(usize, StepIndex)>>,
}

impl Graph {
    /// Resolve names, and report what is wrong with them and with the shape.
    pub(super) fn resolve(steps: &[StepSource<'_>], problems: &mut Problems) -> Self {
        let mut index = HashMap::with_capacity(steps.len());
        for (place, step) in steps.iter().enumerate() {
            let Some(id) = &step.id else { continue };
            match index.entry(id.clone()) {
                Entry::Vacant(free) => {
                    free.insert(StepIndex::at(place));
                }
                Entry::Occupied(taken) => {
                    let first: &StepIndex = taken.get();
                    let message = format!(
                        "duplicate step id {id}: steps[{}] has it already; give each step its own",
                        first.0
                    );
                    problems.push(member(&step.path, "id"), message);
                }
            }
        }
        let mut graph = Self { index, needs: Vec::with_capacity(steps.len()) };
        for (place, step) in steps.iter().enumerate() {
            let needs = graph.resolve_needs(StepIndex::at(place), step, problems);
            graph.needs.push(needs);
        }
        graph.report_cycles(steps, problems);
        graph.report_items_names(steps, problems);
        graph
    }

    /// The items of a `forEach` are steps too, named `<step>.<index>`: no other may be named so.
    fn report_items_names(&self, steps: &[StepSource<'_>], problems: &mut Problems) {
        for step in steps {
            let Some(id) = &step.id else { continue };
            if step.for_each.is_some() && id.as_str().len() > MAX_ITEMS_STEP_ID {
                let message = format!(
                    "the id of a step with forEach may have {MAX_ITEMS_STEP_ID} characters, so \
                     that its items can be named {id}.0, {id}.1, …: shorten it"
                );
                problems.push(member(&step.path, "id"), message);
            }
            let Some((parent, _)) = id.as_item() else { continue };
            let expands = |index: &StepIndex| {
                steps.get(index.get()).is_some_and(|step| step.for_each.is_some())
            };
            if self.index_of(&parent).as_ref().is_some_and(expands) {
                let message = format!(
                    "step id {id} is that of an item of {parent}, which has forEach: choose \
                     another"
                );
                problems.push(member(&step.path, "id"), message);
            }
        }
    }

    fn resolve_needs(
        &self,
        own: StepIndex,
        step: &StepSource<'_>,
        problems: &mut Problems,
    ) -> Vec<(usize, StepIndex)> {
        let mut resolved: Vec<(usize, StepIndex)> = Vec::with_capacity(step.needs.len());
        let mut seen = HashMap::with_capacity(step.needs.len());
        for (place, need) in &step.needs {
            let path = || item(&member(&step.path, "needs"), *place);
            if let Some(first) = seen.insert(need, *place) {
                let message = format!("duplicate need {need}: needs[{first}] names it already");
                problems.push(path(), message);
                continue;
            }
            match self.index.get(need) {
                Some(found) if *found == own => {
                    problems.push(path(), format!("step {need} needs itself: remove this need"));
                }
                Some(found) => resolved.push((*place, *found)),
                None => {
                    let hint = self.closest(need.as_str(), problems);
                    problems.push(path(), format!("unknown step {need}{hint}"));
                }
            }
        }
        resolved
    }

    /// One error per need that closes a cycle, found depth first.
    fn report_cycles(&self, steps: &[StepSource<'_>], problems: &mut Problems) {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.needs.len()];
        for start in 0..self.needs.len() {
            // Each entry: the step, and how many of its needs were followed.
            let mut trail = vec![(start, 0)];
            if marks[start] != Mark::New {
                continue;
            }
            marks[start] = Mark::Open;
            while let Some((at, followed)) = trail.last_mut() {
                let at = *at;
                let Some((place, need)) = self.needs[at].get(*followed).copied() else {
                    marks[at] = Mark::Done;
                    trail.pop();
                    continue;
                };
                *followed += 1;
                match marks[need.get()] {
                    Mark::New => {
                        marks[need.get()] = Mark::Open;
                        trail.push((need.get(), 0));
                    }
                    Mark::Open => {
                        let cycle = trail.iter().map(|(step, _)| *step);
                        let cycle: Vec<_> = cycle.skip_while(|step| *step != need.get()).collect();
                        problems.push(
                            item(&member(&steps[at].path, "needs"), place),
                            format!(
                                "steps need each other in a cycle: {}; remove one of these needs",
                                spell(&cycle, steps)
                            ),
                        );
                    }
                    Mark::Done => {}
                }
            }
        }
    }

    /// Where the step named `id` stands.
    pub(super) fn index_of(&self, id: &StepId) -> Option<StepIndex> {
        self.index.get(id).copied()
    }

    /// A hint for a misspelt step id; none once errors are no longer listed, as it costs time.
    pub(super) fn closest(&self, id: &str, problems: &Problems) -> String {
        if problems.is_full() {
            return String::new();
        }
        did_you_mean(id, self.index.keys().map(StepId::as_str))
    }

    /// For each step, whether `from` needs it, itself or through others.
    pub(super) fn needed_by(&self, from: StepIndex) -> Vec<bool> {
        let mut needed = vec![false; self.needs.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for (_, need) in &self.needs[at.get()] {
                if !std::mem::replace(&mut needed[need.get()], true) {
                    open.push(*need);
                }
            }
        }
        needed
    }

    /// The index, and for each step its needs and its dependents.
    pub(super) fn into_parts(self) -> (HashMap<StepId, StepIndex>, Vec<Edges>) {
        let mut edges: Vec<Edges> = vec![Edges::default(); self.needs.len()];
        for (place, needs) in self.needs.iter().enumerate() {
            for (_, need) in needs {
                edges[place].needs.push(*need);
                edges[need.get()].dependents.push(StepIndex::at(place));
            }
        }
        (self.index, edges)
    }
}

/// The neighbours of a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Edges {
    pub(super) needs: Vec<StepIndex>,
    pub(super) dependents: Vec<StepIndex>,
}

/// `a -> b -> a`, the middle of a long cycle left out.
fn spell(cycle: &[usize], steps: &[StepSource<'_>]) -> String {
    const SHOWN: usize = 10;
    let name = |step: &usize| steps[*step].id.as_ref().map_or("?", StepId::as_str);
    let mut names: Vec<String> = cycle.iter().take(SHOWN).map(|s| name(s).to_owned()).collect();
    if cycle.len() > SHOWN {
        names.push(format!("({} more)", cycle.len() - SHOWN));
    }
    names.extend(cycle.first().map(|s| name(s).to_owned()));
    names.join(" -> ")
}
