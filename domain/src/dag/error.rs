//! What is wrong with a DAG spec: everything at once, each with its path.

use std::fmt;

use serde::Serialize;

/// How many errors of one spec are listed; the rest is counted.
pub const MAX_SPEC_ERRORS: usize = 100;

/// One thing that is wrong with a DAG spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecError {
    /// Where, such as `steps[2].needs[0]`; empty for the text as a whole.
    pub path: String,
    /// What was wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a DAG spec. Never empty.
///
/// In this order: single members, inputs, needs, plugins, expressions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecErrors {
    errors: Vec<SpecError>,
    unlisted: usize,
}

impl SpecErrors {
    /// The first [`MAX_SPEC_ERRORS`] errors.
    pub fn errors(&self) -> &[SpecError] {
        &self.errors
    }

    /// How many more there were.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more errors", self.unlisted)?;
        }
        Ok(())
    }
}

/// Gathers errors while a spec is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<SpecError>,
    unlisted: usize,
}

impl Problems {
    pub(super) fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.is_full() {
            self.unlisted += 1;
            return;
        }
        self.errors.push(SpecError { path: path.into(), message: shorten(message.into()) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Add what was found elsewhere.
    pub(super) fn absorb(&mut self, other: Self) {
        other.errors.into_iter().for_each(|error| self.push(error.path, error.message));
        self.unlisted += other.unlisted;
    }

    /// Whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() == MAX_SPEC_ERRORS
    }

    pub(super) fn into_errors(self) -> SpecErrors {
        SpecErrors { errors: self.errors, unlisted: self.unlisted }
    }
}

impl From<SpecError> for SpecErrors {
    fn from(error: SpecError) -> Self {
        Self { errors: vec![error], unlisted: 0 }
    }
}

/// The path of a member of the object at `path`.
pub(super) fn member(path: &str, name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    match (path.is_empty(), !name.is_empty() && name.chars().all(plain)) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{:?}]", shorten(name.to_owned())),
    }
}

/// The path of an item of the list at `path`.
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// ` Did you mean …?` when one of `known` is close to `found`, else nothing.
pub(super) fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (found.chars().count() / 3).min(3);
    // Of a name of one or two letters everything is close; of a very long one nothing is likely,
    // and distance costs length times length.
    if limit == 0 || found.len() > 128 {
        return String::new();
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| format!(". Did you mean {name:?}?"))
        .unwrap_or_default()
}

/// Messages quote what the author wrote; this keeps them readable.
pub(super) fn shorten(mut text: String) -> String {
    const MAX_CHARS: usize = 400;
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}
