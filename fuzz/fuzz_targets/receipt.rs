//! The verifier on a good receipt that somebody has edited: it never panics, and what it calls
//! verified has the good one's events, from the first on, and its checkpoint.
#![no_main]

#[path = "../edit.rs"]
mod edit;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stella_verify::{Trust, verify_receipt};

use self::edit::{Edit, case, edited, keys};

struct Good {
    bytes: Vec<u8>,
    trust: Trust,
    last_seq: u64,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let case = case("good_receipt_erased");
    let bytes = std::fs::read(case.join("run.receipt")).unwrap();
    let trust = Trust::new(keys(&case));
    let run = verify_receipt(&bytes, &trust).run.expect("it is good");
    Good { bytes, trust, last_seq: run.last_seq }
});

fuzz_target!(|edits: Vec<Edit>| {
    let good = &*GOOD;
    let mut files = [good.bytes.clone()];
    edited(&mut files, &edits);
    let report = verify_receipt(&files[0], &good.trust);
    if let Some(run) = report.run {
        assert!(report.verdict.is_good());
        let all = run.ended && run.last_seq == good.last_seq;
        assert!(files[0] == good.bytes || !all, "it was edited, and verifies: {run:?}");
        assert!(run.last_seq <= good.last_seq, "{run:?}");
    }
});
