//! Receipts of runs, whole and damaged in every way that the tests of the verifier in Python think
//! of: both verifiers say the same of each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde::Deserialize;
use stella_verify::{RECEIPT_BYTES, Trust, Verdict, verify_receipt};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    test: String,
    receipt: String,
    keys: Vec<String>,
    witnesses: Vec<String>,
    verdict: Verdict,
    seq: Option<u64>,
    step: Option<u8>,
    ended: Option<bool>,
}

impl Case {
    fn trust(&self) -> Trust {
        let keys = self.keys.iter().map(|key| key.parse().unwrap()).collect();
        let witnesses: Vec<_> = self.witnesses.iter().map(|key| key.parse().unwrap()).collect();
        let needed = witnesses.len();
        Trust::new(keys).witnesses(witnesses, needed)
    }
}

/// The receipts that the tests in Python make, with what the verifier there says of them.
fn cases(into: &Path) -> Vec<Case> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools");
    let made = Command::new("python3")
        .args(["-m", "unittest", "test_verify_ledger.Receipts"])
        .env("STELLA_RECEIPTS", into)
        .current_dir(tools)
        .output()
        .expect("python3 is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let cases = fs::read_to_string(into.join("cases.ndjson")).unwrap();
    // Some are verified by different ways through the same verifier.
    let cases: BTreeSet<&str> = cases.lines().collect();
    cases.into_iter().map(|case| serde_json::from_str(case).unwrap()).collect()
}

#[test]
fn both_verifiers_say_the_same_of_every_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let cases = cases(dir.path());
    let verdicts: BTreeSet<Verdict> = cases.iter().map(|case| case.verdict).collect();
    assert!(cases.len() > 300 && verdicts.len() == 4, "{} cases, {verdicts:?}", cases.len());
    let wrong = cases.iter().filter_map(|case| {
        let bytes = fs::read(dir.path().join(&case.receipt)).unwrap();
        let report = verify_receipt(&bytes, &case.trust());
        let ended = report.run.as_ref().map(|run| run.ended);
        let found = (report.verdict, report.seq, report.step, ended);
        let expected = (case.verdict, case.seq, case.step, case.ended);
        let Case { test, receipt, .. } = case;
        (found != expected).then(|| {
            format!("{test} {receipt}: {found:?} instead of {expected:?}: {:?}", report.reason)
        })
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn no_byte_of_a_receipt_can_be_another() {
    let dir = tempfile::tempdir().unwrap();
    let cases = cases(dir.path());
    let whole = cases
        .iter()
        .find(|case| case.verdict == Verdict::VerifiedWithErasures && case.witnesses.is_empty());
    let whole = whole.expect("one with erasures");
    let bytes = fs::read(dir.path().join(&whole.receipt)).unwrap();
    let trust = whole.trust();
    assert_eq!(verify_receipt(&bytes, &trust).verdict, Verdict::VerifiedWithErasures);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let report = verify_receipt(&changed, &trust);
        assert!(!report.verdict.is_good(), "byte {at}: {:?}", report.verdict);
    }
    let long = [&bytes[..bytes.len() - 1], &vec![b' '; RECEIPT_BYTES], b"\n"].concat();
    assert_eq!(verify_receipt(&long, &trust).verdict, Verdict::Tampered);
}
