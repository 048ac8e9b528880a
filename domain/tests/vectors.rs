//! Every vector of `fixtures/ledger-vectors.json`, which fixes the ledger format to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::value::RawValue;
use stella_domain::{
    checkpoint::{self, SigningKey, VerifierKey},
    hash::{self, Hash32, RunIdKind, Salt},
    ids::Tenant,
    json::CanonicalJson,
    merkle::{self, Frontier, RangeFold, RangeProof},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vectors {
    contexts: serde_json::Map<String, serde_json::Value>,
    events: Vec<Event>,
    inputs_hash: Vec<Inputs>,
    run_ids: Vec<RunIdVector>,
    roots: Vec<Root>,
    windows: Vec<Window>,
    checkpoint: CheckpointVector,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Event {
    data: String,
    data_hash: Hash32,
    hash: Hash32,
    header: String,
    line: String,
    payload: Option<String>,
    payload_hash: Hash32,
    salt: Option<Salt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inputs {
    inputs: String,
    inputs_hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RunIdVector {
    tenant: Tenant,
    kind: String,
    key: String,
    attempt: u32,
    run_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Root {
    tree_size: usize,
    root: Hash32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Window {
    first: u64,
    end: u64,
    tree_size: u64,
    left: Vec<Hash32>,
    right: Vec<Hash32>,
    root: Hash32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CheckpointVector {
    ed25519_seed: String,
    vkey: String,
    note: String,
}

/// The members of a line, as slices of its text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    hash: Hash32,
    #[serde(borrow)]
    header: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    salt: Option<Salt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    actor: String,
    commit_seq: u64,
    data_hash: Hash32,
    ledger: String,
    payload_hash: Hash32,
    prev: Hash32,
    recorded_at: String,
    schema: u32,
    seq: u64,
    stream: String,
    stream_version: u64,
    r#type: String,
    v: u64,
}

fn vectors() -> Vectors {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/ledger-vectors.json");
    let vectors: Vectors = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let counts = [
        vectors.events.len(),
        vectors.inputs_hash.len(),
        vectors.run_ids.len(),
        vectors.roots.len(),
        vectors.windows.len(),
    ];
    assert_eq!(counts, [10, 3, 5, 11, 7], "a vector is missing");
    vectors
}

fn leaves(vectors: &Vectors) -> Vec<Hash32> {
    vectors.events.iter().map(|event| event.hash).collect()
}

#[test]
fn context_strings() {
    // Through the plain BLAKE3 interface, which derives the context's key anew each time.
    let vectors = vectors();
    let derive = |context: &str, input: &[u8]| -> Hash32 {
        blake3::derive_key(vectors.contexts[context].as_str().unwrap(), input).into()
    };
    assert_eq!(vectors.contexts.len(), 5);
    assert_eq!(derive("data", b"{}"), hash::data_hash("{}"));
    assert_eq!(derive("event", b"{}"), hash::event_hash("{}"));
    let salted = [&[7; 16][..], b"{}"].concat();
    assert_eq!(derive("payload", &salted), hash::payload_hash(&Salt::from([7; 16]), "{}"));
    let inputs = format!("b3:{}", derive("inputs", b"{}"));
    assert_eq!(inputs, hash::inputs_hash(&CanonicalJson::empty_object()));
    let tenant: Tenant = "acme".parse().unwrap();
    let id = derive("runId", br#"["acme","run","k",1]"#);
    let id = stella_domain::ids::RunId::from_bytes(id.as_bytes()[..16].try_into().unwrap());
    assert_eq!(id, hash::derived_run_id(&tenant, RunIdKind::Run, "k", 1));
}

#[test]
fn event_hashes() {
    for event in &vectors().events {
        let at = &event.header;
        assert_eq!(hash::data_hash(&event.data), event.data_hash, "{at}");
        let payload_hash = match (&event.payload, &event.salt) {
            (Some(payload), Some(salt)) => hash::payload_hash(salt, payload),
            (None, None) => Hash32::ZERO,
            _ => panic!("a payload without a salt, or the other way round: {at}"),
        };
        assert_eq!(payload_hash, event.payload_hash, "{at}");
        assert_eq!(hash::event_hash(&event.header), event.hash, "{at}");
    }
}

#[test]
fn lines_slice_into_what_was_hashed() {
    for event in &vectors().events {
        let text = event.line.strip_suffix('\n').unwrap_or(&event.line);
        let line: Line<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(line.data.get(), event.data);
        assert_eq!(line.header.get(), event.header);
        assert_eq!(line.payload.get(), event.payload.as_deref().unwrap_or("null"));
        assert_eq!((line.hash, line.salt), (event.hash, event.salt));
        for part in [text, &event.data, &event.header] {
            assert_eq!(CanonicalJson::parse(part).unwrap().as_str(), part);
        }
    }
}

#[test]
fn headers_chain() {
    let mut prev = Hash32::ZERO;
    for (seq, event) in (0..).zip(&vectors().events) {
        let header: Header = serde_json::from_str(&event.header).unwrap();
        assert_eq!((header.seq, header.prev), (seq, prev));
        assert_eq!(header.data_hash, event.data_hash);
        assert_eq!(header.payload_hash, event.payload_hash);
        assert_eq!((header.v, header.ledger.as_str()), (1, "stella.example/acme"));
        prev = event.hash;
    }
}

#[test]
fn inputs_hashes() {
    for vector in &vectors().inputs_hash {
        let inputs = CanonicalJson::parse(&vector.inputs).unwrap();
        assert_eq!(inputs.as_str(), vector.inputs);
        assert_eq!(hash::inputs_hash(&inputs), vector.inputs_hash);
    }
}

#[test]
fn run_ids() {
    for vector in &vectors().run_ids {
        let kind = match vector.kind.as_str() {
            "token" => RunIdKind::Token,
            "run" => RunIdKind::Run,
            other => panic!("unknown kind {other}"),
        };
        let id = hash::derived_run_id(&vector.tenant, kind, &vector.key, vector.attempt);
        assert_eq!(id.as_str(), vector.run_id);
    }
}

#[test]
fn roots() {
    let vectors = vectors();
    let leaves = leaves(&vectors);
    let mut frontier = Frontier::default();
    for (size, vector) in vectors.roots.iter().enumerate() {
        assert_eq!(size, vector.tree_size);
        assert_eq!(merkle::root(&leaves[..size]), vector.root, "{size}");
        assert_eq!(frontier.root(), vector.root, "{size}");
        if let Some(next) = leaves.get(size) {
            frontier.append(next);
        }
    }
}

#[test]
fn windows() {
    let vectors = vectors();
    let leaves = leaves(&vectors);
    for Window { first, end, tree_size, left, right, root } in vectors.windows {
        let proof = RangeProof { left, right };
        let made = merkle::range_proof(&leaves[..], first..end, tree_size).unwrap();
        assert_eq!(made, proof, "[{first}, {end}) of {tree_size}");
        let mut fold = RangeFold::new(first..end, tree_size, &proof).unwrap();
        for leaf in &leaves[usize::try_from(first).unwrap()..usize::try_from(end).unwrap()] {
            fold.push(leaf).unwrap();
        }
        assert_eq!(fold.root(), Ok(root), "[{first}, {end}) of {tree_size}");
    }
}

#[test]
fn checkpoint_note() {
    let vectors = vectors();
    let CheckpointVector { ed25519_seed, vkey, note } = vectors.checkpoint;
    let seed: Hash32 = ed25519_seed.parse().unwrap();
    let key = SigningKey::from_bytes(seed.as_bytes());
    let pinned: VerifierKey = vkey.parse().unwrap();
    let checkpoint = checkpoint::verify(&note, &pinned).unwrap();
    assert_eq!(checkpoint.size, 10);
    assert_eq!(checkpoint.root, vectors.roots[10].root);
    assert_eq!(checkpoint.sign(&key), note);
    assert_eq!(VerifierKey::new(checkpoint.ledger, &key).to_string(), vkey);
}

/// Commits built from the vectors' parts come out as the vectors' headers and lines.
#[test]
fn commits_give_the_headers_and_lines() {
    use std::{borrow::Cow, sync::Arc};
    use stella_domain::{
        chain::{Commit, StoredEvent, StoredPayload},
        json::CanonicalJson,
    };
    let vectors = vectors();
    let header = |event: &Event| -> Header { serde_json::from_str(&event.header).unwrap() };
    let mut lines = String::new();
    for events in vectors.events.chunk_by(|a, b| header(a).commit_seq == header(b).commit_seq) {
        let first = header(&events[0]);
        let commit = Commit {
            ledger: Arc::new(first.ledger.parse().unwrap()),
            seq: first.seq,
            stream: first.stream.parse().unwrap(),
            stream_version: first.stream_version,
            recorded_at: first.recorded_at.parse().unwrap(),
            actor: first.actor.parse().unwrap(),
            prev: first.prev,
            events: events
                .iter()
                .map(|event| StoredEvent {
                    event_type: Cow::Owned(header(event).r#type),
                    schema: header(event).schema,
                    data: CanonicalJson::parse(&event.data).unwrap(),
                    payload: match (&event.payload, &event.salt) {
                        (Some(json), Some(salt)) => StoredPayload::Present {
                            salt: *salt,
                            json: CanonicalJson::parse(json).unwrap(),
                        },
                        _ => StoredPayload::None,
                    },
                    hash: event.hash,
                })
                .collect(),
        };
        commit.verify().unwrap();
        for (i, event) in events.iter().enumerate() {
            assert_eq!(commit.header(i), event.header);
        }
        commit.write_ndjson(&mut lines);
    }
    let expected: Vec<&str> = vectors.events.iter().map(|event| event.line.as_str()).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}
