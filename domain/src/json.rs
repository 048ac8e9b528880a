//! The door for JSON from outside: I-JSON (RFC 7493) in, canonical JSON (RFC 8785, JCS) kept.
//!
//! Text is checked and canonicalised once, here; from then on it travels as [`CanonicalJson`] and
//! is neither parsed nor serialised again on its way into the ledger.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

/// Largest integer that every JSON reader keeps exactly: 2^53 − 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Arrays and objects within each other, at most. Well below what JSON readers give up at, with
/// room for the event that the value will stand in.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, a duplicate member, a lone surrogate, U+0000, or a number beyond a double.
    #[error("not acceptable JSON: {0}")]
    Malformed(String),
    /// An integer token that a double cannot hold exactly.
    #[error(
        "integer {token} at byte {offset} is beyond ±9007199254740991 (2^53−1): \
         write it as a string"
    )]
    UnsafeInteger {
        /// The token as written, shortened.
        token: String,
        /// Where it begins in the text, in bytes.
        offset: usize,
    },
    /// Nested too deeply.
    #[error("nested more than {MAX_DEPTH} levels deep: flatten it, or pass it as text")]
    TooDeep,
}

/// A JSON value in canonical form (RFC 8785), held as its text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalJson(Arc<str>);

impl CanonicalJson {
    /// Check `text` against I-JSON and bring it into canonical form.
    ///
    /// # Errors
    /// [`JsonError`] names what was wrong and where.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let value = parse_i_json(text)?;
        Self::from_value(&value)
    }

    /// The canonical form of a value that already obeys I-JSON.
    ///
    /// # Errors
    /// [`JsonError`] when the value holds what canonical JSON cannot say exactly.
    pub fn from_value(value: &Value) -> Result<Self, JsonError> {
        check_value(value, 0)?;
        serde_json_canonicalizer::to_string(value)
            .map(|text| Self(text.into()))
            .map_err(|e| JsonError::Malformed(e.to_string()))
    }

    /// Take text that is canonical already: written so by this program, or stored and hashed.
    ///
    /// The caller guarantees it: members sorted, no white space, numbers as RFC 8785 writes them.
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The empty object, `{}`.
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value that the text spells.
    pub fn to_value(&self) -> Value {
        // Canonical text is JSON by construction; `Null` is unreachable.
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }

    /// Whether the value is an object, which `data`, `payload`, inputs and outputs must be.
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

impl fmt::Display for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for CanonicalJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `&RawValue` borrows when parsed from a str, so this neither copies nor builds a tree.
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CanonicalJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(D::Error::custom)
    }
}

/// For members of stored events: a part of canonical text is canonical, and was checked when it
/// came in.
pub(crate) fn stored<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<CanonicalJson, D::Error> {
    Ok(CanonicalJson(<&RawValue>::deserialize(deserializer)?.get().into()))
}

/// Parse `text` as I-JSON.
///
/// Checked on the raw text, because canonical JSON would fold two different texts into one hash:
/// duplicate member names, integer tokens beyond 2^53−1, numbers that overflow a double, lone
/// surrogates and U+0000.
///
/// # Errors
/// [`JsonError`] names what was wrong and where.
pub fn parse_i_json(text: &str) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| JsonError::Malformed(e.to_string()))?;
    check_integer_tokens(text)?;
    Ok(value)
}

/// Every integer token of a text already known to be JSON.
fn check_integer_tokens(text: &str) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let len = bytes[at..]
                    .iter()
                    .take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                    .count();
                check_integer_token(&text[at..at + len], at)?;
                at += len;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

fn check_integer_token(token: &str, offset: usize) -> Result<(), JsonError> {
    if token.contains(['.', 'e', 'E']) {
        return Ok(());
    }
    match token.trim_start_matches('-').parse::<u64>() {
        Ok(n) if n <= MAX_SAFE_INTEGER => Ok(()),
        _ => {
            let token = token.chars().take(40).collect();
            Err(JsonError::UnsafeInteger { token, offset })
        }
    }
}

/// One past the closing quote of the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// What a `Value` can hold although I-JSON forbids it.
fn check_value(value: &Value, depth: usize) -> Result<(), JsonError> {
    match value {
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => Err(JsonError::TooDeep),
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(text) => check_string(text),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) if i.unsigned_abs() > MAX_SAFE_INTEGER => {
                Err(JsonError::UnsafeInteger { token: n.to_string(), offset: 0 })
            }
            (None, Some(_)) => Err(JsonError::UnsafeInteger { token: n.to_string(), offset: 0 }),
            // Canonical form writes such a double as an integer token, which would not come back
            // in through this door.
            (None, None) if n.as_f64().is_some_and(is_written_as_unsafe_integer) => {
                Err(JsonError::UnsafeInteger { token: n.to_string(), offset: 0 })
            }
            _ => Ok(()),
        },
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            check_string(name)?;
            check_value(value, depth + 1)
        }),
    }
}

/// RFC 8785 writes doubles below 1e21 without an exponent.
fn is_written_as_unsafe_integer(number: f64) -> bool {
    (MAX_SAFE_INTEGER as f64) < number.abs() && number.abs() < 1e21
}

fn check_string(text: &str) -> Result<(), JsonError> {
    if text.contains('\0') {
        return Err(JsonError::Malformed("a string holds U+0000, which is not allowed".into()));
    }
    Ok(())
}

/// Builds a [`Value`] and refuses duplicate members and U+0000, which serde_json lets pass.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        check_string(text).map_err(E::custom)?;
        Ok(text.into())
    }
    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        check_string(&text).map_err(E::custom)?;
        Ok(text.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(items.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            check_string(&name).map_err(A::Error::custom)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate member {name:?}")));
            }
            let value = map.next_value_seed(Strict)?;
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn canonical_form_is_reached() {
        for (text, canonical) in [
            (r#" { "b" : 1.0 , "a":[ 1e21, -0 ,"\u20ac\/"] } "#, r#"{"a":[1e+21,0,"€/"],"b":1}"#),
            ("9007199254740991", "9007199254740991"),
            ("\"\\u0001\\ud83d\\ude00\"", "\"\\u0001😀\""),
        ] {
            assert_eq!(CanonicalJson::parse(text).expect(text).as_str(), canonical);
        }
    }

    #[test]
    fn what_is_not_i_json_is_refused() {
        for text in [
            "9007199254740992",
            "[-9007199254740992]",
            r#"{"a":18446744073709551616}"#,
            "9007199254740993.0",
            "1e20",
            "1e400",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#""\ud800""#,
            r#""\u0000""#,
            r#"{"\u0000":1}"#,
            "{} {}",
            "{",
            "",
            "nan",
        ] {
            assert!(CanonicalJson::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(CanonicalJson::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(CanonicalJson::parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
    }

    #[test]
    fn integer_tokens_inside_strings_are_text() {
        assert!(CanonicalJson::parse(r#"["9007199254740993 \" 9007199254740993"]"#).is_ok());
        assert!(CanonicalJson::parse("[1e21]").is_ok());
    }

    #[test]
    fn it_serialises_as_itself() {
        let json = CanonicalJson::parse(r#"{"a":1}"#).expect("JSON");
        assert_eq!(serde_json::to_string(&[&json]).expect("text"), r#"[{"a":1}]"#);
    }
}
