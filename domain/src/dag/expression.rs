//! The grammar of `${…}`:
//!
//! ```text
//! expression = "${" ( "inputs" | "item" | "index" | "steps" step ".outputs" ) path "}"
//! step       = "." step id | "[" JSON string "]"
//! path       = ( "." name | "[" digits "]" | "[" JSON string "]" )*
//! name       = letters, digits, "_", "-"
//! ```
//!
//! A step id may hold dots; after `.` it ends at the first `.outputs`. One that itself holds
//! `.outputs` is written in brackets. White space is allowed just inside the braces.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error::member;
use crate::ids::StepId;

/// How a value begins that became an artifact, in canonical form.
const ARTIFACT: &str = "{\"$artifact\":";

/// One step of a path into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Member(String),
    Item(usize),
}

/// What an expression reads from; `S` names a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root<S> {
    Inputs,
    Outputs(S),
    /// The item of a `forEach` that the step is carried out for.
    Item,
    /// Its place in the list, from 0.
    Index,
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression<S> {
    /// As the author wrote it, with its braces.
    pub(super) text: String,
    pub(super) root: Root<S>,
    pub(super) path: Vec<Segment>,
}

/// A piece of a string value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<S> {
    Text(String),
    Expression(Expression<S>),
}

/// Split a string into text and expressions; `$${` stands for `${`.
///
/// What does not parse is given as a message, and the rest is still looked at.
pub(super) fn split(text: &str) -> (Vec<Piece<StepId>>, Vec<String>) {
    let (mut pieces, mut errors) = (Vec::new(), Vec::new());
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            plain.push_str("${");
            rest = after;
        } else if rest.starts_with("${") {
            match parse(rest) {
                Ok((expression, len)) => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Expression(expression));
                    rest = &rest[len..];
                }
                Err(message) => {
                    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                    let shown: String = rest[..end].chars().take(80).collect();
                    errors.push(format!(
                        "bad expression {shown:?}: {message} (write $${{ for a literal ${{)"
                    ));
                    rest = &rest[end..];
                }
            }
        } else {
            plain.push('$');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    (pieces, errors)
}

/// The expression that `text` begins with, and its length in bytes.
fn parse(text: &str) -> Result<(Expression<StepId>, usize), String> {
    let rest = text.strip_prefix("${").unwrap_or(text).trim_start();
    let (root, mut rest) = if let Some(rest) = keyword(rest, "inputs") {
        (Root::Inputs, rest)
    } else if let Some(rest) = keyword(rest, "steps") {
        let (step, rest) = parse_step(rest)?;
        (Root::Outputs(step), rest)
    } else if let Some(rest) = keyword(rest, "item") {
        (Root::Item, rest)
    } else if let Some(rest) = keyword(rest, "index") {
        (Root::Index, rest)
    } else {
        return Err(
            "it must begin with `inputs` or `steps`, or in a forEach with `item` or `index`".into(),
        );
    };
    let mut path = Vec::new();
    loop {
        if let Some(after) = rest.trim_start().strip_prefix('}') {
            let len = text.len() - after.len();
            return Ok((Expression { text: text[..len].to_owned(), root, path }, len));
        }
        let (segment, after) = parse_segment(rest)?;
        path.push(segment);
        rest = after;
    }
}

/// What follows `word`, unless the name goes on.
fn keyword<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.strip_prefix(word).filter(|rest| !rest.starts_with(is_name))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

fn parse_step(text: &str) -> Result<(StepId, &str), String> {
    let wrong = || "write it as ${steps.<step id>.outputs.<name>}".to_owned();
    let (id, rest) = if let Some(dotted) = text.strip_prefix('.') {
        let within = &dotted[..dotted.find('}').unwrap_or(dotted.len())];
        let end = within
            .match_indices(".outputs")
            .map(|(at, _)| at)
            .find(|at| keyword(&within[*at..], ".outputs").is_some())
            .ok_or_else(wrong)?;
        (dotted[..end].to_owned(), &dotted[end..])
    } else if text.starts_with("[\"") {
        parse_quoted(text)?
    } else {
        return Err(wrong());
    };
    let rest = keyword(rest, ".outputs").ok_or_else(wrong)?;
    Ok((id.parse().map_err(|e: crate::ids::IdError| e.to_string())?, rest))
}

fn parse_segment(text: &str) -> Result<(Segment, &str), String> {
    if let Some(rest) = text.strip_prefix('.') {
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err("a name must follow `.` (write [\"…\"] for an unusual one)".into());
        }
        return Ok((Segment::Member(rest[..end].to_owned()), &rest[end..]));
    }
    if text.starts_with("[\"") {
        let (name, rest) = parse_quoted(text)?;
        return Ok((Segment::Member(name), rest));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (digits, rest) = rest.split_once(']').ok_or("a `[` is not closed")?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let index = digits.parse().ok().filter(|_| all_digits);
        let index = index.ok_or("within [ ] stands a place from 0, or a name in \"…\"")?;
        return Ok((Segment::Item(index), rest));
    }
    match text.chars().next() {
        None => Err("it is not closed with `}`".into()),
        Some(c) => Err(format!("unexpected {c:?}; a path goes on with `.name` or `[0]`")),
    }
}

/// `["…"]`, the quoted part a JSON string.
fn parse_quoted(text: &str) -> Result<(String, &str), String> {
    let wrong = "a `[\"` must be followed by a JSON string and `\"]`";
    let body = text.strip_prefix('[').unwrap_or(text);
    let mut strings = serde_json::Deserializer::from_str(body).into_iter::<String>();
    let name = strings.next().and_then(Result::ok).ok_or(wrong)?;
    let rest = body[strings.byte_offset()..].strip_prefix(']').ok_or(wrong)?;
    Ok((name, rest))
}

impl<S: fmt::Display> Expression<S> {
    /// The text of the value that the path leads to within `root`, a canonical JSON text, or the
    /// path of the first thing that is not there.
    ///
    /// A slice of canonical text is canonical, so nothing is parsed into a tree.
    pub(super) fn look_up<'a>(&self, root: Option<&'a str>) -> Result<&'a str, String> {
        let missing = |found: usize| {
            let start = match &self.root {
                Root::Inputs => "inputs".to_owned(),
                Root::Outputs(step) => format!("steps.{step}.outputs"),
                Root::Item => "item".to_owned(),
                Root::Index => "index".to_owned(),
            };
            self.path[..found].iter().fold(start, |path, segment| match segment {
                Segment::Member(name) => member(&path, name),
                Segment::Item(index) => format!("{path}[{index}]"),
            })
        };
        let mut at = root.ok_or_else(|| missing(0))?;
        for (i, segment) in self.path.iter().enumerate() {
            at = pick(at, segment).ok_or_else(|| match at.starts_with(ARTIFACT) {
                true => format!(
                    "{} is an artifact, into which none can look: {}",
                    missing(i),
                    missing(i + 1)
                ),
                false => missing(i + 1),
            })?;
        }
        Ok(at)
    }
}

/// One member or item of a JSON text.
fn pick<'a>(text: &'a str, segment: &Segment) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = match segment {
        Segment::Member(_) => deserializer.deserialize_map(Pick(segment)),
        Segment::Item(_) => deserializer.deserialize_seq(Pick(segment)),
    };
    // An error means that `text` is another kind of value, which has no such part.
    found.ok().flatten().map(RawValue::get)
}

struct Pick<'s>(&'s Segment);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Segment::Member(wanted) = self.0 else {
            return Err(A::Error::custom("an object has no numbered items"));
        };
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == *wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Segment::Item(wanted) = self.0 else {
            return Err(A::Error::custom("a list has no named members"));
        };
        let mut at = 0;
        let mut found = None;
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            if at == *wanted {
                found = Some(item);
            }
            at += 1;
        }
        Ok(found)
    }
}
