//! What people write on the command line and in files, read into what it means.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::{Map, Value};
use stella_domain::{
    json::{CanonicalJson, parse_i_json},
    time::{Timestamp, TimestampError},
};

use crate::failure::Failure;

/// Bytes that a spec or a file of inputs may have: as many as the server takes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// `key=value`, as in `--input lockfile=/tmp/Cargo.lock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Read `key=value`.
pub(crate) fn key_value(text: &str) -> Result<KeyValue, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok(KeyValue { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// A point in time as people write it: RFC 3339, or a day.
pub(crate) fn time(text: &str) -> Result<Timestamp, TimestampError> {
    let is_day = text.len() == 10 && !text.contains(['T', 't', ' ']);
    if is_day {
        return Timestamp::parse_lenient(&format!("{text}T00:00:00Z"))
            .or_else(|_| Timestamp::parse_lenient(text));
    }
    Timestamp::parse_lenient(text)
}

/// A run's inputs: the object in `file`, and over it each `--input`.
///
/// A value is JSON where it reads as JSON, and text otherwise.
pub(crate) fn inputs(file: Option<&Path>, given: &[KeyValue]) -> Result<CanonicalJson, Failure> {
    let mut inputs = match file {
        Some(path) => object(path)?,
        None => Map::new(),
    };
    for KeyValue { key, value } in given {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
        let value = if is_json {
            parse_i_json(value)
                .map_err(|error| Failure::usage(format!("--input {key}: {error}")))?
        } else {
            Value::String(value.clone())
        };
        if given.iter().filter(|other| other.key == *key).count() > 1 {
            return Err(Failure::usage(format!("--input {key} is given more than once")));
        }
        inputs.insert(key.clone(), value);
    }
    CanonicalJson::from_value(&Value::Object(inputs))
        .map_err(|error| Failure::usage(format!("the inputs: {error}")))
}

fn object(path: &Path) -> Result<Map<String, Value>, Failure> {
    let wrong = |reason: String| Failure::usage(format!("{}: {reason}", name_of(path)));
    let value = parse_i_json(&text(path)?).map_err(|error| wrong(error.to_string()))?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(wrong("the inputs are a JSON object, such as {\"lockfile\": \"…\"}".to_owned())),
    }
}

/// The text of a file, or of stdin where the path is `-`.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let wrong =
        |error: io::Error| Failure::usage(format!("cannot read {}: {error}", name_of(path)));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if is_stdin(path) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(wrong)?)
    };
    source.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let what = format!("{} is larger than {MAX_FILE_BYTES} bytes", name_of(path));
        return Err(Failure::usage(what));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("{} is not UTF-8 from byte {at} on", name_of(path)))
    })
}

/// Whether the path means stdin.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn name_of(path: &Path) -> String {
    if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_json_where_they_read_as_json() {
        let given: Vec<_> = ["a=5", "b=text", "c=\"5\"", "d=[true]", "e=", "f=x=y", "g=1.2.3"]
            .map(|text| key_value(text).unwrap())
            .into();
        assert_eq!(
            inputs(None, &given).unwrap().as_str(),
            r#"{"a":5,"b":"text","c":"5","d":[true],"e":"","f":"x=y","g":"1.2.3"}"#
        );
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_at_once() {
        for text in ["a=9007199254740993", r#"a={"x":1,"x":2}"#, r#"a="\u0000""#, "a=1e400"] {
            let given = [key_value(text).unwrap()];
            let what = inputs(None, &given).map_err(|failure| failure.what);
            assert!(what.is_err_and(|what| what.starts_with("--input a: ")), "{text}");
        }
        assert!(key_value("nothing").is_err() && key_value("=x").is_err());
    }

    #[test]
    fn days_and_offsets_are_times() {
        for (text, micros) in [
            ("1970-01-02", 86_400_000_000),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01T00:00:00.5Z", 500_000),
        ] {
            assert_eq!(time(text).map(Timestamp::as_micros), Ok(micros), "{text}");
        }
        assert!(time("yesterday").is_err() && time("1970-13-01").is_err());
    }
}
