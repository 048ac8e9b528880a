//! The inputs of a DAG: a JSON Schema (draft 2020-12), compiled once per spec.

use std::fmt;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, paths::Location};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    error::{Problems, did_you_mean, item, member, shorten},
    members::object,
    schema_cost,
};
use crate::{artifact::Artifact, json::CanonicalJson};

/// How many violations of one run's inputs are listed.
pub const MAX_VIOLATIONS: usize = 100;

const DRAFT_URI: &str = "https://json-schema.org/draft/2020-12/schema";

/// One way in which a run's inputs do not fit their schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputViolation {
    /// Where in the inputs, such as `files[2].name`; empty for the inputs as a whole.
    pub path: String,
    /// What was expected. Values are not quoted: they may be secret.
    pub message: String,
}

impl fmt::Display for InputViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Every way in which a run's inputs do not fit their schema. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputViolations {
    /// The first [`MAX_VIOLATIONS`].
    pub listed: Vec<InputViolation>,
    /// How many more there are.
    pub unlisted: usize,
}

impl From<InputViolation> for InputViolations {
    fn from(only: InputViolation) -> Self {
        Self { listed: vec![only], unlisted: 0 }
    }
}

impl fmt::Display for InputViolations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.listed.len();
        write!(f, "{} violation(s)", listed + self.unlisted)?;
        if self.unlisted > 0 {
            write!(f, ", the first {listed} of which are listed")?;
        }
        Ok(())
    }
}

/// What inputs a DAG takes. Without a schema: any object.
#[derive(Default)]
pub(super) struct InputSchema {
    validator: Option<Validator>,
    /// The names declared, if no other may be given.
    declared: Option<Vec<String>>,
}

impl InputSchema {
    /// Compile the schema; what is wrong with it is reported.
    pub(super) fn compile(value: Option<&Value>, problems: &mut Problems) -> Self {
        let Some(value) = value else { return Self::default() };
        let Some(schema) = object("inputs", value, problems) else { return Self::default() };
        let mut own = Problems::default();
        check_root(schema, &mut own);
        check_refs("inputs", value, &mut own);
        let faults = jsonschema::draft202012::meta::validator();
        faults.iter_errors(value).for_each(|fault| report(&fault, &mut own));
        if !own.is_empty() {
            problems.absorb(own);
            return Self { validator: None, declared: declared(schema) };
        }
        if let Err(error) = schema_cost::check(value) {
            problems.push(error.path, error.message);
            return Self { validator: None, declared: declared(schema) };
        }
        let compiled = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            // Linear in the length of the text, unlike expressions with look-around.
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
            .build(value);
        let validator = compiled.map_err(|fault| report(&fault, problems)).ok();
        Self { validator, declared: declared(schema) }
    }

    /// Every way in which `inputs` does not fit.
    pub(super) fn check(&self, inputs: &CanonicalJson) -> Result<(), InputViolations> {
        if !inputs.is_object() {
            let message = "inputs must be an object".to_owned();
            return Err(InputViolation { path: String::new(), message }.into());
        }
        let Some(validator) = &self.validator else { return Ok(()) };
        let value = inputs.to_value();
        // Checked when it was given; what is recorded of it is where it is.
        let is_artifact =
            |name: &str| value.get(name).is_some_and(|member| Artifact::named_by(member).is_some());
        let mut violations = validator
            .iter_errors(&value)
            .filter(|violation| !stands_in(violation.instance_path(), is_artifact));
        let listed: Vec<_> = violations
            .by_ref()
            .take(MAX_VIOLATIONS)
            .map(|violation| InputViolation {
                path: spell("", violation.instance_path()),
                message: shorten(violation.masked().to_string()),
            })
            .collect();
        if listed.is_empty() {
            return Ok(());
        }
        Err(InputViolations { listed, unlisted: violations.count() })
    }

    /// Whether an expression may read the input `name`.
    pub(super) fn check_declared(&self, name: &str) -> Result<(), String> {
        match &self.declared {
            Some(declared) if !declared.iter().any(|known| known == name) => {
                let hint = did_you_mean(name, declared.iter().map(String::as_str));
                Err(format!(
                    "input {name:?} is not declared, and inputs.additionalProperties is false{hint}"
                ))
            }
            _ => Ok(()),
        }
    }
}

fn declared(schema: &Map<String, Value>) -> Option<Vec<String>> {
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    if !closed || schema.contains_key("patternProperties") {
        return None;
    }
    Some(schema.get("properties")?.as_object()?.keys().cloned().collect())
}

/// What JSON Schema allows and a DAG does not.
fn check_root(schema: &Map<String, Value>, problems: &mut Problems) {
    let takes_objects = match schema.get("type") {
        Some(Value::String(one)) => one == "object",
        Some(Value::Array(several)) => several.iter().any(|one| one == "object"),
        _ => true,
    };
    if !takes_objects {
        problems.push("inputs.type", "inputs are always an object: write `type: object`");
    }
    if let Some(Value::String(draft)) = schema.get("$schema")
        && draft.trim_end_matches('#') != DRAFT_URI
    {
        let message = format!("only draft 2020-12 is known: leave it out, or write {DRAFT_URI:?}");
        problems.push("inputs.$schema", message);
    }
}

/// A schema is whole in itself: what it refers to must be in it. Data in it (`const`, `default`, …)
/// is held to the same, as a property may have such a name too.
fn check_refs(path: &str, schema: &Value, problems: &mut Problems) {
    match schema {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| check_refs(&item(path, i), v, problems));
        }
        Value::Object(members) => {
            let at_root = path == "inputs";
            for (name, value) in members {
                let path = member(path, name);
                match (name.as_str(), value) {
                    ("$ref", Value::String(target))
                        if target != "#" && !target.starts_with("#/") =>
                    {
                        problems.push(
                            path,
                            format!(
                                "{target:?} is not a place in this schema: nothing is fetched, so \
                                 copy it into `$defs` and refer to \"#/$defs/…\""
                            ),
                        );
                    }
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                        problems.push(path, "only `$ref` is supported: write \"#/$defs/…\"");
                    }
                    // It would change what the references below it mean.
                    ("$id", Value::String(_)) if !at_root => {
                        problems.push(path, "`$id` is supported only at the top of the schema");
                    }
                    _ => check_refs(&path, value, problems),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn report(fault: &ValidationError<'_>, problems: &mut Problems) {
    let path = spell("inputs", fault.instance_path());
    let hint = match path.rsplit('.').next() {
        Some("pattern") => " (look-around and back-references are not supported)",
        Some("type") => " (a type is array, boolean, integer, null, number, object or string)",
        _ => "",
    };
    problems.push(path, format!("not a JSON Schema (draft 2020-12): {fault}{hint}"));
}

/// Whether a place is within a top member of such a name.
fn stands_in(location: &Location, is_such: impl Fn(&str) -> bool) -> bool {
    use jsonschema::paths::LocationSegment::Property;
    matches!(location.segments().next(), Some(Property(name)) if is_such(&name))
}

/// A JSON pointer in the form that errors have everywhere else.
fn spell(start: &str, location: &Location) -> String {
    use jsonschema::paths::LocationSegment::{Index, Property};
    location.segments().fold(start.to_owned(), |path, segment| match segment {
        Property(name) => member(&path, &name),
        Index(index) => item(&path, index),
    })
}
