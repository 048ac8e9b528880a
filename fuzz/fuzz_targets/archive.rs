//! The verifier on a bundle in one file that somebody has edited, before it was compressed or after: it
//! never panics, and what it calls verified says what the good one says, the window's times excepted.
#![no_main]

#[path = "../edit.rs"]
mod edit;

use std::{fs, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use ruzstd::{decoding::StreamingDecoder, encoding};
use stella_verify::{Bundle, Claim, Trust, Verdict, verify_bundle};
use tempfile::TempDir;

use self::edit::{Edit, case, edited, keys};

struct Good {
    tar: Vec<u8>,
    archive: Vec<u8>,
    claim: Claim,
    trust: Trust,
    /// Where edited archives are written.
    dir: TempDir,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let case = case("good_archive");
    let path = case.join("bundle.tar.zst");
    let (archive, trust) = (fs::read(&path).unwrap(), Trust::new(keys(&case)));
    let mut tar = vec![];
    let mut frame = StreamingDecoder::new(&archive[..]).unwrap();
    std::io::copy(&mut frame, &mut tar).unwrap();
    let report = verify_bundle(&Bundle::open(&path).unwrap(), &trust, &mut |_| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Verified);
    Good { tar, archive, claim: report.claim.unwrap(), trust, dir: TempDir::new().unwrap() }
});

fuzz_target!(|input: (Option<Vec<Edit>>, Vec<Edit>)| {
    let (before, after) = input;
    let good = &*GOOD;
    let mut archive = [good.archive.clone()];
    if let Some(before) = before {
        let mut tar = [good.tar.clone()];
        edited(&mut tar, &before);
        archive = [encoding::compress_to_vec(&tar[0][..], encoding::CompressionLevel::Fastest)];
    }
    edited(&mut archive, &after);
    let path = good.dir.path().join("bundle.tar.zst");
    fs::write(&path, &archive[0]).unwrap();
    let Ok(bundle) = Bundle::open(&path) else { return };
    let Ok(report) = verify_bundle(&bundle, &good.trust, &mut |_| {}) else { return };
    if report.verdict.is_good() {
        let mut claim = report.claim.unwrap();
        claim.window = good.claim.window;
        assert_eq!(claim, good.claim);
    }
});
