//! Plugin bundles whose actions are a shell script.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use stella_worker::bundle::file_digest;
use tempfile::TempDir;

/// A bundle in a directory of its own, which goes away with it.
pub struct ShellBundle(TempDir);

impl ShellBundle {
    /// Plugin `name` with these actions, all of them carried out by `script`; the request, one line
    /// of JSON, is on its standard input.
    pub fn new(name: &str, actions: &[&str], script: &str) -> Self {
        Self::of_version("1.0.0", name, actions, script)
    }

    /// The same of another version than 1.0.0.
    pub fn of_version(version: &str, name: &str, actions: &[&str], script: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("stella-bundle-").tempdir().unwrap();
        let entry = dir.path().join("run.sh");
        fs::write(&entry, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o755)).unwrap();
        let actions: serde_json::Map<_, _> =
            actions.iter().map(|action| ((*action).to_owned(), json!({}))).collect();
        let manifest = json!({
            "name": name,
            "version": version,
            "runtime": "process",
            "entry": { "file": "run.sh" },
            "actions": actions,
            "files": { "run.sh": file_digest(&entry).unwrap() },
        });
        fs::write(dir.path().join("plugin.json"), manifest.to_string()).unwrap();
        Self(dir)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }
}

/// Whether a process runs; a zombie, which only waits for its parent to ask, does not.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the command name, which is in brackets.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X']))
}
