//! The lockfile that the demo looks at.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The absolute path of `given`, or of the nearest `Cargo.lock` from this directory upwards.
///
/// Whether it is a valid one is for the plugin to say.
pub(super) fn find(given: Option<&Path>) -> Result<String, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => nearest()?,
    };
    let named = path.display();
    let absolute = path.canonicalize().map_err(|error| {
        Failure::usage(format!("cannot read the lockfile {named}: {error}"))
            .try_this("name a Cargo.lock with --lockfile FILE")
    })?;
    if !absolute.is_file() {
        return Err(Failure::usage(format!("the lockfile {named} is not a file"))
            .try_this("name a Cargo.lock with --lockfile FILE"));
    }
    match absolute.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(_) => Err(Failure::usage(format!("the path of {named} is not UTF-8"))
            .try_this("copy the file to a path that is")),
    }
}

fn nearest() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("cannot tell the current directory: {error}")))?;
    let found = here.ancestors().map(|dir| dir.join("Cargo.lock")).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::usage(format!("there is no Cargo.lock in {} or above it", here.display()))
            .try_this("name one with --lockfile FILE, or run the demo in a Cargo project")
    })
}
