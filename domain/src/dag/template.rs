//! A step's `with`, a list's items, a run's outputs: JSON with expressions, compiled once and rendered for each attempt.

use std::fmt;

use serde_json::Value;

use super::{
    expression::{Expression, Piece, Root},
    graph::StepIndex,
};
use crate::{
    ids::StepId,
    json::{CanonicalJson, JsonError},
};

/// Longest rendered `with`, in bytes. Many expressions may each take a large value.
pub const MAX_RENDERED_BYTES: usize = 1024 * 1024;

/// Compiled JSON with expressions.
#[derive(Debug, Clone)]
pub struct Template {
    node: Node,
    reads: Vec<StepIndex>,
}

/// What the expressions of a run read from.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The run's inputs.
    pub inputs: &'a CanonicalJson,
    /// The outputs of a step that has succeeded; an error where there are too many to be read.
    pub outputs: &'a dyn Fn(StepIndex) -> Result<Option<&'a CanonicalJson>, RenderError>,
    /// For one item of a `forEach`: the item.
    pub item: Option<&'a Item>,
    /// Whether what is missing is null, and no error.
    pub missing_is_null: bool,
}

/// One item of a `forEach`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What stands in the list.
    pub value: CanonicalJson,
    /// Where it stands, from 0.
    pub index: CanonicalJson,
}

/// Why a template could not be rendered. The step cannot start, now or on a retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// An expression leads to nothing.
    #[error(
        "{expression} has no value: {missing} does not exist; give the run that input, or have \
         the step that is read put out that member"
    )]
    Missing {
        /// The expression as written.
        expression: String,
        /// The first part of its path that is not there.
        missing: String,
    },
    /// The values put in make it too long.
    #[error(
        "what is read is longer than {MAX_RENDERED_BYTES} bytes once all expressions are filled \
         in: read smaller parts of inputs and outputs"
    )]
    TooLarge,
    /// The values put in nest too deeply.
    #[error("once all expressions are filled in, the value is {0}")]
    NotJson(#[from] JsonError),
}

/// A template's value, with everything that holds no expression already written out.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Fixed(CanonicalJson),
    /// A string that is one expression and nothing else: the value itself, with its type.
    Whole(Expression<ReadStep>),
    Text(Vec<Piece<ReadStep>>),
    List(Vec<Node>),
    /// Names as canonical JSON strings, in canonical order.
    Object(Vec<(CanonicalJson, Node)>),
}

/// A step whose outputs are read.
#[derive(Debug, Clone)]
pub(super) struct ReadStep {
    pub(super) index: StepIndex,
    pub(super) id: StepId,
}

impl fmt::Display for ReadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl Template {
    /// `reads` in spec order, each once.
    pub(super) fn new(node: Node, reads: Vec<StepIndex>) -> Self {
        Self { node, reads }
    }

    /// The steps whose outputs are read, in spec order.
    pub fn reads(&self) -> &[StepIndex] {
        &self.reads
    }

    /// The canonical value with every expression replaced by what it leads to.
    ///
    /// # Errors
    /// [`RenderError`] when an expression leads nowhere or the result is too large.
    pub fn render(&self, scope: &Scope<'_>) -> Result<CanonicalJson, RenderError> {
        if let Node::Fixed(json) = &self.node {
            return Ok(json.clone());
        }
        let mut out = String::new();
        self.node.write(scope, &mut out)?;
        Ok(CanonicalJson::parse(&out)?)
    }
}

impl Node {
    /// The text, if it holds no expression.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self {
            Self::Fixed(json) => Some(json.as_str()),
            Self::Whole(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    fn write(&self, scope: &Scope<'_>, out: &mut String) -> Result<(), RenderError> {
        match self {
            Self::Fixed(json) => append(out, json.as_str()),
            Self::Whole(expression) => append(out, look_up(expression, scope)?),
            Self::Text(pieces) => append(out, string(&interpolate(pieces, scope)?)?.as_str()),
            Self::List(items) => {
                out.push('[');
                for (i, node) in items.iter().enumerate() {
                    append(out, if i > 0 { "," } else { "" })?;
                    node.write(scope, out)?;
                }
                append(out, "]")
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (name, node)) in members.iter().enumerate() {
                    append(out, if i > 0 { "," } else { "" })?;
                    append(out, name.as_str())?;
                    append(out, ":")?;
                    node.write(scope, out)?;
                }
                append(out, "}")
            }
        }
    }
}

fn append(out: &mut String, text: &str) -> Result<(), RenderError> {
    if out.len() + text.len() > MAX_RENDERED_BYTES {
        return Err(RenderError::TooLarge);
    }
    out.push_str(text);
    Ok(())
}

fn look_up<'a>(
    expression: &Expression<ReadStep>,
    scope: &Scope<'a>,
) -> Result<&'a str, RenderError> {
    let root = match &expression.root {
        Root::Inputs => Some(scope.inputs),
        Root::Outputs(step) => (scope.outputs)(step.index)?,
        Root::Item => scope.item.map(|item| &item.value),
        Root::Index => scope.item.map(|item| &item.index),
    };
    match expression.look_up(root.map(CanonicalJson::as_str)) {
        Ok(found) => Ok(found),
        Err(_) if scope.missing_is_null => Ok("null"),
        Err(missing) => Err(RenderError::Missing { expression: expression.text.clone(), missing }),
    }
}

/// Strings go into the text as they are, all else as canonical JSON.
fn interpolate(pieces: &[Piece<ReadStep>], scope: &Scope<'_>) -> Result<String, RenderError> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => append(&mut text, plain)?,
            Piece::Expression(expression) => {
                let value = look_up(expression, scope)?;
                match serde_json::from_str::<String>(value) {
                    Ok(string) => append(&mut text, &string)?,
                    Err(_) => append(&mut text, value)?,
                }
            }
        }
    }
    Ok(text)
}

/// A string as canonical JSON.
pub(super) fn string(text: &str) -> Result<CanonicalJson, JsonError> {
    CanonicalJson::from_value(&Value::String(text.to_owned()))
}
