//! JSON Schema of what goes into an action and what comes out.

use std::fmt::Write as _;

use jsonschema::Validator;
use serde_json::Value;

/// Violations that are listed; the rest is counted.
const MAX_VIOLATIONS: usize = 20;
/// Characters of one violation, which may quote the whole offending value.
const MAX_VIOLATION_CHARS: usize = 300;

/// A compiled JSON Schema (draft 2020-12 unless it says otherwise). References out of the schema
/// are refused: nothing is ever fetched.
#[derive(Debug)]
pub struct Schema(Validator);

impl Schema {
    /// Compile `schema`.
    ///
    /// # Errors
    /// What is wrong with the schema, as a text.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        jsonschema::options().offline().build(schema).map(Self).map_err(|e| e.to_string())
    }

    /// Check `value`.
    ///
    /// # Errors
    /// All violations as one text, each with its path, at most 20 of them.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let mut text = String::new();
        let mut unlisted = 0_usize;
        for (i, error) in self.0.iter_errors(value).enumerate() {
            if i >= MAX_VIOLATIONS {
                unlisted += 1;
                continue;
            }
            if i > 0 {
                text.push_str("; ");
            }
            let line = format!("at {:?}: {error}", error.instance_path().as_str());
            text.extend(line.chars().take(MAX_VIOLATION_CHARS));
        }
        if unlisted > 0 {
            // Writing to a string does not fail.
            let _ = write!(text, "; and {unlisted} more");
        }
        if text.is_empty() { Ok(()) } else { Err(text) }
    }
}
