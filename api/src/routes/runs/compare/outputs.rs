//! Where two outputs first differ.

use std::collections::BTreeSet;

use serde_json::Value;
use stella_domain::json::CanonicalJson;

use crate::types::OutputsDifference;

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 200;

/// The first place, in the order of canonical JSON, at which `b` is not what `a` is.
pub(super) fn first(a: &CanonicalJson, b: &CanonicalJson) -> Option<OutputsDifference> {
    if a == b {
        return None;
    }
    let (a, b) = (a.to_value(), b.to_value());
    let mut path = String::new();
    let (a, b) = descend(Some(&a), Some(&b), &mut path)?;
    Some(OutputsDifference { path, a: a.map(shown), b: b.map(shown) })
}

type Pair<'v> = (Option<&'v Value>, Option<&'v Value>);

/// Values are at most as deep as what comes in through the door.
fn descend<'v>(a: Option<&'v Value>, b: Option<&'v Value>, path: &mut String) -> Option<Pair<'v>> {
    let length = path.len();
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().find_map(|name| {
                path.push('/');
                path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                let found = descend(a.get(name), b.get(name), path);
                if found.is_none() {
                    path.truncate(length);
                }
                found
            })
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => (0..a.len().max(b.len())).find_map(|i| {
            path.push_str(&format!("/{i}"));
            let found = descend(a.get(i), b.get(i), path);
            if found.is_none() {
                path.truncate(length);
            }
            found
        }),
        (a, b) => (a != b).then_some((a, b)),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_place_is_named() {
        let cases = [
            (r#"{"a":1}"#, r#"{"a":1}"#, None),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, Some(("/b", Some("2"), Some("3")))),
            (
                r#"{"a":[1,{"x":2}]}"#,
                r#"{"a":[1,{"x":3}]}"#,
                Some(("/a/1/x", Some("2"), Some("3"))),
            ),
            (r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, Some(("/a/1", None, Some("2")))),
            (r#"{"a/b":{"~":1}}"#, r#"{"a/b":{}}"#, Some(("/a~1b/~0", Some("1"), None))),
            (r#"{"a":{}}"#, r#"{"a":[]}"#, Some(("/a", Some("{}"), Some("[]")))),
        ];
        for (a, b, expected) in cases {
            let [x, y] = [a, b].map(|text| CanonicalJson::parse(text).unwrap());
            let found = first(&x, &y);
            let found = found.as_ref().map(|d| (&*d.path, d.a.as_deref(), d.b.as_deref()));
            assert_eq!(found, expected, "{a} {b}");
        }
    }

    #[test]
    fn long_values_are_cut() {
        let [a, b] = ["ä", "ö"]
            .map(|c| CanonicalJson::parse(&format!("{{\"a\":\"{}\"}}", c.repeat(1000))).unwrap());
        assert_eq!(first(&a, &b).unwrap().a.unwrap().chars().count(), SHOWN_CHARS + 1);
    }
}
