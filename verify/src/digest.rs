//! Size and digests of a file, taken while it is read or written.

use std::io::{self, Read, Write};

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

/// Digests what is read, or written, through it.
#[derive(Debug)]
pub struct Digesting<T> {
    inner: T,
    bytes: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl<T> Digesting<T> {
    /// Nothing has passed yet.
    pub fn new(inner: T) -> Self {
        Self { inner, bytes: 0, blake3: blake3::Hasher::new(), sha256: Sha256::new() }
    }

    /// What it reads from or writes to, and the digest of all that has passed.
    pub fn finish(self) -> (T, FileDigest) {
        let digest = FileDigest {
            blake3: Hash32::from(*self.blake3.finalize().as_bytes()),
            bytes: self.bytes,
            sha256: Hash32::from(<[u8; 32]>::from(self.sha256.finalize())),
        };
        (self.inner, digest)
    }

    fn pass(&mut self, part: &[u8]) {
        self.blake3.update(part);
        self.sha256.update(part);
        self.bytes += part.len() as u64;
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.pass(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.pass(buffer.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
