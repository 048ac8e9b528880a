//! The verifier on a good bundle that somebody has edited: it never panics, and what it calls
//! verified has the events and the checkpoint of the good one.
#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stella_verify::{Bundle, Trust, verify_bundle};
use tempfile::TempDir;

const FILES: [&str; 5] =
    ["manifest.json", "checkpoint", "boundary.ndjson", "erasures.ndjson", "events.ndjson"];

/// Bytes replaced by others, in one file.
#[derive(Debug, Arbitrary)]
struct Edit {
    file: u8,
    at: u16,
    removed: u8,
    inserted: Vec<u8>,
}

struct Good {
    files: [Vec<u8>; 5],
    trust: Trust,
    /// Where edited bundles are written.
    dir: TempDir,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tampered/good_erased");
    let files = FILES.map(|name| fs::read(case.join("bundle").join(name)).unwrap());
    let expected = fs::read_to_string(case.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let keys = expected["keys"].as_array().unwrap().iter();
    let keys = keys.map(|key| key.as_str().unwrap().parse().unwrap()).collect();
    Good { files, trust: Trust::new(keys), dir: TempDir::new().unwrap() }
});

fuzz_target!(|edits: Vec<Edit>| {
    let good = &*GOOD;
    let mut files = good.files.clone();
    for edit in edits.iter().take(8) {
        let file = &mut files[usize::from(edit.file) % FILES.len()];
        let start = usize::from(edit.at).min(file.len());
        let end = (start + usize::from(edit.removed)).min(file.len());
        file.splice(start..end, edit.inserted.iter().copied());
    }
    for (name, bytes) in FILES.iter().zip(&files) {
        fs::write(good.dir.path().join(name), bytes).unwrap();
    }
    let bundle = Bundle::open(good.dir.path()).unwrap();
    let report = verify_bundle(&bundle, &good.trust, &mut |_| {}).unwrap();
    if report.verdict.is_good() {
        assert!(files[4] == good.files[4], "events were edited, and the bundle verifies");
        assert!(files[1] == good.files[1], "the checkpoint was edited, and the bundle verifies");
    }
});
