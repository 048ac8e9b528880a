//! `plugin.json`: what a bundle says about itself.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stella_domain::{ids::PluginName, json};

/// Files that a bundle may list.
pub(crate) const MAX_FILES: usize = 10_000;
/// Actions that a plugin may have.
const MAX_ACTIONS: usize = 256;
/// Canonical KiB of outputs that a plugin may ask for: a report of 1 MiB has them and a little more.
/// Large members become artifacts; for what is larger still there are files.
pub const MAX_OUTPUT_KB: u32 = 1_000;

/// The manifest of a plugin bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name, by which steps refer to it.
    pub name: PluginName,
    /// The plugin's version, 1 to 64 printable ASCII characters; recorded, not interpreted.
    pub version: String,
    /// How it is run.
    pub runtime: Runtime,
    /// What is run.
    pub entry: Entry,
    /// What it can do, by action.
    pub actions: BTreeMap<String, ActionSpec>,
    /// Every file that belongs to it, by relative path: `b3:` and the hex of its BLAKE3.
    pub files: BTreeMap<String, String>,
    /// Limits tighter than the worker's own.
    #[serde(default)]
    pub limits: Limits,
}

/// How a plugin is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Runtime {
    /// One process an execution: a JSON request on stdin, a JSON answer on stdout.
    Process,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The executable, one of the listed files.
    pub file: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// One action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionSpec {
    /// JSON Schema of its inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Value>,
    /// JSON Schema of its outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Limits of one execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Address space of each of its processes, in MiB; none unless given. Runtimes that reserve
    /// far more than they use need a generous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Canonical outputs, in KiB, at most [`MAX_OUTPUT_KB`], which is also what holds otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_kb: Option<u32>,
}

impl Manifest {
    /// Parse and check the text of `plugin.json`.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = json::parse_i_json(text).map_err(|e| e.to_string())?;
        if value.get("files").is_none() {
            return Err("it lists no files: `stella orch plugin pack DIR` puts them in".to_owned());
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| e.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let printable = self.version.bytes().all(|b| b.is_ascii_graphic());
        if !(1..=64).contains(&self.version.len()) || !printable {
            return Err("version must be 1 to 64 printable characters without spaces".into());
        }
        if !(1..=MAX_ACTIONS).contains(&self.actions.len()) {
            return Err(format!("there must be 1 to {MAX_ACTIONS} actions"));
        }
        if let Some(name) = self.actions.keys().find(|name| !is_action(name)) {
            return Err(format!("{name:?} is not an action: write 1 to 128 of A-Z a-z 0-9 . _ -"));
        }
        if self.files.len() > MAX_FILES {
            return Err(format!("there are more than {MAX_FILES} files"));
        }
        for (path, digest) in &self.files {
            check_path(path)?;
            if !is_digest(digest) {
                return Err(format!(
                    "the digest of {path:?} must be b3: and 64 lower-case hex digits"
                ));
            }
        }
        if !self.files.contains_key(&self.entry.file) {
            return Err(format!("the entry file {:?} is not among files", self.entry.file));
        }
        if self.entry.args.iter().any(|arg| arg.contains('\0')) {
            return Err("an argument of the entry holds U+0000".into());
        }
        if self.limits.memory_mb == Some(0) {
            return Err("limits.memoryMb must be at least 1".into());
        }
        if self.limits.output_kb.is_some_and(|kb| !(1..=MAX_OUTPUT_KB).contains(&kb)) {
            return Err(format!("limits.outputKb must be from 1 to {MAX_OUTPUT_KB}"));
        }
        Ok(())
    }
}

fn is_action(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("b3:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Only plain names, one below the other: nothing that could lead out of the bundle.
fn check_path(path: &str) -> Result<(), String> {
    // `Path` would let `a//b` and `a/./b` pass as `a/b`, so that one file had two names.
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(['\\', '\0'])
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if plain && path.len() <= 1024 {
        Ok(())
    } else {
        Err(format!(
            "{path:?} is not a path inside the bundle: write relative names joined by /, without \
             . and .."
        ))
    }
}
