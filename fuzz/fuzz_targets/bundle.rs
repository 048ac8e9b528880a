//! The verifier on a good bundle that somebody has edited, and who may have described the files anew
//! in its manifest: it never panics, and what it calls verified is the good one but for the window's
//! times, which are the question and not the answer.
#![no_main]

#[path = "../edit.rs"]
mod edit;

use std::{fs, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use stella_verify::{
    Bundle, Trust,
    manifest::{FileDigest, Manifest, names},
    verify_bundle,
};
use tempfile::TempDir;

use self::edit::{Edit, case, edited, keys};

struct Good {
    files: [Vec<u8>; 5],
    manifest: Manifest,
    trust: Trust,
    /// Where edited bundles are written.
    dir: TempDir,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let case = case("good_erased");
    let files = names::ALL.map(|name| fs::read(case.join("bundle").join(name)).unwrap());
    let manifest = Manifest::parse(&files[0]).unwrap();
    Good { files, manifest, trust: Trust::new(keys(&case)), dir: TempDir::new().unwrap() }
});

fuzz_target!(|input: (bool, Vec<Edit>)| {
    let (described_anew, edits) = input;
    let good = &*GOOD;
    let mut files = good.files.clone();
    edited(&mut files, &edits);
    if described_anew && let Ok(mut manifest) = Manifest::parse(&files[0]) {
        let [_, checkpoint, boundary, erasures, events] = &files;
        manifest.files.checkpoint = FileDigest::of(checkpoint);
        manifest.files.boundary = FileDigest::of(boundary);
        manifest.files.erasures = FileDigest::of(erasures);
        manifest.files.events = FileDigest::of(events);
        files[0] = manifest.to_text().into_bytes();
    }
    for (name, bytes) in names::ALL.iter().zip(&files) {
        fs::write(good.dir.path().join(name), bytes).unwrap();
    }
    let bundle = Bundle::open(good.dir.path()).unwrap();
    let report = verify_bundle(&bundle, &good.trust, &mut |_| {}).unwrap();
    if report.verdict.is_good() {
        let mut manifest = Manifest::parse(&files[0]).unwrap();
        manifest.window = good.manifest.window;
        assert_eq!(manifest, good.manifest);
        for (i, name) in names::ALL.iter().enumerate().skip(1) {
            assert!(files[i] == good.files[i], "{name} was edited, and the bundle verifies");
        }
    }
});
