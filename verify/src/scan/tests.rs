#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::{collection, prelude::*};
use serde_json::{Map, Value};
use stella_domain::json::CanonicalJson;

use super::*;

/// Whether `text` is one canonical object and nothing else.
fn accepts(text: &str) -> bool {
    let mut scan = Scanner::new(text);
    scan.object().is_ok() && scan.end("").is_ok()
}

#[test]
fn canonical_objects_are_accepted() {
    for text in [
        "{}",
        r#"{"":0,"a":-1,"b":[],"c":[{},null,true,false,"x"]}"#,
        r#"{"\"":1,"\\":2,"a":"\b\t\n\f\r\u0001\u000b\u001f"}"#,
        r#"{"n":[1e+21,1e-7,0.000001,1.5,-0.1,5e-324,9007199254740991,-9007199254740991]}"#,
        // U+1F600 is D83D DE00 in UTF-16, before U+FB33.
        "{\"\u{20ac}\":0,\"\u{1f600}\":1,\"\u{fb33}\":2}",
        "{\"\u{7f}\":\"\u{7f}\u{2028}\"}",
    ] {
        assert!(accepts(text), "{text}");
    }
    assert!(accepts(&format!("{{\"a\":{}{}}}", "[".repeat(126), "]".repeat(126))));
}

#[test]
fn anything_else_is_refused() {
    for text in [
        "",
        "[]",
        "{",
        "{} ",
        " {}",
        r#"{ }"#,
        r#"{"a": 1}"#,
        r#"{"a":1,}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":tru}"#,
        r#"{"b":1,"a":2}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"aa":1,"a":2}"#,
        r#"{"\u0061":1}"#,
        r#"{"a":"\/"}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"a":"\u0008"}"#,
        r#"{"a":"\u000B"}"#,
        r#"{"a":"\u0020"}"#,
        r#"{"a":"\ud800"}"#,
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\0\"}",
        r#"{"a":"x}"#,
        r#"{"a":-0}"#,
        r#"{"a":-}"#,
        r#"{"a":01}"#,
        r#"{"a":1.0}"#,
        r#"{"a":1E5}"#,
        r#"{"a":1e21}"#,
        r#"{"a":1e400}"#,
        r#"{"a":.5}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":18446744073709551616}"#,
        r#"{"a":0.1000}"#,
        "{\"\u{fb33}\":1,\"\u{1f600}\":2}",
    ] {
        assert!(!accepts(text), "{text}");
    }
    assert!(!accepts(&format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127))));
}

fn name() -> impl Strategy<Value = String> {
    // Crossing points of the two orders, escapes, prefixes of each other.
    let odd = prop::sample::select(vec![
        "\u{1f600}",
        "\u{fb33}",
        "\u{ffff}",
        "\u{e000}",
        "\u{10ffff}",
        "\u{d7ff}",
        "é",
        "\"",
        "\\",
        "\n",
        "\u{1}",
        "a",
        "ab",
        "b",
        "",
    ]);
    collection::vec(prop_oneof![odd.prop_map(str::to_owned), "[ -~]{0,9}"], 0..3)
        .prop_map(|parts| parts.concat())
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-9_007_199_254_740_991..=9_007_199_254_740_991_i64).prop_map(Value::from),
        (-100..100_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1e25..1e25).prop_map(Value::from),
        (-1e15..1e15).prop_map(Value::from),
        (-1e-3..1e-3).prop_map(Value::from),
    ]
}

fn object() -> impl Strategy<Value = CanonicalJson> {
    let text = prop_oneof![name(), any::<String>().prop_map(|text| text.replace('\0', "0"))];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        text.prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            collection::vec((name(), inner), 0..6)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    });
    collection::vec((name(), value), 0..8)
        .prop_map(|members| Value::Object(Map::from_iter(members)))
        .prop_filter_map("a number that the door refuses", |v| CanonicalJson::from_value(&v).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_the_canonicaliser_writes_is_accepted(text in object()) {
        prop_assert!(accepts(text.as_str()), "{}", text);
    }

    #[test]
    fn mutated_text_is_accepted_exactly_if_it_is_its_own_canonical_form(
        text in object(),
        edits in collection::vec(
            (any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(
                b"{}[]:,\"\\ \n\t\r0123456789-+.eEtfnul/abxu\x00\x01\x1f\x7f".to_vec(),
            )),
            1..3,
        ),
    ) {
        let mut bytes = text.as_str().as_bytes().to_vec();
        for (place, edit, byte) in edits {
            let at = place.index(bytes.len().max(1)).min(bytes.len());
            match edit {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let canonical = CanonicalJson::parse(&text).is_ok_and(|json| json.as_str() == text);
        prop_assert_eq!(accepts(&text), canonical && text.starts_with('{'), "{}", text);
    }
}
