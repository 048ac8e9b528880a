//! Files on their way into the store: whole in one request where they are small, else in parts. What
//! does not come to its end leaves nothing behind, neither under its name nor beside it.

use std::io;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, path::Path};
use stella_domain::{artifact::ArtifactDigest, hash::ArtifactHasher};
use tokio::{fs::File, io::AsyncReadExt as _};

/// Bytes of a part; a bucket takes 10,000 of them, none but the last below 5 MiB.
const PART: usize = 10 * 1024 * 1024;

/// Why a file is not in the store.
pub(crate) enum UploadError {
    /// It cannot be read, or has another digest.
    File(io::Error),
    /// The store did not take it.
    Store(object_store::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<object_store::Error> for UploadError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

/// Put what follows in `from` there, if its digest is this one.
pub(crate) async fn upload(
    store: &dyn ObjectStore,
    path: &Path,
    from: &mut File,
    wanted: ArtifactDigest,
) -> Result<(), UploadError> {
    let mut hasher = ArtifactHasher::default();
    let first = part(from, &mut hasher).await?;
    if first.len() < PART {
        is_wanted(&hasher, wanted)?;
        store.put(path, first.into()).await?;
        return Ok(());
    }
    let mut upload = store.put_multipart(path).await?;
    let done = parts(&mut *upload, first, from, hasher, wanted).await;
    if done.is_err() {
        // What the store has got of it would stay there, and is found by no list. That this fails, too,
        // is no news.
        let _ = upload.abort().await;
    }
    done
}

async fn parts(
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    from: &mut File,
    mut hasher: ArtifactHasher,
    wanted: ArtifactDigest,
) -> Result<(), UploadError> {
    let mut next = first;
    while !next.is_empty() {
        // The next one is read while this one is sent.
        let sending = upload.put_part(next.into());
        let (sent, read) = tokio::join!(sending, part(from, &mut hasher));
        sent?;
        next = read?;
    }
    is_wanted(&hasher, wanted)?;
    upload.complete().await?;
    Ok(())
}

/// The next bytes, as many as a part has unless the file ends.
async fn part(from: &mut File, hasher: &mut ArtifactHasher) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    from.take(PART as u64).read_to_end(&mut bytes).await?;
    hasher.update(&bytes);
    Ok(bytes.into())
}

fn is_wanted(hasher: &ArtifactHasher, wanted: ArtifactDigest) -> io::Result<()> {
    let found = ArtifactDigest::from(hasher.finish());
    if found == wanted {
        return Ok(());
    }
    let what = format!("it is {found} instead of {wanted}: cut off, or changed meanwhile");
    Err(io::Error::other(what))
}
