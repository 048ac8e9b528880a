//! The corpus of `fixtures/tampered`: every verdict and every way to come to it, by the public API.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde::Deserialize;
use stella_domain::checkpoint::{PinnedKey, WitnessKey};
use stella_verify::{
    Bundle, Report, Reports, Trust, Verdict, manifest::names, verify_bundles, verify_receipt,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    bundles: Vec<String>,
    keys: Vec<String>,
    receipt: Option<String>,
    seq: Option<u64>,
    since: Option<String>,
    verdict: Verdict,
    witnesses: Vec<String>,
    witnesses_needed: usize,
}

impl Expected {
    fn of(case: &Path) -> Self {
        serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap()
    }

    fn trust(&self, case: &Path) -> Trust {
        let keys = self.keys.iter().map(|key| key.parse::<PinnedKey>().unwrap()).collect();
        let witnesses = self.witnesses.iter().map(|key| key.parse::<WitnessKey>().unwrap());
        let trust = Trust::new(keys).witnesses(witnesses.collect(), self.witnesses_needed);
        match &self.since {
            Some(name) => trust.since(fs::read_to_string(case.join(name)).unwrap()),
            None => trust,
        }
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tampered")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(corpus()).expect("the corpus: `cargo xtask tamper` makes it");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 100, "only {} cases", cases.len());
    cases
}

fn verify(bundles: &[PathBuf], trust: &Trust) -> Reports {
    let bundles: Vec<Bundle> = bundles.iter().map(|path| Bundle::open(path).unwrap()).collect();
    verify_bundles(&bundles, trust, &mut |_| {}).unwrap()
}

/// What is wrong with the verdict on a case.
fn wrong(case: &Path, bundles: &[PathBuf], expected: &Expected) -> Option<String> {
    let trust = expected.trust(case);
    let (is, reason) = match &expected.receipt {
        Some(name) => {
            let report = verify_receipt(&fs::read(case.join(name)).unwrap(), &trust);
            ((report.verdict, report.seq), report.reason)
        }
        None => {
            let reports = verify(bundles, &trust);
            ((reports.verdict, reports.seq), reports.reason)
        }
    };
    let should = (expected.verdict, expected.seq);
    let name = case.file_name().unwrap().display();
    (is != should).then(|| format!("{name}: {is:?}, not {should:?}: {reason:?}"))
}

#[test]
fn every_case_gets_its_verdict() {
    let mut wrongs = vec![];
    let mut seen = std::collections::BTreeSet::new();
    for case in cases() {
        let expected = Expected::of(&case);
        let bundles: Vec<PathBuf> = expected.bundles.iter().map(|name| case.join(name)).collect();
        wrongs.extend(wrong(&case, &bundles, &expected));
        seen.insert(expected.verdict);
        let good = case.file_name().unwrap().to_str().unwrap().starts_with("good");
        assert_eq!(good, expected.verdict.is_good(), "{}", case.display());
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    assert_eq!(seen.len(), 5, "only the verdicts {seen:?}");
}

/// The bundle as a compressed archive, with its files in this order.
fn archive(bundle: &Path, to: &Path, order: &[&str]) {
    let mut tar = tar::Builder::new(vec![]);
    for name in order {
        let Ok(bytes) = fs::read(bundle.join(name)) else { continue };
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_path(name).unwrap();
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    write_compressed(to, &tar.into_inner().unwrap());
}

fn write_compressed(to: &Path, bytes: &[u8]) {
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    fs::write(to, ruzstd::encoding::compress_to_vec(bytes, level)).unwrap();
}

#[test]
fn an_archive_gets_the_verdict_of_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrongs = vec![];
    let mut reversed = names::ALL;
    reversed.reverse();
    for (i, case) in cases().iter().enumerate() {
        let expected = Expected::of(case);
        let mut bundles = vec![];
        for name in expected.bundles.iter().filter(|name| case.join(name).is_dir()) {
            let to =
                dir.path().join(format!("{}-{name}.tar.zst", case.file_name().unwrap().display()));
            archive(&case.join(name), &to, if i % 2 == 0 { &names::ALL } else { &reversed });
            bundles.push(to);
        }
        if !bundles.is_empty() {
            wrongs.extend(wrong(case, &bundles, &expected));
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

fn good_trust() -> Trust {
    let case = corpus().join("good_since");
    Expected::of(&case).trust(&case)
}

fn verdict_of_archive(path: &Path) -> Report {
    verify(&[path.to_owned()], &good_trust()).bundles.remove(0)
}

#[test]
fn archives_with_tricks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (good, to) = (corpus().join("good_since/bundle"), dir.path().join("b.tar.zst"));
    archive(&good, &to, &names::ALL);
    assert_eq!(verdict_of_archive(&to).verdict, Verdict::Verified);
    // Cut off: in the middle of the frame.
    let bytes = fs::read(&to).unwrap();
    fs::write(&to, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(verdict_of_archive(&to).verdict, Verdict::Incomplete);
    // Behind the frame, or in a second one: not every reader would see it.
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    for more in [vec![0], ruzstd::encoding::compress_to_vec(&b"more"[..], level)] {
        fs::write(&to, [&bytes[..], &more].concat()).unwrap();
        let report = verdict_of_archive(&to);
        assert_eq!(report.verdict, Verdict::Tampered, "{report:?}");
        assert!(report.reason.as_deref().unwrap_or_default().contains("follows the zstd frame"));
    }
    // The checksum is the frame's last four bytes.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&to, &other).unwrap();
    assert_eq!(verdict_of_archive(&to).verdict, Verdict::Tampered);
    // Two files of one name: readers would not agree which one counts.
    let twice = [&names::ALL[..], &[names::EVENTS]].concat();
    archive(&good, &to, &twice);
    assert_eq!(verdict_of_archive(&to).verdict, Verdict::Tampered);
    // A link instead of a file.
    let mut tar = tar::Builder::new(vec![]);
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, names::MANIFEST, "/etc/passwd").unwrap();
    write_compressed(&to, &tar.into_inner().unwrap());
    let report = verdict_of_archive(&to);
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    // Names that an extension header gives.
    let mut tar = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    write_compressed(&to, &tar.into_inner().unwrap());
    assert_eq!(verdict_of_archive(&to).verdict, Verdict::Tampered);
    // Neither a directory nor compressed.
    fs::write(&to, b"PK").unwrap();
    let error = Bundle::open(&to).unwrap_err().to_string();
    assert!(error.contains("no bundle"), "{error}");
}

#[test]
fn a_directory_with_a_link_for_a_file_is_incomplete() {
    let dir = tempfile::tempdir().unwrap();
    let good = corpus().join("good_since/bundle");
    for name in names::ALL {
        fs::copy(good.join(name), dir.path().join(name)).unwrap();
    }
    fs::remove_file(dir.path().join(names::ERASURES)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join(names::ERASURES)).unwrap();
    let reports = verify(&[dir.path().to_owned()], &good_trust());
    assert_eq!(reports.verdict, Verdict::Incomplete);
}

#[test]
fn a_report_says_what_was_proven() {
    let case = corpus().join("good_witnessed");
    let expected = Expected::of(&case);
    let report = verify(&[case.join("bundle")], &expected.trust(&case)).bundles.remove(0);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "VERIFIED");
    assert_eq!(json["claim"]["firstSeq"], 8);
    assert_eq!(json["claim"]["window"]["to"], "2026-11-23T09:00:11.000000Z");
    assert_eq!(json["checkpoint"]["treeSize"], 24);
    assert_eq!(json["checkpoint"]["witnesses"][1]["name"], "w2.example");
    let case = corpus().join("good_erased");
    let report = verify(&[case.join("bundle")], &Expected::of(&case).trust(&case));
    assert_eq!(report.bundles[0].erased_seqs, [8, 11]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// But for the window's own times: they are the question, not the answer, and the neighbours
    /// prove other windows around the same events as well.
    #[test]
    fn one_changed_byte_is_never_verified(
        file in prop::sample::select(names::ALL.to_vec()),
        place in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"0123456789abcdef\n\r\" {},".to_vec())],
    ) {
        let good = corpus().join("good_since/bundle");
        let dir = tempfile::tempdir().unwrap();
        for name in names::ALL {
            fs::copy(good.join(name), dir.path().join(name)).unwrap();
        }
        let mut bytes = fs::read(good.join(file)).unwrap();
        prop_assume!(!bytes.is_empty());
        let at = place.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let in_window = file == names::MANIFEST && at >= text.find("\"window\"").unwrap();
        bytes[at] = byte;
        fs::write(dir.path().join(file), bytes).unwrap();
        let reports = verify(&[dir.path().to_owned()], &good_trust());
        prop_assert!(in_window || !reports.verdict.is_good(), "{} byte {}", file, at);
    }
}
