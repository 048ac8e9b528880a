//! The project's own text, for tests that hold rules of tidiness.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A text file of the project.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace's root, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl Source {
    /// Whether nothing but tests and examples stands in it.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.contains("/examples/")
            || self.path.ends_with("/tests.rs")
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Every Rust source.
pub fn rust() -> Vec<Source> {
    let mut sources = text();
    sources.retain(|source| source.path.ends_with(".rs"));
    sources
}

/// Every text file, except what tools write: the lock file and the build's output.
pub fn text() -> Vec<Source> {
    let (root, mut found) = (root(), vec![]);
    collect(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let written_by_tools = ["target", "Cargo.lock", ".git", "stella-data"];
        if written_by_tools.iter().any(|skipped| name == *skipped) {
            continue;
        }
        // Does not follow links, which could lead in circles or out of the project.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(root, &path, found),
            Ok(kind) if kind.is_file() => {
                // What is not UTF-8 is no text.
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let relative = path.strip_prefix(root).unwrap_or(&path);
                found.push(Source { path: relative.to_string_lossy().into_owned(), text });
            }
            Ok(_) | Err(_) => {}
        }
    }
}
