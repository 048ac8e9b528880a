//! What follows when something happens to a step: the steps that it makes ready, skips or expands,
//! and the run's end. All of it goes into the commit that says what happened.
//!
//! Decisions are made on the state and on what this commit has decided so far, so that nothing is
//! folded to decide: what a commit costs is what it changes, whatever the size of the run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Run, RunRefusal, RunStatus, StepPhase,
    decide::{failure, message},
    render::Overlay,
};
use crate::{
    dag::{DagSpec, RenderError, Step, Work},
    event::{
        ApprovalRequested, ErrorCode, NoData, RunEvent, RunFailed, RunOutputs, StepAttempt,
        StepExpanded, StepFailed, StepQueued, StepRetryScheduled, StepSkipped, StepStarted,
    },
    ids::StepId,
    json::CanonicalJson,
    limits::{EXPRESSION_MESSAGE_BYTES, QUEUE_WAVE},
    time::Timestamp,
};

/// One commit in the making.
pub(super) struct Advance<'a> {
    run: &'a Run,
    spec: &'a DagSpec,
    now: Timestamp,
    events: Vec<RunEvent>,
    /// Steps that this commit ends, and what they gave.
    done: Done,
    /// Needs that this commit meets, by the step that has them.
    met: BTreeMap<usize, u32>,
    /// Steps whose needs are met, of which it is yet to be decided what becomes.
    reached: VecDeque<usize>,
    /// Steps to be queued that were not ready before.
    ready: BTreeSet<usize>,
    /// Steps that were ready before, and of which this commit decides otherwise.
    not_ready: BTreeSet<usize>,
    /// How lists stand that this commit changes.
    lists: BTreeMap<usize, List>,
    queued: usize,
    running: usize,
    failure: Option<RunFailed>,
}

/// What a step gave; an error where it is too much to be read.
type Given = Result<Option<CanonicalJson>, RenderError>;

#[derive(Default)]
struct Done(BTreeMap<usize, (StepPhase, Given)>);

#[derive(Clone, Copy)]
struct List {
    count: u32,
    queued_ever: u32,
    active: u32,
}

impl Overlay for Done {
    fn phase(&self, i: usize) -> Option<StepPhase> {
        self.0.get(&i).map(|(phase, _)| *phase)
    }

    fn outputs(&self, i: usize) -> Option<Result<Option<&CanonicalJson>, RenderError>> {
        let (_, outputs) = self.0.get(&i)?;
        Some(outputs.as_ref().map(Option::as_ref).map_err(Clone::clone))
    }
}

impl<'a> Advance<'a> {
    pub(super) fn new(run: &'a Run, now: Timestamp) -> Result<Self, RunRefusal> {
        Ok(Self {
            run,
            spec: run.spec().ok_or(RunRefusal::SpecMissing)?,
            now,
            events: vec![],
            done: Done::default(),
            met: BTreeMap::new(),
            reached: VecDeque::new(),
            ready: BTreeSet::new(),
            not_ready: BTreeSet::new(),
            lists: BTreeMap::new(),
            queued: run.queued,
            running: run.running,
            failure: None,
        })
    }

    /// Say what happened.
    pub(super) fn push(&mut self, event: RunEvent) {
        self.events.push(event);
    }

    /// A queued step is leased.
    pub(super) fn start(&mut self, started: StepStarted) {
        self.events.push(RunEvent::StepStarted(started));
        self.queued -= 1;
        self.running += 1;
    }

    /// A step that ran is tried again later.
    pub(super) fn retry(&mut self, retry: StepRetryScheduled) {
        self.events.push(RunEvent::StepRetryScheduled(retry));
        self.running -= 1;
    }

    /// A step is tried again at once.
    pub(super) fn queue_again(&mut self, i: usize) {
        self.leave(i);
        let next = self.run.steps[i].attempt + 1;
        if let Ok(StepAttempt { step_id, .. }) = self.run.attempt(i) {
            self.queue(i, step_id, next);
        }
    }

    /// Step `i` is done.
    pub(super) fn succeed(&mut self, i: usize, outputs: Option<CanonicalJson>) {
        self.leave(i);
        self.settle(i, StepPhase::Succeeded, Ok(outputs));
    }

    /// Step `i` has failed for good, or was ended.
    pub(super) fn fail(&mut self, i: usize, error_code: ErrorCode) {
        self.leave(i);
        let Ok(attempt) = self.run.attempt(i) else { return };
        let tolerated = self.run.spec_step(i).is_ok_and(|step| step.continue_on_failure);
        if tolerated && self.goes_on() {
            self.events.push(RunEvent::StepFailureTolerated(attempt));
            self.settle(i, StepPhase::Failed, Ok(None));
        } else if self.failure.is_none() {
            self.failure = Some(RunFailed { error_code, step_id: attempt.step_id });
        }
    }

    /// The needs of step `i` are met.
    pub(super) fn reach(&mut self, i: usize) {
        self.reached.push_back(i);
    }

    /// Decide what follows of all that happened.
    pub(super) fn finish(mut self) -> Vec<RunEvent> {
        while self.goes_on()
            && let Some(i) = self.reached.pop_front()
        {
            self.decide_reached(i);
        }
        if !self.goes_on() {
            self.events.extend(self.end());
        } else if self.settled() == self.spec.steps().len() {
            let end = self.success();
            self.events.push(end);
        } else {
            self.queue_ready();
        }
        self.events
    }

    fn goes_on(&self) -> bool {
        self.run.status() == Some(RunStatus::Running) && self.failure.is_none()
    }

    /// Step `i` stops what it was doing.
    fn leave(&mut self, i: usize) {
        match self.run.steps[i].phase {
            StepPhase::Running => self.running -= 1,
            StepPhase::Queued => self.queued -= 1,
            _ => {}
        }
    }

    fn settled(&self) -> usize {
        let items = self.done.0.keys().filter(|i| **i >= self.spec.steps().len()).count();
        self.run.settled + self.done.0.len() - items
    }

    fn settle(&mut self, i: usize, phase: StepPhase, outputs: Given) {
        if let Some(item) = self.run.steps[i].item {
            self.settle_item(i, item.parent, phase, outputs);
            return;
        }
        self.done.0.insert(i, (phase, outputs));
        if !self.goes_on() {
            return;
        }
        for dependent in &self.spec.steps()[i].dependents {
            let d = dependent.get();
            let met = self.met.entry(d).or_default();
            *met += 1;
            if self.run.steps[d].unmet_needs == *met {
                self.reached.push_back(d);
            }
        }
    }

    /// An item is done; with the last one, so is the step.
    fn settle_item(&mut self, i: usize, parent: usize, phase: StepPhase, outputs: Given) {
        let Some(items) = &self.run.steps[parent].items else { return };
        let active = items.active() - 1;
        let list = List { count: items.count, queued_ever: items.queued_ever(), active };
        self.lists.insert(parent, list);
        if items.done + 1 == items.count && self.goes_on() {
            // Worked out only for those who read it: it is as large as all outputs together.
            let read = self.spec.steps()[parent].outputs_referenced;
            let last = outputs.as_ref().ok().and_then(Option::as_ref).map(|given| (i, given));
            let all = read.then(|| items.collect(&self.run.steps, last)).transpose();
            self.done.0.insert(i, (phase, outputs));
            self.end_list(parent, all);
        } else {
            self.done.0.insert(i, (phase, outputs));
        }
    }

    fn end_list(&mut self, parent: usize, outputs: Given) {
        let step_id = self.spec.steps()[parent].id.clone();
        self.events.push(RunEvent::StepSucceeded(StepAttempt { attempt: 1, step_id }, None));
        self.settle(parent, StepPhase::Succeeded, outputs);
    }

    /// Skip the step, expand it, ask an operator, or let it be queued.
    fn decide_reached(&mut self, i: usize) {
        let step = &self.spec.steps()[i];
        if let Some(need) = self.skipped_need(step) {
            self.skip(i, Some(need));
            return;
        }
        match self.run.condition_holds(i, &self.done) {
            Ok(true) => {}
            Ok(false) => return self.skip(i, None),
            Err(error) => return self.fail_expression(i, &error.to_string()),
        }
        match &step.work {
            Work::Approval(approval) => {
                self.not_ready.insert(i);
                let text = approval.message.as_deref().and_then(message);
                let timeout = approval.timeout.as_ref();
                let deadline = timeout.map(|timeout| self.now.plus_ms(timeout.after_ms));
                let data = ApprovalRequested { deadline, step_id: step.id.clone() };
                self.events.push(RunEvent::ApprovalRequested(data, text));
            }
            Work::Action(_) => match self.run.items_with(i, &self.done) {
                Some(Ok(items)) => self.expand(i, items.len()),
                Some(Err(error)) => self.fail_expression(i, &error.to_string()),
                None if self.run.ready.contains(&i) => {}
                None => {
                    self.ready.insert(i);
                }
            },
        }
    }

    /// A skipped step that this one needs, unless its own condition decides.
    fn skipped_need(&self, step: &Step) -> Option<StepId> {
        if step.when.is_some() {
            return None;
        }
        let skipped =
            |i: usize| self.done.phase(i).unwrap_or(self.run.steps[i].phase) == StepPhase::Skipped;
        let need = step.needs.iter().find(|need| skipped(need.get()))?;
        Some(self.spec.step(*need).id.clone())
    }

    fn skip(&mut self, i: usize, need: Option<StepId>) {
        self.not_ready.insert(i);
        let step_id = self.spec.steps()[i].id.clone();
        self.events.push(RunEvent::StepSkipped(StepSkipped { need, step_id }));
        self.settle(i, StepPhase::Skipped, Ok(None));
    }

    /// The condition or the list of step `i` has no answer.
    fn fail_expression(&mut self, i: usize, why: &str) {
        self.not_ready.insert(i);
        let Ok(StepAttempt { attempt, step_id }) = self.run.attempt(i) else { return };
        let error_code = ErrorCode::lenient(ErrorCode::EXPRESSION);
        let data = StepFailed { attempt, error_code: error_code.clone(), step_id };
        // Shorter than a plugin's: one commit may have many.
        let why: String = why.chars().take(EXPRESSION_MESSAGE_BYTES / 4).collect();
        self.events.push(RunEvent::StepFailed(data, failure(&why, None)));
        self.fail(i, error_code);
    }

    fn expand(&mut self, i: usize, count: usize) {
        self.not_ready.insert(i);
        let step = &self.spec.steps()[i];
        let Work::Action(action) = &step.work else { return };
        // A list has at most `MAX_ITEMS`.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (plugin, step_id) = (action.plugin.clone(), step.id.clone());
        self.events.push(RunEvent::StepExpanded(StepExpanded { count, plugin, step_id }));
        if count == 0 {
            self.end_list(i, Ok(Some(CanonicalJson::trusted("{\"items\":[]}"))));
        } else {
            self.lists.insert(i, List { count, queued_ever: 0, active: 0 });
        }
    }

    /// Queue what is ready, as far as the wave goes.
    fn queue_ready(&mut self) {
        let room = QUEUE_WAVE.saturating_sub(self.queued);
        let before = self.run.ready.iter().filter(|i| !self.not_ready.contains(i));
        let ready: Vec<usize> = before.chain(&self.ready).take(room).copied().collect();
        for i in ready {
            self.queue(i, self.spec.steps()[i].id.clone(), 1);
        }
        // Those that this commit changes are looked at as it leaves them.
        let others = self.run.expandable.iter().filter(|i| !self.lists.contains_key(i));
        let lists: BTreeSet<usize> = others.chain(self.lists.keys()).copied().collect();
        for parent in lists {
            if self.queued >= QUEUE_WAVE {
                return;
            }
            self.queue_items(parent);
        }
    }

    fn queue_items(&mut self, parent: usize) {
        let step = &self.spec.steps()[parent];
        let parallelism = step.for_each().map_or(0, |list| list.parallelism);
        let recorded = || {
            let items = self.run.steps[parent].items.as_ref()?;
            let (queued_ever, active) = (items.queued_ever(), items.active());
            Some(List { count: items.count, queued_ever, active })
        };
        let Some(list) = self.lists.get(&parent).copied().or_else(recorded) else { return };
        let List { count, mut queued_ever, mut active } = list;
        while queued_ever < count && active < parallelism && self.queued < QUEUE_WAVE {
            let Some(step_id) = step.id.item(queued_ever) else { return };
            self.queue(parent, step_id, 1);
            (queued_ever, active) = (queued_ever + 1, active + 1);
        }
    }

    /// Queue an attempt of step `i`, or of an item of it.
    fn queue(&mut self, i: usize, step_id: StepId, attempt: u32) {
        let Some(step) = self.run.spec_step(i).ok() else { return };
        let Some(action) = step.action() else { return };
        let total_ms = step.retry.total_timeout_ms.filter(|_| attempt == 1);
        self.events.push(RunEvent::StepQueued(StepQueued {
            attempt,
            concurrency: self.run.created.as_ref().and_then(|run| run.concurrency.clone()),
            deadline: total_ms.map(|ms| self.now.plus_ms(ms)),
            plugin: action.plugin.clone(),
            priority: self.run.priority(),
            step_id,
        }));
        self.queued += 1;
    }

    /// The end of a run that starts nothing more, once nothing of it runs.
    fn end(&self) -> Option<RunEvent> {
        if self.running > 0 {
            return None;
        }
        if self.run.deadline_passed {
            return Some(RunEvent::RunTimedOut(NoData {}));
        }
        if self.run.cancel_requested {
            return Some(RunEvent::RunCancelled(NoData {}));
        }
        self.run.failure.clone().or_else(|| self.failure.clone()).map(RunEvent::RunFailed)
    }

    /// The end of a run whose steps are all done.
    fn success(&self) -> RunEvent {
        let outputs = self.spec.outputs().map(|template| {
            self.run.render_outputs(template, &self.done).map(|outputs| RunOutputs { outputs })
        });
        match outputs.transpose() {
            Ok(payload) => RunEvent::RunSucceeded(NoData {}, payload),
            // It cannot be recorded what the run gives, so it has given nothing. No step is to
            // blame; the one that ended last is named.
            Err(_) => {
                let last = self.done.0.keys().rfind(|i| **i < self.spec.steps().len());
                let step = last.map_or(&self.spec.steps()[0], |i| &self.spec.steps()[*i]);
                RunEvent::RunFailed(RunFailed {
                    error_code: ErrorCode::lenient(ErrorCode::OUTPUTS_TOO_LARGE),
                    step_id: step.id.clone(),
                })
            }
        }
    }
}
