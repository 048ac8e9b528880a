//! The members of a spec's objects: read one by one, each with what it may be.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::{
    duration,
    error::{Problems, did_you_mean, member},
};
use crate::ids::IdError;

/// The members of an object, none of them unknown.
pub(super) struct Members<'a> {
    pub(super) path: String,
    members: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    pub(super) fn of(
        path: &str,
        value: &'a Value,
        known: &[&str],
        problems: &mut Problems,
    ) -> Option<Self> {
        let members = object(path, value, problems)?;
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let hint = did_you_mean(name, known.iter().copied());
            let known = known.join(", ");
            let message = format!("unknown field; known here are {known}{hint}");
            problems.push(member(path, name), message);
        }
        Some(Self { path: path.to_owned(), members })
    }

    pub(super) fn optional(&self, name: &str) -> Option<(String, &'a Value)> {
        self.members.get(name).map(|value| (member(&self.path, name), value))
    }

    pub(super) fn required(
        &self,
        name: &str,
        problems: &mut Problems,
    ) -> Option<(String, &'a Value)> {
        let found = self.optional(name);
        if found.is_none() {
            problems.push(member(&self.path, name), "missing: this field is required");
        }
        found
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null (leave the field out, or give it a value)",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn object<'a>(
    path: &str,
    value: &'a Value,
    problems: &mut Problems,
) -> Option<&'a Map<String, Value>> {
    let found = value.as_object();
    if found.is_none() {
        problems.push(path, format!("expected an object, found {}", kind(value)));
    }
    found
}

pub(super) fn list<'a>(
    path: &str,
    value: &'a Value,
    problems: &mut Problems,
) -> Option<&'a Vec<Value>> {
    let found = value.as_array();
    if found.is_none() {
        problems.push(path, format!("expected a list, found {}", kind(value)));
    }
    found
}

pub(super) fn text<'a>(path: &str, value: &'a Value, problems: &mut Problems) -> Option<&'a str> {
    let found = value.as_str();
    if found.is_none() {
        problems.push(path, format!("expected a string, found {}", kind(value)));
    }
    found
}

pub(super) fn identifier<T: FromStr<Err = IdError>>(
    path: &str,
    value: &Value,
    problems: &mut Problems,
) -> Option<T> {
    let parsed = text(path, value, problems)?.parse();
    parsed.map_err(|e: IdError| problems.push(path, e.to_string())).ok()
}

pub(super) fn action(path: &str, value: &Value, problems: &mut Problems) -> Option<String> {
    let name = text(path, value, problems)?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=128).contains(&name.len()) && name.bytes().all(valid) {
        return Some(name.to_owned());
    }
    problems.push(path, format!("{name:?} is not an action: write 1 to 128 of A-Z a-z 0-9 . _ -"));
    None
}

pub(super) fn duration_ms(path: &str, value: &Value, problems: &mut Problems) -> Option<u64> {
    let Some(text) = value.as_str() else {
        let message = format!("expected a duration such as \"30s\", found {}", kind(value));
        problems.push(path, message);
        return None;
    };
    duration::parse_ms(text).map_err(|message| problems.push(path, message)).ok()
}

pub(super) fn boolean(path: &str, value: &Value, problems: &mut Problems) -> Option<bool> {
    let found = value.as_bool();
    if found.is_none() {
        problems.push(path, format!("expected true or false, found {}", kind(value)));
    }
    found
}

/// A whole number from `least` to `most`.
pub(super) fn whole_number(
    path: &str,
    value: &Value,
    (least, most): (u32, u32),
    problems: &mut Problems,
) -> Option<u32> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    let number = number.filter(|n| (least..=most).contains(n));
    if number.is_none() {
        problems.push(path, format!("expected a whole number from {least} to {most}"));
    }
    number
}
