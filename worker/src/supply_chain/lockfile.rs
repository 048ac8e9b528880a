//! Reading a `Cargo.lock`, and what it tells.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use cargo_lock::{Lockfile, Package, SourceId, package::SourceKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ActionError;

/// Bytes that a lockfile may have; the largest known have a few.
const MAX_LOCKFILE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of JSON that one list in the outputs may have: outputs are at most 60 KiB in all, and the
/// report takes those of four steps as its inputs.
const MAX_LIST_BYTES: usize = 12 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inputs {
    /// An absolute path: a step runs in a directory of its own.
    lockfile: String,
    /// Given by steps that must see what the inventory saw.
    lockfile_digest: Option<String>,
}

/// A parsed lockfile.
#[derive(Debug)]
pub(super) struct Audit {
    digest: String,
    lockfile: Lockfile,
}

/// Read the lockfile that the inputs name.
pub(super) fn read(inputs: Value) -> Result<Audit, ActionError> {
    let Inputs { lockfile: path, lockfile_digest } =
        serde_json::from_value(inputs).map_err(|e| ActionError::Inputs(e.to_string()))?;
    let text = read_text(&path)
        .map_err(|reason| ActionError::LockfileUnreadable { path: path.clone(), reason })?;
    let digest = format!("b3:{}", blake3::hash(text.as_bytes()).to_hex());
    if let Some(expected) = lockfile_digest
        && expected != digest
    {
        return Err(ActionError::LockfileChanged { path, expected, found: digest });
    }
    match text.parse::<Lockfile>() {
        Ok(lockfile) => Ok(Audit { digest, lockfile }),
        Err(error) => Err(ActionError::LockfileInvalid { path, reason: error.to_string() }),
    }
}

fn read_text(path: &str) -> Result<String, String> {
    if !Path::new(path).is_absolute() {
        return Err("give an absolute path: steps run in a directory of their own".into());
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("it is not a file".into());
    }
    let mut text = String::new();
    file.take(MAX_LOCKFILE_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_LOCKFILE_BYTES {
        return Err(format!("it is larger than {MAX_LOCKFILE_BYTES} bytes"));
    }
    Ok(text)
}

impl Audit {
    /// How many packages there are, and where they come from in numbers.
    pub(super) fn inventory(&self) -> Value {
        let mut by_source = BTreeMap::<&str, usize>::new();
        for package in &self.lockfile.packages {
            *by_source.entry(kind(package.source.as_ref())).or_default() += 1;
        }
        let names: std::collections::BTreeSet<_> =
            self.lockfile.packages.iter().map(|p| p.name.as_str()).collect();
        json!({
            "lockfileDigest": self.digest,
            "lockfileVersion": u32::from(self.lockfile.version),
            "packages": self.lockfile.packages.len(),
            "crates": names.len(),
            "bySource": by_source,
        })
    }

    /// Crates of which the build holds several versions.
    pub(super) fn duplicates(&self) -> Value {
        let mut versions = BTreeMap::<&str, Vec<&cargo_lock::Version>>::new();
        for package in &self.lockfile.packages {
            versions.entry(package.name.as_str()).or_default().push(&package.version);
        }
        versions.retain(|_, versions| versions.len() > 1);
        list(versions.into_iter().map(|(name, mut versions)| {
            versions.sort();
            let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
            json!({ "name": name, "versions": versions })
        }))
    }

    /// What does not come from the default registry: `workspace` are the packages without a
    /// source, which are members and path dependencies; `crates` all the others.
    pub(super) fn sources(&self) -> Value {
        let elsewhere = self.lockfile.packages.iter().filter(|package| {
            package.source.as_ref().is_some_and(|source| !source.is_default_registry())
        });
        let mut outputs = list(elsewhere.map(|package| {
            let source = package.source.as_ref();
            json!({
                "name": package.name.as_str(),
                "version": package.version.to_string(),
                "kind": kind(source),
                "source": source.map(ToString::to_string),
            })
        }));
        let local = self.lockfile.packages.iter().filter(|package| package.source.is_none());
        outputs["workspace"] = list(local.map(|package| json!(package.name.as_str())));
        outputs
    }

    /// What has no checksum although it comes from a registry, so that nobody would notice if it
    /// were exchanged there.
    pub(super) fn checksums(&self) -> Value {
        let from_registry =
            |p: &&Package| p.source.as_ref().is_some_and(SourceId::is_remote_registry);
        let checked = self.lockfile.packages.iter().filter(from_registry);
        let without = checked.clone().filter(|package| package.checksum.is_none());
        let mut outputs = list(
            without.map(|p| json!({ "name": p.name.as_str(), "version": p.version.to_string() })),
        );
        outputs["checked"] = json!(checked.count());
        outputs
    }
}

fn kind(source: Option<&SourceId>) -> &'static str {
    let Some(source) = source else { return "workspace" };
    match source.kind() {
        _ if source.is_default_registry() => "registry",
        SourceKind::Registry | SourceKind::SparseRegistry => "otherRegistry",
        SourceKind::Git(_) => "git",
        SourceKind::Path => "path",
        // Copies of a registry on disk; the enum may grow.
        _ => "local",
    }
}

/// `{total, crates}`: all are counted, and as many listed as fit.
fn list(items: impl Iterator<Item = Value>) -> Value {
    let (mut crates, mut total, mut bytes) = (Vec::new(), 0_usize, 0);
    for item in items {
        total += 1;
        bytes += item.to_string().len() + 1;
        if bytes <= MAX_LIST_BYTES {
            crates.push(item);
        }
    }
    json!({ "total": total, "crates": crates })
}
