//! A step's `when`: an expression in CEL that decides whether the step is carried out.
//!
//! CEL has no side effects and always ends. What could still make it costly is kept out: a limit
//! on its length and depth, and no macro that walks a list (`all`, `exists`, `map`, `filter`), so
//! that its cost is bounded by its own length and what it reads.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr, LiteralValue, SelectExpr},
    parser::Expression,
};

use super::{error::did_you_mean, graph::StepIndex, template::ReadStep};
use crate::json::CanonicalJson;

/// Longest `when`, in bytes.
pub const MAX_CONDITION_BYTES: usize = 512;
/// How deep an expression may nest: it is walked by recursion.
const MAX_DEPTH: usize = 64;
const INDEX: &str = "_[_]";
/// What may be called, beside operators and `has`, which is read before there are calls. The
/// library does not tell which it has; a test calls each.
const FUNCTIONS: [&str; 12] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled `when`.
pub struct Condition {
    text: String,
    program: Program,
    reads: Vec<ReadStep>,
}

/// What a condition is told of a step that it reads.
#[derive(Debug, Clone)]
pub struct StepFacts<'a> {
    /// How it ended, as `steps.<id>.status` has it.
    pub status: &'static str,
    /// What it gave; none unless it succeeded.
    pub outputs: Option<&'a CanonicalJson>,
}

/// Why a condition has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("when `{condition}`: {why}")]
pub struct ConditionError {
    condition: String,
    why: String,
}

/// What an expression names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// A member of the inputs.
    Input(String),
    /// A step.
    Step(String),
}

impl Condition {
    /// Read `text`; answers the program and what it refers to, each once.
    pub(super) fn parse(text: &str) -> Result<(Program, Vec<Reference>), String> {
        if text.len() > MAX_CONDITION_BYTES {
            let found = text.len();
            return Err(format!(
                "a condition may be {MAX_CONDITION_BYTES} bytes long, this one is {found}: have a \
                 step work it out, and read its outputs"
            ));
        }
        let program = Program::compile(text).map_err(|errors| {
            let errors = errors.to_string();
            let first = errors.lines().next().unwrap_or_default();
            format!("not a CEL expression: {}", first.trim_start_matches("ERROR: <input>:"))
        })?;
        let mut references = vec![];
        refer(program.expression(), 0, &mut references)?;
        references.dedup();
        Ok((program, references))
    }

    pub(super) fn new(text: String, program: Program, reads: Vec<ReadStep>) -> Self {
        Self { text, program, reads }
    }

    /// What is wrong with each function that it calls and that there is not.
    pub(super) fn unknown_functions(&self) -> Vec<String> {
        let references = self.program.references();
        // Operators are calls too, of names that nobody can write: `_>_`, `@in`.
        let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic());
        let mut unknown = references.functions();
        unknown.retain(|name| is_name(name) && !FUNCTIONS.contains(name));
        unknown.sort_unstable();
        let say = |name: &str| {
            let (hint, known) = (did_you_mean(name, FUNCTIONS), FUNCTIONS.join(", "));
            format!("unknown function {name}: a condition may call has, {known}{hint}")
        };
        unknown.into_iter().map(say).collect()
    }

    /// As the author wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The steps that are read.
    pub fn reads(&self) -> impl Iterator<Item = StepIndex> {
        self.reads.iter().map(|step| step.index)
    }

    /// Whether the step is carried out.
    ///
    /// # Errors
    /// [`ConditionError`] when something it reads is not there, or it gives no boolean.
    pub fn holds<'a, E: std::fmt::Display>(
        &self,
        inputs: &CanonicalJson,
        facts: impl Fn(StepIndex) -> Result<StepFacts<'a>, E>,
    ) -> Result<bool, ConditionError> {
        let wrong = |why: String| ConditionError { condition: self.text.clone(), why };
        let mut steps: HashMap<String, Value> = HashMap::new();
        for step in &self.reads {
            let StepFacts { status, outputs } =
                facts(step.index).map_err(|e| wrong(e.to_string()))?;
            let mut members: HashMap<String, Value> = HashMap::new();
            members.insert("status".to_owned(), Value::from(status));
            if let Some(outputs) = outputs {
                members.insert("outputs".to_owned(), value(&outputs.to_value()));
            }
            steps.insert(step.id.to_string(), Value::from(members));
        }
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_from_value("inputs", value(&inputs.to_value()));
        context.add_variable_from_value("steps", Value::from(steps));
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => {
                let found = other.type_of();
                Err(wrong(format!("it gave a value of type {found}: compare it with something")))
            }
            Err(e) => Err(wrong(e.to_string())),
        }
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Condition({:?})", self.text)
    }
}

/// Note what an expression names, and refuse what it must not hold.
fn refer(expression: &Expression, depth: usize, found: &mut Vec<Reference>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("the condition nests more than {MAX_DEPTH} deep: simplify it"));
    }
    let mut walk = |expression: &Expression| refer(expression, depth + 1, found);
    match &expression.expr {
        Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if name == "inputs" => Ok(()),
        Expr::Ident(name) if name == "steps" => Err(step_form()),
        Expr::Ident(name) => {
            Err(format!("unknown name {name}: a condition reads `inputs` and `steps`"))
        }
        Expr::Select(select) => refer_select(select, depth, found),
        Expr::Call(_) if step_of(expression).is_some() => Err(step_form()),
        Expr::Call(call) => {
            call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(walk)
        }
        Expr::List(list) => list.elements.iter().try_for_each(walk),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                walk(&entry.key)?;
                walk(&entry.value)
            }
            EntryExpr::StructField(_) => Err(no_types()),
        }),
        Expr::Struct(_) => Err(no_types()),
        Expr::Comprehension(_) => Err(
            "a condition may not walk a list (all, exists, exists_one, map, filter), so that its \
             cost stays small: have a step work it out, and read its outputs"
                .to_owned(),
        ),
        Expr::Unspecified => Err("the condition is empty".to_owned()),
    }
}

fn refer_select(
    select: &SelectExpr,
    depth: usize,
    found: &mut Vec<Reference>,
) -> Result<(), String> {
    if let Some(step) = step_of(&select.operand) {
        if !matches!(select.field.as_str(), "outputs" | "status") {
            return Err(step_form());
        }
        found.push(Reference::Step(step.to_owned()));
        return Ok(());
    }
    match &select.operand.expr {
        Expr::Ident(name) if name == "steps" => Err(step_form()),
        Expr::Ident(name) if name == "inputs" => {
            found.push(Reference::Input(select.field.clone()));
            Ok(())
        }
        _ => refer(&select.operand, depth + 1, found),
    }
}

/// The step that `steps.<id>` or `steps["<id>"]` names.
fn step_of(expression: &Expression) -> Option<&str> {
    let is_steps = |e: &Expression| matches!(&e.expr, Expr::Ident(name) if name == "steps");
    match &expression.expr {
        Expr::Select(select) if !select.test && is_steps(&select.operand) => Some(&select.field),
        Expr::Call(call) if call.func_name == INDEX && call.target.is_none() => {
            match call.args.as_slice() {
                [steps, key] if is_steps(steps) => match &key.expr {
                    Expr::Literal(LiteralValue::String(name)) => Some(name.inner()),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}

fn step_form() -> String {
    "write a step as steps.<id>.outputs or steps.<id>.status, or steps[\"<id>\"] where the id is \
     no plain name"
        .to_owned()
}

fn no_types() -> String {
    "a condition makes no objects of other types: compare plain values".to_owned()
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(members) => {
            let members = members.iter().map(|(name, json)| (name.clone(), value(json)));
            Value::from(members.collect::<HashMap<String, Value>>())
        }
    }
}
