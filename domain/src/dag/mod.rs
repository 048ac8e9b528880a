//! DAG specs: text in YAML or JSON, checked as a whole, compiled to a graph that the run
//! aggregate walks on every event.
//!
//! A spec is immutable. It is named by the digest of its canonical form, which is what the author
//! wrote, as JSON (RFC 8785), defaults not filled in.

mod compile;
mod concurrency;
mod duration;
mod error;
mod expression;
mod graph;
mod inputs;
mod retry;
mod schema_cost;
mod source;
mod template;
mod text;

use std::{collections::HashMap, fmt};

use serde_json::Value;

use self::{
    compile::Compiler,
    error::{Problems, did_you_mean, member},
    graph::Graph,
    inputs::InputSchema,
    source::StepSource,
};
pub use self::{
    concurrency::Concurrency,
    duration::{MAX_DURATION_MS, parse_ms as parse_duration_ms},
    error::{MAX_SPEC_ERRORS, SpecError, SpecErrors},
    graph::StepIndex,
    inputs::{InputViolation, MAX_VIOLATIONS},
    retry::RetryPolicy,
    source::MAX_STEPS,
    template::{MAX_RENDERED_BYTES, RenderError, Scope, Template},
    text::{MAX_CANONICAL_BYTES, MAX_TEXT_BYTES},
};
use crate::{
    ids::{DagId, PluginName, StepId},
    json::CanonicalJson,
};

const DIGEST_CONTEXT: &str = "stella-orchestrator 2026-11 dag spec v1";

/// Which plugins are installed, asked when a spec is registered.
pub trait PluginCatalog {
    /// The actions of `plugin`, or `None` when no such plugin is installed.
    fn actions(&self, plugin: &PluginName) -> Option<Vec<String>>;
}

/// A checked and compiled DAG spec. Share it in an `Arc`; equal digests mean equal specs.
pub struct DagSpec {
    id: DagId,
    description: Option<String>,
    inputs: InputSchema,
    concurrency: Option<Concurrency>,
    steps: Vec<Step>,
    index: HashMap<StepId, StepIndex>,
    canonical: CanonicalJson,
    digest: String,
}

/// A step of a DAG.
#[derive(Debug)]
pub struct Step {
    /// Its name, unique in its DAG.
    pub id: StepId,
    /// What carries it out.
    pub plugin: PluginName,
    /// Which of the plugin's actions.
    pub action: String,
    /// What the action is given.
    pub with: Template,
    /// The steps that must have succeeded before, in the author's order.
    pub needs: Vec<StepIndex>,
    /// The steps that need this one, in spec order.
    pub dependents: Vec<StepIndex>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// When it is tried again after a failure.
    pub retry: RetryPolicy,
    /// Whether any step's expressions read this one's outputs: if not, a run need not keep them.
    pub outputs_referenced: bool,
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
        let templates = compile_templates(&source.steps, &graph, &inputs, &mut problems);
        let concurrency = source.concurrency.map(|concurrency| {
            let compile = |value| {
                let compiler = Compiler::of_run(&graph, &inputs, &mut problems);
                compiler.template("concurrency.key", Some(value))
            };
            let key = concurrency.key.map(compile);
            Concurrency { limit: concurrency.limit, key }
        });
        let (index, edges) = graph.into_parts();
        let steps: Option<Vec<Step>> = source
            .steps
            .into_iter()
            .zip(templates)
            .zip(edges)
            .map(|((step, with), edges)| {
                Some(Step {
                    id: step.id?,
                    plugin: step.plugin?,
                    action: step.action?,
                    with,
                    needs: edges.needs,
                    dependents: edges.dependents,
                    timeout_ms: step.timeout_ms,
                    retry: step.retry,
                    outputs_referenced: false,
                })
            })
            .collect();
        // What could not be read was reported, so the two conditions fail together.
        let (Some(id), Some(mut steps), true) = (source.id, steps, problems.is_empty()) else {
            return Err(problems.into_errors());
        };
        let read: Vec<StepIndex> = steps.iter().flat_map(|s| s.with.reads().to_vec()).collect();
        read.into_iter().for_each(|step| steps[step.get()].outputs_referenced = true);
        let digest = blake3::derive_key(DIGEST_CONTEXT, canonical.as_str().as_bytes());
        let digest = format!("b3:{}", const_hex::encode(digest));
        let description = source.description;
        Ok(Self { id, description, inputs, concurrency, steps, index, canonical, digest })
    }

    /// The DAG that this is a version of.
    pub fn id(&self) -> &DagId {
        &self.id
    }

    /// What the author says it is for.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// How many of its steps run at once, if the author limits that.
    pub fn concurrency(&self) -> Option<&Concurrency> {
        self.concurrency.as_ref()
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
    /// The first [`MAX_VIOLATIONS`] violations.
    pub fn check_inputs(&self, inputs: &CanonicalJson) -> Result<(), Vec<InputViolation>> {
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
            let message = format!("unknown plugin {plugin}: install it first, or check its name");
            problems.push(member(&step.path, "plugin"), message);
            continue;
        };
        let Some(action) = step.action.as_ref().filter(|a| !actions.contains(a)) else { continue };
        let hint = did_you_mean(action, actions.iter().map(String::as_str));
        let known = actions.join(", ");
        let message = format!("plugin {plugin} has no action {action:?}; it has {known}{hint}");
        problems.push(member(&step.path, "action"), message);
    }
}

fn compile_templates(
    steps: &[StepSource<'_>],
    graph: &Graph,
    inputs: &InputSchema,
    problems: &mut Problems,
) -> Vec<Template> {
    let compile = |(place, step): (usize, &StepSource<'_>)| {
        let compiler = Compiler::new(StepIndex::at(place), graph, inputs, problems);
        let with: Option<&Value> = step.with;
        compiler.template(&member(&step.path, "with"), with)
    };
    steps.iter().enumerate().map(compile).collect()
}
