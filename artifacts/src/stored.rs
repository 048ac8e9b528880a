//! Bytes on their way out of the store.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use stella_domain::artifact::ArtifactDigest;

use crate::store::ArtifactError;

/// Bytes of an artifact that [`Stored::whole`] takes into memory at most.
const READ_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that come from the store.
pub struct Stored {
    pub(crate) digest: ArtifactDigest,
    pub(crate) place: Arc<str>,
    /// How many they are.
    pub size: u64,
    /// They themselves.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl Stored {
    /// All of them.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`], beyond 32 MiB; and what they end in.
    pub async fn whole(mut self) -> Result<Bytes, ArtifactError> {
        let Self { digest, size, .. } = self;
        if size > READ_BYTES {
            return Err(ArtifactError::TooLarge { digest, size, limit: READ_BYTES });
        }
        let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        while let Some(chunk) = self.bytes.next().await {
            whole.extend_from_slice(&chunk.map_err(|error| self.broken_off(error))?);
        }
        Ok(whole.into())
    }

    fn broken_off(&self, error: io::Error) -> ArtifactError {
        error.downcast().unwrap_or_else(|error| {
            let (place, reason) = (self.place.to_string(), error.to_string());
            ArtifactError::Unavailable { place, reason }
        })
    }
}
