//! What a verifier refuses as too large is not sealed: ledger format, section 2.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use stella_domain::{
    chain::{ChainError, Commit, Draft, Head},
    event::EncodedEvent,
    hash::Salt,
    ids::Actor,
    json::CanonicalJson,
    limits::{COMMIT_BYTES, COMMIT_EVENTS, EVENT_PART_BYTES},
    time::Timestamp,
};

/// A commit of so many events, each with a payload of so many bytes beside 2 bytes of data.
fn seal(events: usize, payload_bytes: usize) -> Result<Commit, ChainError> {
    let payload = format!(r#"{{"x":"{}"}}"#, "x".repeat(payload_bytes - 8));
    let event = EncodedEvent {
        event_type: "StepStarted",
        schema: 1,
        data: CanonicalJson::empty_object(),
        payload: Some(CanonicalJson::parse(&payload).unwrap()),
    };
    let draft = Draft {
        stream: "dag/x".parse().unwrap(),
        stream_version: 1,
        actor: Actor::user("ann"),
        events: vec![(event, Salt::from([1; 16])); events],
    };
    let ledger = Arc::new("stella.test/acme".parse().unwrap());
    Commit::seal(&ledger, &Head::EMPTY, Timestamp::ZERO, draft)
}

#[test]
fn a_commit_has_at_most_a_thousand_events() {
    assert_eq!(seal(COMMIT_EVENTS, 8).unwrap().events.len(), 1_000);
    let error = seal(COMMIT_EVENTS + 1, 8).unwrap_err();
    assert_eq!(error, ChainError::TooLarge { seq: 0, events: 1_001, bytes: 10_010 });
}

#[test]
fn a_commit_has_at_most_four_mebibytes() {
    let events = COMMIT_BYTES / EVENT_PART_BYTES;
    assert_eq!(seal(events, EVENT_PART_BYTES - 2).unwrap().events.len(), events);
    let error = seal(events, EVENT_PART_BYTES - 1).unwrap_err();
    let bytes = COMMIT_BYTES + events;
    assert_eq!(error, ChainError::TooLarge { seq: 0, events, bytes });
    assert!(error.to_string().contains("4194304 bytes are allowed"), "{error}");
}
