//! How much work a schema can make, before it is used.
//!
//! References let a few lines stand for more work than anyone can wait for (each definition
//! naming the next one twice), and a recursive one that applies twice to the same value does so
//! for a deep value. Whoever checks inputs must not hang, so a schema is measured with its
//! references written out, and recursion is refused.

use std::collections::HashMap;

use serde_json::Value;

use super::error::{SpecError, item, member};

/// Most values in a schema with its references written out.
const MAX_WEIGHT: u64 = 10_000;

/// How deep a schema may nest with its references written out.
const MAX_HEIGHT: usize = 128;

/// Check that `schema` refers only to itself, without recursion, and stays within the limits.
pub(super) fn check(schema: &Value) -> Result<(), SpecError> {
    let mut measure = Measure { root: schema, known: HashMap::new(), open: Vec::new() };
    let size = measure.value("inputs", schema, 0)?;
    if size.weight > MAX_WEIGHT {
        let message = format!(
            "with its references written out this schema has more than {MAX_WEIGHT} values: refer \
             to the same definition less often"
        );
        return Err(SpecError { path: "inputs".to_owned(), message });
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Size {
    weight: u64,
    height: usize,
}

struct Measure<'a> {
    root: &'a Value,
    /// The size of every target of a reference, so that each is walked once.
    known: HashMap<&'a str, Size>,
    /// The targets being walked, outermost first.
    open: Vec<&'a str>,
}

impl<'a> Measure<'a> {
    fn value(&mut self, path: &str, value: &'a Value, depth: usize) -> Result<Size, SpecError> {
        let mut size = Size { weight: 1, height: 1 };
        let mut add = |part: Size| {
            size.weight = size.weight.saturating_add(part.weight);
            size.height = size.height.max(part.height + 1);
        };
        if depth >= MAX_HEIGHT {
            return Err(too_deep(path));
        }
        match value {
            Value::Array(items) => {
                for (i, value) in items.iter().enumerate() {
                    add(self.value(&item(path, i), value, depth + 1)?);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    let path = member(path, name);
                    add(match (name.as_str(), value) {
                        ("$ref", Value::String(target)) => self.target(&path, target, depth + 1)?,
                        _ => self.value(&path, value, depth + 1)?,
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(size)
    }

    fn target(&mut self, path: &str, target: &'a str, depth: usize) -> Result<Size, SpecError> {
        if self.open.contains(&target) || target == "#" {
            let message = format!("{target:?} refers back to itself: recursion is not supported");
            return Err(SpecError { path: path.to_owned(), message });
        }
        if let Some(size) = self.known.get(target) {
            return if depth + size.height > MAX_HEIGHT { Err(too_deep(path)) } else { Ok(*size) };
        }
        let pointer = target.strip_prefix('#').unwrap_or(target);
        // Only what is found here is measured, so nothing else may pass.
        let value = self.root.pointer(pointer).ok_or_else(|| SpecError {
            path: path.to_owned(),
            message: format!("{target:?} does not exist in this schema: write \"#/$defs/…\""),
        })?;
        self.open.push(target);
        let size = self.value(path, value, depth)?;
        self.open.pop();
        self.known.insert(target, size);
        Ok(size)
    }
}

fn too_deep(path: &str) -> SpecError {
    let message = format!("nests more than {MAX_HEIGHT} deep with its references written out");
    SpecError { path: path.to_owned(), message }
}
