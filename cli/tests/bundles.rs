//! Verdicts on bundles, as people and scripts get them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Outcome, outcome, repository, stella};

const KEYS_OF: &str = "expected.json";

fn case(name: &str) -> String {
    repository().join("fixtures/tampered").join(name).display().to_string()
}

/// `ledger verify` of the first bundle of a case, with the case's first key.
fn verify(name: &str, more: &[&str]) -> Outcome {
    let expected = std::fs::read(format!("{}/{KEYS_OF}", case(name))).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let key = expected["keys"][0].as_str().unwrap().to_owned();
    let bundle = format!("{}/{}", case(name), expected["bundles"][0].as_str().unwrap());
    outcome(stella(&[&["ledger", "verify", &bundle, "--key", &key], more].concat()))
}

#[test]
fn each_verdict_has_its_exit_code() {
    verify("good", &[]).expect(0).says("VERIFIED").says("seq:").says("tree size:");
    verify("good_erased", &[]).expect(10).says("VERIFIED_WITH_ERASURES").says("8, 11");
    verify("cut_tail", &[]).expect(11).says("error: INCOMPLETE, seq 16").says("try:");
    verify("edited_data", &[]).expect(12).says("error: TAMPERED, seq 10").says("dataHash");
    verify("other_key", &[]).expect(13).says("error: UNTRUSTED").says("no signature by the key");
    let json = verify("edited_data", &["-o", "json"]).expect(12).json();
    assert_eq!((&json["verdict"], &json["seq"]), (&"TAMPERED".into(), &10.into()));
    assert_eq!(json["bundles"][0]["step"], 5);
}

#[test]
fn more_can_be_asked_of_a_bundle() {
    let since = format!("{}/since", case("good_since"));
    verify("good_since", &["--since", &since]).expect(0);
    verify("since_without_a_proof", &["--since", &since]).expect(11).says("no proof");
    verify("good_since", &["--since", "missing"]).expect(2).says("cannot read missing");
    let expected = std::fs::read(format!("{}/{KEYS_OF}", case("good_witnessed"))).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let key = |i: usize| expected["witnesses"][i].as_str().unwrap().to_owned();
    let (first, third) = (key(0), key(2));
    let both = ["--witness", &first, "--witness", &third];
    verify("good_witnessed", &both).expect(13).says("1 of the witnesses, 2 are needed");
    let one = [&both[..], &["--witnesses-needed", "1"]].concat();
    verify("good_witnessed", &one).expect(0).says("w1.example at 2026");
    let three = [&both[..], &["--witnesses-needed", "3"]].concat();
    verify("good_witnessed", &three).expect(2).says("only 2 --witness");
}

#[test]
fn keys_and_bundles_that_do_not_go_together() {
    let bundle = format!("{}/bundle", case("good"));
    outcome(stella(&["ledger", "verify", &bundle]))
        .expect(2)
        .says("no key was given")
        .says("--key");
    outcome(stella(&["ledger", "verify", &bundle, "--key", "nonsense"]))
        .expect(2)
        .says("three parts");
    outcome(stella(&["ledger", "verify", &bundle, "--since", "x"])).expect(2).says("--key");
    let events = format!("{bundle}/events.ndjson");
    outcome(stella(&["ledger", "verify", &events]))
        .expect(0)
        .says("nothing was proven against a checkpoint");
    let erased = format!("{}/bundle/events.ndjson", case("good_erased"));
    outcome(stella(&["ledger", "verify", &erased])).expect(0).says("8, 11");
    verify("good", &[&events]).expect(2).says("is no bundle").says("leave out --key");
}
