//! From text to JSON: the door for DAG specs, in JSON or YAML.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::{Problems, SpecError, SpecErrors, item, member};
use crate::json::{CanonicalJson, MAX_SAFE_INTEGER, parse_i_json};

/// Longest text of a spec, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Longest canonical form of a spec, in bytes: an event's data holds at most 64 KiB, and the
/// event that registers a spec says a little more than the spec.
pub const MAX_CANONICAL_BYTES: usize = MAX_TEXT_BYTES - 1024;

/// The canonical form of what the author wrote.
pub(super) fn normalise(text: &str) -> Result<CanonicalJson, SpecErrors> {
    let whole = |message: String| SpecError { path: String::new(), message };
    if text.len() > MAX_TEXT_BYTES {
        let len = text.len();
        return Err(whole(format!(
            "the spec is {len} bytes long and may be at most {MAX_TEXT_BYTES}: split the DAG, or \
             pass large values as inputs"
        ))
        .into());
    }
    let value = if text.trim_start().starts_with('{') {
        parse_i_json(text).map_err(|e| whole(e.to_string()))?
    } else {
        parse_yaml(text).map_err(|e| whole(format!("not acceptable YAML: {e}")))?
    };
    if value.is_null() {
        return Err(
            whole("the text is empty: a DAG spec has at least `id` and `steps`".into()).into()
        );
    }
    let mut problems = Problems::default();
    check_numbers("", &value, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into_errors());
    }
    let canonical = CanonicalJson::from_value(&value).map_err(|e| whole(e.to_string()))?;
    if canonical.as_str().len() > MAX_CANONICAL_BYTES {
        let len = canonical.as_str().len();
        return Err(whole(format!(
            "the spec is {len} bytes long in canonical form (RFC 8785, YAML aliases written out) \
             and may be at most {MAX_CANONICAL_BYTES}: split the DAG, or pass large values as \
             inputs"
        ))
        .into());
    }
    Ok(canonical)
}

fn parse_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        // A spec is small; these stop alias bombs long before they cost anything.
        budget: serde_saphyr::budget! {
            max_depth: 64, max_documents: 2, max_nodes: 50_000, max_events: 200_000,
            max_anchors: 100, max_aliases: 1_000, max_merge_keys: 1_000,
            max_total_scalar_bytes: 1024 * 1024, max_recorded_anchor_bytes: 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        // YAML 1.2 core: `no`, `on`, `0755` and `1_000` are text, as the author sees them.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::Reject,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Yaml(value)) => Ok(value),
        // The crate's own words here are for programmers.
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => {
            let key = key.unwrap_or_default();
            let (line, column) = (location.line(), location.column());
            Err(format!("duplicate key {key:?} at line {line}, column {column}"))
        }
        Err(serde_saphyr::Error::MultipleDocuments { .. }) => {
            Err("it holds several documents (`---`): register one DAG at a time".to_owned())
        }
        Err(other) => Err(other.to_string()),
    }
}

/// A number beyond ±(2^53−1) is refused, fraction or not.
///
/// YAML folds a long integer into a double, and canonical JSON writes a double below 1e21 as an
/// integer; both would change silently what the author wrote.
fn check_numbers(path: &str, value: &Value, problems: &mut Problems) {
    match value {
        Value::Number(n) if n.as_f64().is_none_or(|f| f.abs() > MAX_SAFE_INTEGER as f64) => {
            problems.push(
                path,
                format!("number {n} is beyond ±9007199254740991 (2^53−1): write it as a string"),
            );
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| check_numbers(&item(path, i), v, problems));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, v)| check_numbers(&member(path, name), v, problems));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A JSON value read from YAML. `serde_json::Value` would let the later of two equal keys win
/// where YAML thinks them different (`1` and `"1"`).
struct Yaml(Value);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor).map(Self)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can say")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(n.into())
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Yaml(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Yaml(value) = map.next_value()?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate key {name:?}")));
            }
            members.insert(name, value);
        }
        Ok(members.into())
    }
}
