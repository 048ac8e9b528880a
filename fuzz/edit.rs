//! Edits of files that were good.

use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use stella_domain::checkpoint::PinnedKey;

/// Edits that are carried out at most.
const EDITS: usize = 8;

/// Bytes replaced by others, in one file.
#[derive(Debug, Arbitrary)]
pub struct Edit {
    file: u8,
    at: u16,
    removed: u8,
    inserted: Vec<u8>,
}

/// Carry them out.
pub fn edited(files: &mut [Vec<u8>], edits: &[Edit]) {
    for edit in edits.iter().take(EDITS) {
        let file = usize::from(edit.file) % files.len();
        let file = &mut files[file];
        let start = usize::from(edit.at).min(file.len());
        let end = (start + usize::from(edit.removed)).min(file.len());
        file.splice(start..end, edit.inserted.iter().copied());
    }
}

/// A case of the corpus.
pub fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tampered").join(name)
}

/// The keys that are pinned in it.
pub fn keys(case: &Path) -> Vec<PinnedKey> {
    let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let keys = expected["keys"].as_array().unwrap().iter();
    keys.map(|key| key.as_str().unwrap().parse().unwrap()).collect()
}
