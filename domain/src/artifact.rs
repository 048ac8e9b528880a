//! Artifacts: what is too large for an event. They are kept in a content-addressed store beside the
//! ledger; events hold digest, size and media type. Source: `docs/ledger-format.md`, section 12.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{
    hash::{ArtifactHasher, Hash32},
    json::CanonicalJson,
    limits::INLINE_BYTES,
    parsed,
};

/// The one member of an object that stands for an artifact.
pub const MARK: &str = "$artifact";
/// The media type of a value that was moved out of an event.
pub const JSON: &str = "application/json";
/// The media type of a step's log: what its plugin wrote to stderr, as bytes.
pub const LOG: &str = "text/plain";

/// An artifact's digest: `b3:` and 64 hex digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactDigest(Hash32);

impl ArtifactDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = ArtifactHasher::default();
        hasher.update(bytes);
        Self(hasher.finish())
    }

    /// The hash behind it.
    pub fn hash(&self) -> &Hash32 {
        &self.0
    }
}

impl From<Hash32> for ArtifactDigest {
    fn from(hash: Hash32) -> Self {
        Self(hash)
    }
}

/// Why a text is not an artifact's digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the digest of an artifact: write b3: and 64 lower-case hex digits")]
pub struct DigestError(String);

impl FromStr for ArtifactDigest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hash = text.strip_prefix("b3:").and_then(|hex| hex.parse().ok());
        hash.map(Self).ok_or_else(|| DigestError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for ArtifactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.0)
    }
}

impl Serialize for ArtifactDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed::from_text(deserializer)
    }
}

/// What an event says of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifact {
    /// What its bytes hash to.
    pub digest: ArtifactDigest,
    /// What they are, such as `application/json`.
    pub media_type: Arc<str>,
    /// The file that a plugin left; none for a value that was moved out of an event, and for logs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<Arc<str>>,
    /// How many bytes they are.
    pub size: u64,
}

impl Artifact {
    /// The artifact that `value` stands for: `{"$artifact": …}` and nothing beside.
    pub fn named_by(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|object| object.len() == 1)?;
        Self::deserialize(object.get(MARK)?).ok()
    }

    /// The object that stands for it.
    pub fn to_value(&self) -> Value {
        // A plain struct of strings and an integer: it is always a value.
        let inner = serde_json::to_value(self).unwrap_or_default();
        Value::Object(Map::from_iter([(MARK.to_owned(), inner)]))
    }
}

/// Whether a file that a plugin left can be recorded under this name.
pub fn is_file_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Every artifact that `value` names, in the order in which they stand.
pub fn named_in(value: &Value) -> Vec<Artifact> {
    let mut found = vec![];
    visit(value, "", &mut |_, artifact| found.push(artifact));
    found
}

/// `at` is where `value` stands, a JSON pointer (RFC 6901).
fn visit(value: &Value, at: &str, found: &mut impl FnMut(&str, Artifact)) {
    match value {
        Value::Object(members) => match Artifact::named_by(value) {
            Some(artifact) => found(at, artifact),
            None => members.iter().for_each(|(name, member)| {
                let name = name.replace('~', "~0").replace('/', "~1");
                visit(member, &format!("{at}/{name}"), found);
            }),
        },
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| visit(item, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

/// Put something else in the place of every artifact that `value` names, in the order of
/// [`named_in`].
pub fn replace(value: &mut Value, with: &mut impl FnMut(Artifact) -> Value) {
    match Artifact::named_by(value) {
        Some(artifact) => *value = with(artifact),
        None => match value {
            Value::Object(members) => members.values_mut().for_each(|member| replace(member, with)),
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, with)),
            _ => {}
        },
    }
}

/// What an artifact is to the event that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A member of inputs or outputs that was moved out.
    Value,
    /// A file that a plugin left.
    File,
    /// What a plugin wrote about its work.
    Log,
}

/// An artifact that an event names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is to the event.
    pub kind: Kind,
    /// Where it stands in the event's payload: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The artifact.
    pub artifact: Artifact,
}

/// Every artifact that an event's payload names, whatever event it is.
pub fn named_in_payload(payload: &CanonicalJson) -> Vec<Named> {
    // Most payloads name none, and are not parsed.
    if !payload.as_str().contains("\"b3:") {
        return vec![];
    }
    let payload = payload.to_value();
    let log = payload.get("log").and_then(|log| Artifact::deserialize(log).ok());
    let log = log.map(|artifact| Named { kind: Kind::Log, pointer: "/log".to_owned(), artifact });
    let mut all: Vec<Named> = log.into_iter().collect();
    visit(&payload, "", &mut |at, artifact| {
        let kind = if artifact.name.is_some() { Kind::File } else { Kind::Value };
        all.push(Named { kind, pointer: at.to_owned(), artifact });
    });
    all
}

/// Every artifact that a JSON text names.
pub fn named_in_text(json: &CanonicalJson) -> Vec<Artifact> {
    if json.as_str().contains(MARK) { named_in(&json.to_value()) } else { vec![] }
}

/// An object of which the largest members were moved out, so that an event can hold the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spilled {
    /// What is recorded.
    pub rest: CanonicalJson,
    /// What was moved out, each with its bytes, which are canonical JSON.
    pub moved: Vec<(Artifact, CanonicalJson)>,
}

/// Move members out of `object`, the largest first, until at most [`INLINE_BYTES`] are left.
///
/// The same object always gives the same: what is recorded can be compared, and hashed.
///
/// # Errors
/// The bytes that are left when nothing can be moved out any more.
pub fn spill(object: &CanonicalJson) -> Result<Spilled, usize> {
    let mut spilled = Spilled { rest: object.clone(), moved: vec![] };
    if object.as_str().len() <= INLINE_BYTES {
        return Ok(spilled);
    }
    let Value::Object(mut members) = object.to_value() else { return Err(object.as_str().len()) };
    let mut by_size: Vec<(usize, String, CanonicalJson)> = members
        .iter()
        .filter_map(|(name, value)| Some((name, CanonicalJson::from_value(value).ok()?)))
        .map(|(name, json)| (json.as_str().len(), name.clone(), json))
        .collect();
    by_size.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut left = object.as_str().len();
    for (bytes, name, json) in by_size {
        if left <= INLINE_BYTES {
            break;
        }
        let digest = ArtifactDigest::of(json.as_str().as_bytes());
        let artifact = Artifact { digest, media_type: JSON.into(), name: None, size: bytes as u64 };
        let value = artifact.to_value();
        let stands_for_it = value.to_string().len();
        if bytes <= stands_for_it {
            break;
        }
        left = left - bytes + stands_for_it;
        members.insert(name, value);
        spilled.moved.push((artifact, json));
    }
    // Members that came from canonical JSON, and artifacts, which are.
    spilled.rest = CanonicalJson::from_value(&Value::Object(members)).map_err(|_| left)?;
    if spilled.rest.as_str().len() > INLINE_BYTES { Err(left) } else { Ok(spilled) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_small_stays() {
        let object = CanonicalJson::from_value(&json!({ "a": "x".repeat(1000) })).unwrap();
        let spilled = spill(&object).unwrap();
        assert_eq!((spilled.rest, spilled.moved.len()), (object, 0));
    }

    #[test]
    fn the_largest_member_goes_first_and_no_more_than_needed() {
        let large = json!(["y".repeat(INLINE_BYTES)]);
        let object = json!({ "a": "x".repeat(1000), "large": large, "z": 1 });
        let spilled = spill(&CanonicalJson::from_value(&object).unwrap()).unwrap();
        let rest = spilled.rest.to_value();
        assert_eq!((&rest["a"], &rest["z"]), (&object["a"], &object["z"]));
        let [(artifact, bytes)] = &*spilled.moved else { panic!("{:?}", spilled.moved.len()) };
        assert_eq!(bytes.to_value(), large);
        assert_eq!(Artifact::named_by(&rest["large"]).as_ref(), Some(artifact));
        assert_eq!(artifact.digest, ArtifactDigest::of(bytes.as_str().as_bytes()));
        assert_eq!(artifact.size, bytes.as_str().len() as u64);
        assert_eq!(named_in_text(&spilled.rest), std::slice::from_ref(artifact));
    }

    #[test]
    fn many_small_members_that_are_too_much_together_are_refused() {
        let members = (0..20_000).map(|i| (format!("member{i}"), json!(i)));
        let object = CanonicalJson::from_value(&Value::Object(members.collect())).unwrap();
        assert!(spill(&object).unwrap_err() > INLINE_BYTES);
    }

    #[test]
    fn only_an_object_of_one_member_stands_for_an_artifact() {
        let artifact = json!({ "digest": ArtifactDigest::of(b""), "mediaType": JSON, "size": 0 });
        assert!(Artifact::named_by(&json!({ MARK: artifact })).is_some());
        for other in [
            json!({ MARK: artifact, "b": 1 }),
            json!({ MARK: { "digest": "b3:00", "mediaType": JSON, "size": 0 } }),
            json!({ MARK: "b3" }),
            json!([MARK]),
        ] {
            assert_eq!(Artifact::named_by(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_moved_out_put_back_gives_the_object(
            sizes in proptest::collection::btree_map("[a-z$]{1,6}", 0..90_000_usize, 0..6),
        ) {
            let object = sizes.iter().map(|(name, n)| (name.clone(), json!("x".repeat(*n))));
            let object = CanonicalJson::from_value(&Value::Object(object.collect())).unwrap();
            let spilled = spill(&object).unwrap();
            prop_assert!(spilled.rest.as_str().len() <= INLINE_BYTES);
            let mut back = spilled.rest.to_value();
            for member in back.as_object_mut().unwrap().values_mut() {
                if let Some(artifact) = Artifact::named_by(member) {
                    let (_, json) =
                        spilled.moved.iter().find(|(moved, _)| *moved == artifact).unwrap();
                    *member = json.to_value();
                }
            }
            prop_assert_eq!(CanonicalJson::from_value(&back).unwrap(), object);
        }
    }
}
