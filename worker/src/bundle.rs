//! A plugin bundle on disk: `plugin.json`, the files it lists, and `plugin.sig`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use stella_domain::{ids::PluginName, plugin::PluginBuild};

use crate::{
    manifest::{MAX_FILES, Manifest},
    schema::Schema,
};

/// Name of the manifest in a bundle.
pub const MANIFEST_FILE: &str = "plugin.json";
/// Name of the signature in a bundle.
pub const SIGNATURE_FILE: &str = "plugin.sig";

/// Goes before the manifest's bytes when they are signed, so that a signature given for another
/// purpose never stands for this one.
const SIGNATURE_CONTEXT: &[u8] = b"stella-orchestrator plugin bundle v1\n";
/// Bytes that a manifest or a signature may have.
pub(crate) const MAX_TEXT_BYTES: u64 = 1024 * 1024;

/// Why a bundle is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is missing or cannot be read.
    #[error("plugin bundle: cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest does not say what it must.
    #[error("plugin bundle {dir}: plugin.json is not valid: {reason}")]
    Manifest {
        /// The bundle.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A listed path is a symbolic link, leads through one, or is no regular file.
    #[error(
        "plugin bundle: {path} is a symbolic link or no regular file: a bundle holds plain files"
    )]
    NotPlain {
        /// The path.
        path: PathBuf,
    },
    /// A file is not the one that the manifest lists.
    #[error(
        "plugin bundle: {path} has digest {found}, plugin.json lists {listed}: install it anew, or \
         pack it again if you changed it (`stella orch plugin pack`)"
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// What plugin.json says.
        listed: String,
        /// What the file has.
        found: String,
    },
    /// The entry cannot be run.
    #[error("plugin bundle: the entry {path} is not executable: chmod +x it")]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// A file that the manifest does not list: a program could take it for one of its own.
    #[error(
        "plugin bundle: {path} is not listed in plugin.json: remove it, or pack the bundle again \
         (`stella orch plugin pack`), which leaves out what begins with a dot"
    )]
    Unlisted {
        /// The file.
        path: PathBuf,
    },
    /// Trusted keys are given and the bundle is not signed.
    #[error(
        "plugin bundle {dir} is not signed (no plugin.sig), and only signed ones are trusted here"
    )]
    Unsigned {
        /// The bundle.
        dir: PathBuf,
    },
    /// The signature is malformed, or by none of the trusted keys.
    #[error("plugin bundle {dir}: plugin.sig is not valid: {reason}")]
    Signature {
        /// The bundle.
        dir: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A checked plugin bundle.
///
/// Digests are checked when it is loaded; who may write to its directory afterwards can change
/// what runs, so that directory belongs to the worker's user or to root.
#[derive(Debug)]
pub struct Bundle {
    /// As it was given: a symbolic link may lead elsewhere later.
    given: PathBuf,
    dir: PathBuf,
    manifest: Manifest,
    actions: BTreeMap<String, Action>,
    digest: String,
}

/// The compiled schemas of an action.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) inputs: Option<Schema>,
    pub(crate) outputs: Option<Schema>,
}

impl Bundle {
    /// Load and check the bundle in `dir`.
    ///
    /// With `trusted` keys the bundle must be signed by one of them; without any, unsigned ones
    /// are taken too, with a warning.
    ///
    /// # Errors
    /// [`BundleError`] names the file and what is wrong with it.
    pub fn load(dir: &Path, trusted: &[VerifyingKey]) -> Result<Self, BundleError> {
        let given = dir.to_owned();
        // Executions run elsewhere, so that the path must be absolute.
        let dir = dir.canonicalize().map_err(io_error(dir))?;
        let text = read_text(&dir, MANIFEST_FILE)?;
        // Before anything in it is looked at.
        check_signature(&dir, &text, trusted)?;
        let wrong = |reason| BundleError::Manifest { dir: dir.clone(), reason };
        let manifest = Manifest::parse(&text).map_err(wrong)?;
        let actions = compile(&dir, &manifest)?;
        for (path, listed) in &manifest.files {
            check_file(&dir, path, listed)?;
        }
        check_entry(&dir, &manifest)?;
        check_listed(&dir, &manifest, !trusted.is_empty())?;
        let digest = digest_text(blake3::hash(text.as_bytes()));
        Ok(Self { given, dir, manifest, actions, digest })
    }

    /// The plugin's name.
    pub fn name(&self) -> &PluginName {
        &self.manifest.name
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `b3:` and the hex of the BLAKE3 of `plugin.json`, which names every file's digest and so
    /// stands for the whole bundle.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The directory that it was loaded from, as it was given.
    pub fn given(&self) -> &Path {
        &self.given
    }

    /// What a worker says of it.
    pub fn build(&self) -> PluginBuild {
        // Both are within their grammars: the one was checked, the other is made here.
        let version = self.manifest.version.parse().ok();
        PluginBuild { digest: self.digest.parse().ok(), version }
    }

    /// The executable, as an absolute path.
    pub fn entry(&self) -> PathBuf {
        self.dir.join(&self.manifest.entry.file)
    }

    pub(crate) fn action(&self, name: &str) -> Option<&Action> {
        self.actions.get(name)
    }
}

/// The content of `plugin.sig` for the text of a `plugin.json`: base64 of an Ed25519 signature
/// (RFC 8032) over a context line and the text.
pub fn sign_manifest(manifest: &[u8], key: &SigningKey) -> String {
    BASE64_STANDARD.encode(key.sign(&signed_bytes(manifest)).to_bytes())
}

/// `b3:` and the hex of the BLAKE3 of what `path` holds.
///
/// # Errors
/// When the file cannot be read.
pub fn file_digest(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(digest_text(hasher.finalize()))
}

/// The compiled schemas of every action.
pub(crate) fn compile(
    dir: &Path,
    manifest: &Manifest,
) -> Result<BTreeMap<String, Action>, BundleError> {
    let mut actions = BTreeMap::new();
    for (name, spec) in &manifest.actions {
        let compile = |what: &str, schema: &Option<serde_json::Value>| {
            schema.as_ref().map(Schema::compile).transpose().map_err(|e| BundleError::Manifest {
                dir: dir.to_owned(),
                reason: format!("the schema actions.{name}.{what} is not valid: {e}"),
            })
        };
        let inputs = compile("inputs", &spec.inputs)?;
        let outputs = compile("outputs", &spec.outputs)?;
        actions.insert(name.clone(), Action { inputs, outputs });
    }
    Ok(actions)
}

/// That what is run can be run.
pub(crate) fn check_entry(dir: &Path, manifest: &Manifest) -> Result<(), BundleError> {
    let entry = plain_file(dir, &manifest.entry.file)?;
    let mode = fs::metadata(&entry).map_err(io_error(&entry))?.permissions().mode();
    if mode & 0o111 == 0 {
        return Err(BundleError::NotExecutable { path: entry });
    }
    Ok(())
}

/// That there is nothing but what is listed. Of a signed bundle nothing at all is left to whoever may
/// write there; of others what begins with a dot is passed over.
pub(crate) fn check_listed(
    dir: &Path,
    manifest: &Manifest,
    signed: bool,
) -> Result<(), BundleError> {
    let files = files_below(dir, signed)?;
    match files.iter().find(|path| !manifest.files.contains_key(*path)) {
        Some(other) => Err(BundleError::Unlisted { path: dir.join(other) }),
        None => Ok(()),
    }
}

/// The files below `dir`, by relative path with `/`; with what begins with a dot, or without. The
/// manifest and the signature are none of them.
pub(crate) fn files_below(dir: &Path, hidden: bool) -> Result<Vec<String>, BundleError> {
    let (mut files, mut folders) = (vec![], vec![String::new()]);
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        for entry in fs::read_dir(&path).map_err(io_error(&path))? {
            let entry = entry.map_err(io_error(&path))?;
            let name = entry.file_name().into_string().map_err(|name| BundleError::Manifest {
                dir: path.clone(),
                reason: format!("the name {name:?} is not UTF-8"),
            })?;
            if !hidden && name.starts_with('.') {
                continue;
            }
            let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type().map_err(io_error(&entry.path()))?.is_dir() {
                folders.push(relative);
                if folders.len() > MAX_FILES {
                    return Err(too_many(dir));
                }
            } else if ![MANIFEST_FILE, SIGNATURE_FILE].contains(&relative.as_str()) {
                files.push(relative);
                if files.len() > MAX_FILES {
                    return Err(too_many(dir));
                }
            }
        }
    }
    files.sort();
    Ok(files)
}

fn too_many(dir: &Path) -> BundleError {
    let reason = format!("there are more than {MAX_FILES} files or folders");
    BundleError::Manifest { dir: dir.to_owned(), reason }
}

fn digest_text(hash: blake3::Hash) -> String {
    format!("b3:{}", hash.to_hex())
}

fn signed_bytes(manifest: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, manifest].concat()
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io { path, source }
}

fn check_signature(dir: &Path, text: &str, trusted: &[VerifyingKey]) -> Result<(), BundleError> {
    let wrong = |reason| BundleError::Signature { dir: dir.to_owned(), reason };
    let signature = match read_text(dir, SIGNATURE_FILE) {
        Ok(signature) => Some(signature),
        Err(BundleError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if trusted.is_empty() {
        tracing::warn!(bundle = %dir.display(), "no trusted keys are configured: plugin not verified");
        return Ok(());
    }
    let signature = signature.ok_or_else(|| BundleError::Unsigned { dir: dir.to_owned() })?;
    let bytes = BASE64_STANDARD.decode(signature.trim()).map_err(|_| wrong("it is not base64"))?;
    let signature =
        Signature::from_slice(&bytes).map_err(|_| wrong("it is not 64 bytes of Ed25519"))?;
    let message = signed_bytes(text.as_bytes());
    if trusted.iter().any(|key| key.verify_strict(&message, &signature).is_ok()) {
        Ok(())
    } else {
        Err(wrong("it was not made over this plugin.json by any of the trusted keys"))
    }
}

/// The file that `path` names in `dir`, provided that no part of the path is a symbolic link.
pub(crate) fn plain_file(dir: &Path, path: &str) -> Result<PathBuf, BundleError> {
    let mut full = dir.to_owned();
    for part in path.split('/') {
        full.push(part);
        let kind = fs::symlink_metadata(&full).map_err(io_error(&full))?.file_type();
        if kind.is_symlink() {
            return Err(BundleError::NotPlain { path: full });
        }
    }
    let kind = fs::symlink_metadata(&full).map_err(io_error(&full))?.file_type();
    if kind.is_file() { Ok(full) } else { Err(BundleError::NotPlain { path: full }) }
}

pub(crate) fn read_text(dir: &Path, name: &str) -> Result<String, BundleError> {
    let path = plain_file(dir, name)?;
    let file = File::open(&path).map_err(io_error(&path))?;
    let mut text = String::new();
    // One byte more than allowed, to notice what is too long.
    file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).map_err(io_error(&path))?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(BundleError::Io { path, source: io::Error::other("it is larger than 1 MiB") });
    }
    Ok(text)
}

fn check_file(dir: &Path, path: &str, listed: &str) -> Result<(), BundleError> {
    let path = plain_file(dir, path)?;
    let found = file_digest(&path).map_err(io_error(&path))?;
    if found == listed {
        Ok(())
    } else {
        Err(BundleError::Digest { path, listed: listed.to_owned(), found })
    }
}
