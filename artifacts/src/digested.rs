//! Bytes whose digest is taken as they pass.

use std::{io, path::Path};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use stella_domain::{artifact::ArtifactDigest, hash::ArtifactHasher};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::store::ArtifactError;

/// Digest and size of a file.
///
/// # Errors
/// [`ArtifactError::File`].
pub async fn digest_of(file: &Path) -> Result<(ArtifactDigest, u64), ArtifactError> {
    let mut from = File::open(file).await?;
    let (mut hasher, mut size, mut chunk) = (ArtifactHasher::default(), 0, vec![0; 256 * 1024]);
    while let n @ 1.. = from.read(&mut chunk).await? {
        hasher.update(&chunk[..n]);
        size += n as u64;
    }
    Ok((hasher.finish().into(), size))
}

/// Bytes that end in `wrong`, as invalid data, unless they are what `digest` says.
pub(crate) fn checked(
    bytes: BoxStream<'static, io::Result<Bytes>>,
    digest: ArtifactDigest,
    wrong: ArtifactError,
) -> impl Stream<Item = io::Result<Bytes>> {
    let end = futures::stream::once(async { None });
    let mut wrong = Some(wrong);
    bytes.map(Some).chain(end).scan(ArtifactHasher::default(), move |hasher, chunk| {
        let next = match chunk {
            Some(Ok(chunk)) => {
                hasher.update(&chunk);
                Some(Ok(chunk))
            }
            Some(Err(error)) => Some(Err(error)),
            None if ArtifactDigest::from(hasher.finish()) == digest => None,
            None => {
                wrong.take().map(|wrong| Err(io::Error::new(io::ErrorKind::InvalidData, wrong)))
            }
        };
        futures::future::ready(next)
    })
}
