//! Files that a plugin leaves in its folder for artifacts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use stella_domain::{artifact::is_file_name, limits::FILE_BYTES};

/// The member of a step's outputs that names them.
pub(crate) const MEMBER: &str = "artifacts";
/// How many there may be.
const FILES: usize = 64;

/// The files by name, in order.
///
/// # Errors
/// A text that says what is wrong with one of them, and what to do.
pub(crate) fn in_folder(folder: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let unreadable = |error| format!("the folder $STELLA_ARTIFACTS cannot be read: {error}");
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let name = name.to_str().filter(|name| is_file_name(name)).ok_or_else(|| {
            format!(
                "the plugin left a file {name:?}: names are 1 to 128 of A-Z a-z 0-9 . _ -, beginning \
                 with a letter or digit"
            )
        })?;
        // Of the entry itself: a link could lead anywhere.
        let metadata = entry.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(format!(
                "{name:?} in $STELLA_ARTIFACTS is no plain file: leave an archive"
            ));
        }
        if metadata.len() > FILE_BYTES {
            let bytes = metadata.len();
            return Err(format!(
                "the file {name:?} has {bytes} bytes, at most {FILE_BYTES} may be"
            ));
        }
        if files.len() == FILES {
            return Err(format!("the plugin left more than {FILES} files: leave an archive"));
        }
        files.push((name.to_owned(), entry.path()));
    }
    files.sort();
    Ok(files)
}
