//! `cargo xtask tamper`: makes `fixtures/tampered` anew, the corpus of bundles and receipts that
//! verifiers have to agree on. The same bytes each time.

mod archive;
mod bundle;
mod case;
mod good;
mod ledger;
mod receipt;
mod tampered;
mod wrong_proof;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use self::case::Case;
use crate::Failure;

/// Make the corpus of tampered bundles anew, in fixtures/tampered.
#[derive(Parser)]
pub(crate) struct Args {
    /// Write nothing; fail if what is there is not what would be written.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tampered");
    let files = files()?;
    let mut there = BTreeMap::new();
    if corpus.exists() {
        read(&corpus, &corpus, &mut there)?;
    }
    if args.check {
        if let Some(path) = difference(&files, &there) {
            eprintln!("xtask: {} is not as `cargo xtask tamper` makes it", path.display());
            return Ok(ExitCode::FAILURE);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if corpus.exists() {
        fs::remove_dir_all(&corpus)?;
    }
    for (path, bytes) in &files {
        let path = corpus.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&corpus))?;
        fs::write(path, bytes)?;
    }
    println!("{} files in fixtures/tampered", files.len());
    Ok(ExitCode::SUCCESS)
}

/// Every file of the corpus, by its path below it.
fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let mut cases = good::cases()?;
    cases.extend(tampered::cases()?);
    cases.extend(wrong_proof::cases()?);
    cases.extend(archive::cases()?);
    cases.extend(receipt::cases()?);
    Ok(cases.into_iter().flat_map(Case::files).collect())
}

fn read(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<(), Failure> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, found)?;
        } else {
            found.insert(path.strip_prefix(root)?.to_owned(), fs::read(&path)?);
        }
    }
    Ok(())
}

/// The first path at which the two differ.
fn difference(
    made: &BTreeMap<PathBuf, Vec<u8>>,
    there: &BTreeMap<PathBuf, Vec<u8>>,
) -> Option<PathBuf> {
    let paths = made.keys().chain(there.keys());
    paths.into_iter().find(|path| made.get(*path) != there.get(*path)).cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_corpus_is_what_the_tool_makes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tampered");
        let mut there = BTreeMap::new();
        read(&corpus, &corpus, &mut there).unwrap();
        assert!(there.len() > 100, "only {} files", there.len());
        let differs = difference(&files().unwrap(), &there);
        assert_eq!(differs, None, "run `cargo xtask tamper` and look at what changed");
    }
}
