//! Size and digests of a file, taken while it is read.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use stella_domain::hash::Hash32;

use crate::manifest::FileDigest;

impl FileDigest {
    /// Of a whole file in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            blake3: Hash32::from(*blake3::hash(bytes).as_bytes()),
            bytes: bytes.len() as u64,
            sha256: Hash32::from(<[u8; 32]>::from(Sha256::digest(bytes))),
        }
    }
}

/// Digests what is read through it.
pub(crate) struct Digesting<R> {
    inner: R,
    bytes: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl<R: Read> Digesting<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, bytes: 0, blake3: blake3::Hasher::new(), sha256: Sha256::new() }
    }

    pub(crate) fn finish(self) -> FileDigest {
        FileDigest {
            blake3: Hash32::from(*self.blake3.finalize().as_bytes()),
            bytes: self.bytes,
            sha256: Hash32::from(<[u8; 32]>::from(self.sha256.finalize())),
        }
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let part = buffer.get(..read).unwrap_or_default();
        self.blake3.update(part);
        self.sha256.update(part);
        self.bytes += read as u64;
        Ok(read)
    }
}
