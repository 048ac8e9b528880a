//! A bundle as one file: a plain ustar in one zstd frame, the same bytes each time.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Cursor, Read, Write},
    path::Path,
};

use ruzstd::encoding::{CompressionLevel, FrameCompressor};
use stella_verify::manifest::names;
use tar::{EntryType, Header};

/// Bytes that a file in a ustar may have: its size has 11 octal digits.
pub const ARCHIVE_BYTES: u64 = (1 << 33) - 1;
/// What a tar is made of.
const BLOCK: usize = 512;

/// Write the bundle in `dir` as an archive, and show `progress` how many bytes were read; it stops
/// when that answers `false`.
pub(super) fn write(
    dir: &Path,
    out: impl Write,
    progress: &mut dyn FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut parts: VecDeque<Box<dyn Read>> = VecDeque::new();
    for name in names::ALL {
        let file = File::open(dir.join(name))?;
        let bytes = file.metadata()?.len();
        parts.push_back(Box::new(Cursor::new(header(name, bytes)?)));
        parts.push_back(Box::new(file));
        let padding = bytes.next_multiple_of(BLOCK as u64) - bytes;
        parts.push_back(Box::new(io::repeat(0).take(padding)));
    }
    parts.push_back(Box::new(Cursor::new([0; 2 * BLOCK])));

    let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
    compressor.set_source(Source { parts, bytes: 0, progress, failed: None });
    compressor.set_drain(Drain { out, failed: None });
    compressor.compress();
    let failed = compressor.take_source().and_then(|source| source.failed);
    let Some(mut drain) = compressor.take_drain() else { return Ok(()) };
    match failed.or(drain.failed) {
        Some(error) => Err(error),
        None => drain.out.flush(),
    }
}

fn header(name: &str, bytes: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Parts one after the other. The compressor panics where reading fails: so it ends early instead,
/// and says why afterwards.
struct Source<'a> {
    parts: VecDeque<Box<dyn Read>>,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64) -> bool,
    failed: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_none() && !(self.progress)(self.bytes) {
            self.failed = Some(io::ErrorKind::Interrupted.into());
        }
        while self.failed.is_none()
            && let Some(part) = self.parts.front_mut()
        {
            match part.read(buffer) {
                Ok(0) => drop(self.parts.pop_front()),
                Ok(read) => {
                    self.bytes += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(0)
    }
}

/// The same for writing: what cannot be written is let go, and told afterwards.
struct Drain<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Drain<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.failed.is_none()
            && let Err(error) = self.out.write_all(buffer)
        {
            self.failed = Some(error);
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_goes_wrong_is_told_and_does_not_panic() {
        let dir = tempfile::tempdir().unwrap();
        let missing = write(dir.path(), vec![], &mut |_| true).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        names::ALL.iter().for_each(|name| std::fs::write(dir.path().join(name), "x").unwrap());
        let full = write(dir.path(), Full, &mut |_| true).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let stopped = write(dir.path(), vec![], &mut |bytes| bytes < BLOCK as u64).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
    }
}
