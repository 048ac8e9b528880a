//! DAG specs: text in YAML or JSON, checked as a whole, compiled to a graph that the run
//! aggregate walks on every event.
//!
//! A spec is immutable. It is named by the digest of its canonical form, which is what the author
//! wrote, as JSON (RFC 8785), defaults not filled in.

mod compile;
mod concurrency;
mod condition;
mod duration;
mod error;
mod expression;
mod graph;
mod inputs;
mod members;
mod retry;
mod schema_cost;
mod source;
mod template;
mod text;
mod work;

use std::{collections::HashMap, fmt, num::NonZeroU32};

pub(crate) use self::duration::spell_ms;
use self::{
    compile::{Compiler, Reader},
    error::{Problems, did_you_mean, member},
    graph::Graph,
    inputs::InputSchema,
    source::StepSource,
};
pub use self::{
    concurrency::Concurrency,
    condition::{Condition, ConditionError, MAX_CONDITION_BYTES, StepFacts},
    duration::{MAX_DURATION_MS, parse_ms as parse_duration_ms},
    error::{MAX_SPEC_ERRORS, SpecError, SpecErrors},
    graph::StepIndex,
    inputs::{InputViolation, InputViolations, MAX_VIOLATIONS},
    retry::RetryPolicy,
    source::{MAX_BUDGET_STARTS, MAX_BUDGET_WINDOW_MS, MAX_STEPS},
    template::{Item, MAX_RENDERED_BYTES, RenderError, Scope, Template},
    text::{MAX_CANONICAL_BYTES, MAX_TEXT_BYTES},
    work::{
        Action, Approval, ApprovalTimeout, ForEach, ItemsError, MAX_ITEMS, MAX_PARALLELISM, Work,
    },
};
use crate::{
    ids::{DagId, PluginName, StepId},
    json::CanonicalJson,
};

/// Most steps of a DAG in which some have conditions, lists or are approvals, each list counted
/// twice: what one commit has to say about them stays below `COMMIT_EVENTS`, with a full wave.
const MAX_CONDITIONAL_STEPS: usize = 700;

const DIGEST_CONTEXT: &str = "stella-orchestrator 2026-11 dag spec v1";

/// Which plugins are installed, asked when a spec is registered.
pub trait PluginCatalog {
    /// The actions of `plugin`, or `None` when no such plugin is known. An empty list: only the
    /// workers that have it know them, so that any will do.
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>>;

    /// The plugins that there are, for whoever named another.
    fn known(&self) -> Vec<PluginName> {
        vec![]
    }
}

/// A checked and compiled DAG spec. Share it in an `Arc`; equal digests mean equal specs.
pub struct DagSpec {
    id: DagId,
    description: Option<String>,
    inputs: InputSchema,
    concurrency: Option<Concurrency>,
    budget: Option<Budget>,
    outputs: Option<Template>,
    timeout_ms: Option<u64>,
    steps: Vec<Step>,
    index: HashMap<StepId, StepIndex>,
    canonical: CanonicalJson,
    digest: String,
}

/// How many runs of a DAG may start in a window of time: with one more the DAG is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Runs.
    pub starts: NonZeroU32,
    /// The window, in milliseconds.
    pub window_ms: u64,
}

/// A step of a DAG.
#[derive(Debug)]
pub struct Step {
    /// Its name, unique in its DAG.
    pub id: StepId,
    /// What it does.
    pub work: Work,
    /// Whether it is carried out, asked once its needs are met.
    pub when: Option<Condition>,
    /// The steps that must be done before, in the author's order.
    pub needs: Vec<StepIndex>,
    /// The steps that need this one, in spec order.
    pub dependents: Vec<StepIndex>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// When it is tried again after a failure.
    pub retry: RetryPolicy,
    /// Whether the run goes on when it fails for good.
    pub continue_on_failure: bool,
    /// Whether any expression reads this one's outputs: if not, a run need not keep them.
    pub outputs_referenced: bool,
}

impl Step {
    /// The plugin's action, unless an operator decides.
    pub fn action(&self) -> Option<&Action> {
        match &self.work {
            Work::Action(action) => Some(action.as_ref()),
            Work::Approval(_) => None,
        }
    }

    /// The list that it is carried out for, if there is one.
    pub fn for_each(&self) -> Option<&ForEach> {
        self.action()?.for_each.as_ref()
    }

    /// The steps that its expressions read.
    fn reads(&self) -> impl Iterator<Item = StepIndex> {
        let with = self.action().into_iter().flat_map(|action| action.with.reads());
        let items = self.for_each().into_iter().flat_map(ForEach::reads);
        let when = self.when.iter().flat_map(Condition::reads);
        with.chain(items).copied().chain(when)
    }
}

impl DagSpec {
    /// Read and check a spec, in JSON if it begins with `{`, else in YAML 1.2.
    ///
    /// # Errors
    /// [`SpecErrors`] lists everything that is wrong, each with its path.
    pub fn parse(text: &str, catalog: &dyn PluginCatalog) -> Result<Self, SpecErrors> {
        Self::compile(text::normalise(text)?, Some(catalog))
    }

    /// Re-read a spec that was registered before. Its plugins may have gone since; all else holds.
    ///
    /// # Errors
    /// [`SpecErrors`], when this is not a spec as [`DagSpec::canonical`] gives it.
    pub fn from_stored(canonical: &CanonicalJson) -> Result<Self, SpecErrors> {
        Self::compile(canonical.clone(), None)
    }

    fn compile(
        canonical: CanonicalJson,
        catalog: Option<&dyn PluginCatalog>,
    ) -> Result<Self, SpecErrors> {
        // Read from the canonical text, so that errors come in one order whatever was written.
        let value = canonical.to_value();
        let mut problems = Problems::default();
        let source = source::read(&value, &mut problems);
        let inputs = InputSchema::compile(source.inputs, &mut problems);
        let graph = Graph::resolve(&source.steps, &mut problems);
        if let Some(catalog) = catalog {
            check_plugins(&source.steps, catalog, &mut problems);
        }
        let parts = compile_steps(&source.steps, &graph, &inputs, &mut problems);
        // A spec that was registered before this was checked fails when it calls what is not there.
        if catalog.is_some() {
            check_functions(&source.steps, &parts, &mut problems);
        }
        let outputs = source.outputs.map(|outputs| {
            let compiler = Compiler::new(Reader::Run, &graph, &inputs, &mut problems);
            compiler.template("outputs", Some(outputs))
        });
        check_breadth(&source.steps, &mut problems);
        let concurrency = source.concurrency.map(|concurrency| {
            let compile = |value| {
                let compiler = Compiler::new(Reader::Start, &graph, &inputs, &mut problems);
                compiler.template("concurrency.key", Some(value))
            };
            let key = concurrency.key.map(compile);
            Concurrency { limit: concurrency.limit, key }
        });
        let (index, edges) = graph.into_parts();
        let steps: Option<Vec<Step>> = source
            .steps
            .into_iter()
            .zip(parts)
            .zip(edges)
            .map(|((step, parts), edges)| step.into_step(parts, edges))
            .collect();
        // What could not be read was reported, so the two conditions fail together.
        let (Some(id), Some(mut steps), true) = (source.id, steps, problems.is_empty()) else {
            return Err(problems.into_errors());
        };
        let read_at_the_end = outputs.iter().flat_map(|outputs| outputs.reads()).copied();
        let read: Vec<StepIndex> =
            steps.iter().flat_map(Step::reads).chain(read_at_the_end).collect();
        read.into_iter().for_each(|step| steps[step.get()].outputs_referenced = true);
        let digest = blake3::derive_key(DIGEST_CONTEXT, canonical.as_str().as_bytes());
        let digest = format!("b3:{}", const_hex::encode(digest));
        let description = source.description;
        let (timeout_ms, budget) = (source.timeout_ms, source.budget);
        Ok(Self {
            id,
            description,
            inputs,
            concurrency,
            budget,
            outputs,
            timeout_ms,
            steps,
            index,
            canonical,
            digest,
        })
    }

    /// The DAG that this is a version of.
    pub fn id(&self) -> &DagId {
        &self.id
    }

    /// What the author says it is for.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// How many runs may start in a while before something must be wrong.
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// How many of its steps run at once, if the author limits that.
    pub fn concurrency(&self) -> Option<&Concurrency> {
        self.concurrency.as_ref()
    }

    /// What a run gives when it succeeds.
    pub fn outputs(&self) -> Option<&Template> {
        self.outputs.as_ref()
    }

    /// How long a run may take, in milliseconds.
    pub fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// The steps in the order of the spec; a [`StepIndex`] is a place in it.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step at `index`.
    ///
    /// # Panics
    /// When `index` comes from another spec.
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index.get()]
    }

    /// Where the step named `id` stands.
    pub fn index_of(&self, id: &StepId) -> Option<StepIndex> {
        self.index.get(id).copied()
    }

    /// What the author wrote, as canonical JSON.
    pub fn canonical(&self) -> &CanonicalJson {
        &self.canonical
    }

    /// `b3:` and 64 hex digits: BLAKE3 of the canonical form, in key-derivation mode.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Check a run's inputs against the schema.
    ///
    /// # Errors
    /// Every violation; the first [`MAX_VIOLATIONS`] are listed.
    pub fn check_inputs(&self, inputs: &CanonicalJson) -> Result<(), InputViolations> {
        self.inputs.check(inputs)
    }
}

impl PartialEq for DagSpec {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for DagSpec {}

impl fmt::Debug for DagSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, digest) = (&self.id, &self.digest);
        write!(f, "DagSpec({id}, {} steps, {digest})", self.steps.len())
    }
}

fn check_plugins(steps: &[StepSource<'_>], catalog: &dyn PluginCatalog, problems: &mut Problems) {
    let mut asked: HashMap<&PluginName, Option<Vec<String>>> = HashMap::new();
    for step in steps {
        let Some(plugin) = &step.plugin else { continue };
        let actions = asked.entry(plugin).or_insert_with(|| catalog.actions(plugin));
        let Some(actions) = actions else {
            problems.push(member(&step.path, "plugin"), unknown_plugin(plugin, catalog));
            continue;
        };
        let unknown = |action: &&String| !actions.is_empty() && !actions.contains(action);
        let Some(action) = step.action.as_ref().filter(unknown) else { continue };
        let hint = did_you_mean(action, actions.iter().map(String::as_str));
        let known = actions.join(", ");
        let message = format!("plugin {plugin} has no action {action:?}; it has {known}{hint}");
        problems.push(member(&step.path, "action"), message);
    }
}

fn unknown_plugin(plugin: &PluginName, catalog: &dyn PluginCatalog) -> String {
    /// Of those that there are, so many are named.
    const NAMED: usize = 10;
    let known = catalog.known();
    let names: Vec<&str> = known.iter().map(PluginName::as_str).collect();
    let hint = did_you_mean(plugin.as_str(), names.iter().copied());
    let named = names[..names.len().min(NAMED)].join(", ");
    let known = match names.len() {
        0 => String::new(),
        1..=NAMED => format!(" (known: {named})"),
        n => format!(" (known: {named} and {} more)", n - NAMED),
    };
    format!(
        "unknown plugin {plugin}: check its name{known}, install it or, where only workers \
         have it, start one of them, or the server with --remote-plugin {plugin}{hint}"
    )
}

fn check_functions(steps: &[StepSource<'_>], parts: &[StepParts], problems: &mut Problems) {
    for (step, parts) in steps.iter().zip(parts) {
        for message in parts.when.iter().flat_map(Condition::unknown_functions) {
            problems.push(member(&step.path, "when"), message);
        }
    }
}

/// What of a step is compiled.
struct StepParts {
    with: Template,
    items: Option<Template>,
    when: Option<Condition>,
}

fn compile_steps(
    steps: &[StepSource<'_>],
    graph: &Graph,
    inputs: &InputSchema,
    problems: &mut Problems,
) -> Vec<StepParts> {
    let compile = |(place, step): (usize, &StepSource<'_>)| {
        let index = StepIndex::at(place);
        let reader = |has_items: bool| Reader::Step { index, has_items };
        let path = |name: &str| member(&step.path, name);
        let has_items = step.for_each.is_some();
        let with = Compiler::new(reader(has_items), graph, inputs, problems)
            .template(&path("with"), step.with);
        let items = step.for_each.map(|items| {
            let compiler = Compiler::new(reader(false), graph, inputs, problems);
            compiler.template(&path("forEach"), Some(items))
        });
        let when = step.when.and_then(|when| {
            let compiler = Compiler::new(reader(false), graph, inputs, problems);
            compiler.condition(&path("when"), when)
        });
        StepParts { with, items, when }
    };
    steps.iter().enumerate().map(compile).collect()
}

impl StepSource<'_> {
    /// The step; `None` when it lacks something, which was reported.
    fn into_step(self, parts: StepParts, edges: graph::Edges) -> Option<Step> {
        let parallelism = self.parallelism;
        let work = match self.approval {
            Some(approval) => Work::Approval(approval),
            None => Work::Action(Box::new(Action {
                plugin: self.plugin?,
                name: self.action?,
                with: parts.with,
                for_each: parts.items.map(|items| ForEach { items, parallelism }),
            })),
        };
        Some(Step {
            id: self.id?,
            work,
            when: parts.when,
            needs: edges.needs,
            dependents: edges.dependents,
            timeout_ms: self.timeout_ms,
            retry: self.retry,
            continue_on_failure: self.continue_on_failure,
            outputs_referenced: false,
        })
    }
}

/// Where conditions, lists and approvals are decided together with what meets their needs, one
/// commit may have to say what becomes of every step, beside the steps that it queues.
fn check_breadth(steps: &[StepSource<'_>], problems: &mut Problems) {
    let conditional = |step: &&StepSource<'_>| {
        step.when.is_some() || step.for_each.is_some() || step.approval.is_some()
    };
    if !steps.iter().any(|step| conditional(&step)) {
        return;
    }
    let lists = steps.iter().filter(|step| step.for_each.is_some()).count();
    let found = steps.len() + lists;
    if found > MAX_CONDITIONAL_STEPS {
        problems.push(
            "steps",
            format!(
                "a DAG with when, forEach or approval has at most {MAX_CONDITIONAL_STEPS} steps, \
                 each with forEach counted twice; this one has {found}: carry steps that are \
                 alike out with one forEach, or split the DAG"
            ),
        );
    }
}
