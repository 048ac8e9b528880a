//! A bundle of the executable that holds this plugin.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::PLUGIN;
use crate::{
    bundle::{MANIFEST_FILE, file_digest},
    manifest::{ActionSpec, Entry, Limits, Manifest, Runtime},
};

/// The executable's name in the bundle.
const ENTRY_FILE: &str = "supply-chain";

/// Why the bundle was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the supply-chain bundle: {path}: {source}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Write the bundle to `dir`, which is created: `exe` as a hard link or, across file systems, a
/// copy, called with `args` so that it runs [`super::main`].
///
/// # Errors
/// [`WriteError`] names the file.
pub fn write_bundle(dir: &Path, exe: &Path, args: &[&str]) -> Result<(), WriteError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    fs::create_dir_all(dir).map_err(at(dir))?;
    // A link to a symbolic link would be one, and bundles hold none.
    let exe = exe.canonicalize().map_err(at(exe))?;
    let entry = dir.join(ENTRY_FILE);
    match fs::remove_file(&entry) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&entry)(e)),
        _ => {}
    }
    if fs::hard_link(&exe, &entry).is_err() {
        fs::copy(&exe, &entry).map_err(at(&entry))?;
    }
    let digest = file_digest(&entry).map_err(at(&entry))?;
    let path = dir.join(MANIFEST_FILE);
    let manifest = manifest(digest, args).map_err(io::Error::other).map_err(at(&path))?;
    fs::write(&path, manifest).map_err(at(&path))
}

fn manifest(digest: String, args: &[&str]) -> Result<Vec<u8>, String> {
    let manifest = Manifest {
        name: PLUGIN.parse().map_err(|e: stella_domain::ids::IdError| e.to_string())?,
        version: env!("CARGO_PKG_VERSION").into(),
        runtime: Runtime::Process,
        entry: Entry {
            file: ENTRY_FILE.into(),
            args: args.iter().copied().map(String::from).collect(),
        },
        actions: actions(),
        files: BTreeMap::from([(ENTRY_FILE.into(), digest)]),
        limits: Limits::default(),
    };
    serde_json::to_vec_pretty(&manifest).map_err(|e| e.to_string())
}

fn actions() -> BTreeMap<String, ActionSpec> {
    let over_lockfile = json!({
        "type": "object",
        "properties": {
            "lockfile": { "type": "string", "description": "absolute path of a Cargo.lock" },
            "lockfileDigest": { "type": "string", "pattern": "^b3:[0-9a-f]{64}$" },
        },
        "required": ["lockfile"],
        "additionalProperties": false,
    });
    let found = outputs(&["total", "crates"]);
    let four = ["inventory", "duplicates", "sources", "checksums"];
    let over_outputs = json!({
        "type": "object",
        "required": four,
        "properties": four.map(|name| (name.to_owned(), json!({ "type": "object" })))
            .into_iter().collect::<serde_json::Map<_, _>>(),
        "additionalProperties": false,
    });
    [
        ("inventory", &over_lockfile, outputs(&["packages", "lockfileDigest"]), "count packages"),
        ("duplicates", &over_lockfile, found.clone(), "crates in several versions"),
        ("sources", &over_lockfile, found.clone(), "what does not come from the registry"),
        ("checksums", &over_lockfile, found, "registry packages without a checksum"),
        ("report", &over_outputs, outputs(&["findings", "text"]), "the findings, in one text"),
    ]
    .into_iter()
    .map(|(name, inputs, outputs, description)| {
        let (inputs, outputs) = (Some(inputs.clone()), Some(outputs));
        (name.into(), ActionSpec { inputs, outputs, description: Some(description.into()) })
    })
    .collect()
}

fn outputs(required: &[&str]) -> Value {
    json!({ "type": "object", "required": required })
}
