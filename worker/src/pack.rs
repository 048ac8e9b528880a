//! Making a bundle of a directory: the digests of its files, and the signature.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use ed25519_dalek::SigningKey;
use serde_json::{Map, Value};
use stella_domain::json::parse_i_json;

use crate::{
    bundle::{
        Bundle, BundleError, MANIFEST_FILE, MAX_TEXT_BYTES, SIGNATURE_FILE, check_entry,
        check_listed, compile, file_digest, files_below, io_error, plain_file, read_text,
        sign_manifest,
    },
    manifest::Manifest,
};

/// Make a bundle of `dir`: put every file below it into `files` of its `plugin.json`, each with its
/// digest, and sign that with `key`. Without a key, a signature that was there goes, because it
/// would be of something else. What begins with a dot is left out.
///
/// `plugin.json` keeps everything else that it says.
///
/// # Errors
/// [`BundleError`], also when what came of it would not be loaded. In that case nothing is changed,
/// unless writing itself failed.
pub fn pack(dir: &Path, key: Option<&SigningKey>) -> Result<Bundle, BundleError> {
    let wrong = |reason| BundleError::Manifest { dir: dir.to_owned(), reason };
    let text = read_text(dir, MANIFEST_FILE)?;
    let mut manifest = parse_i_json(&text).map_err(|error| wrong(error.to_string()))?;
    let members =
        manifest.as_object_mut().ok_or_else(|| wrong("it is no JSON object".to_owned()))?;
    members.insert("files".to_owned(), Value::Object(digests(dir)?));
    let text = format!("{manifest:#}\n");
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(wrong(format!("with its files it has more than {MAX_TEXT_BYTES} bytes")));
    }
    let parsed = Manifest::parse(&text).map_err(wrong)?;
    compile(dir, &parsed)?;
    check_entry(dir, &parsed)?;
    check_listed(dir, &parsed, key.is_some())?;
    // In this order: a bundle is never seen with a signature of another manifest.
    let signature = dir.join(SIGNATURE_FILE);
    match fs::remove_file(&signature) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(BundleError::Io { path: signature, source });
        }
        Ok(()) | Err(_) => {}
    }
    write(dir, MANIFEST_FILE, &text)?;
    let Some(key) = key else { return Bundle::load(dir, &[]) };
    write(dir, SIGNATURE_FILE, &format!("{}\n", sign_manifest(text.as_bytes(), key)))?;
    Bundle::load(dir, &[key.verifying_key()])
}

/// The files below `dir` by relative path, each with its digest.
fn digests(dir: &Path) -> Result<Map<String, Value>, BundleError> {
    let mut files = Map::new();
    for relative in files_below(dir, false)? {
        let full = plain_file(dir, &relative)?;
        let digest = file_digest(&full).map_err(io_error(&full))?;
        files.insert(relative, digest.into());
    }
    files.sort_keys();
    Ok(files)
}

/// Readers see the whole file or the one before.
fn write(dir: &Path, name: &str, text: &str) -> Result<(), BundleError> {
    let path = dir.join(name);
    let written = || -> io::Result<()> {
        let mut part = tempfile::Builder::new().prefix(".plugin").tempfile_in(dir)?;
        part.write_all(text.as_bytes())?;
        // As `plugin.json` usually is: whoever may read the directory may read this.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(mode)?;
        part.persist(&path)?;
        Ok(())
    };
    written().map_err(io_error(&path))
}
