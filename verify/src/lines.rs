//! Lines of a file, one at a time, each without its line feed.

use std::io::{self, BufRead};

use crate::reason::Reason;

/// Why the lines came to an end early.
pub(crate) enum Stopped<E> {
    /// The file could not be read.
    Io(io::Error),
    /// A line could not be told, or the visitor refused it.
    At(E),
}

/// Hand every line to `visit`; one beyond `limit` bytes that is not whole yet is not waited for. Holds no more than one line beside the reader's buffer.
pub(crate) fn for_each_line<E: From<Reason>>(
    reader: &mut impl BufRead,
    limit: usize,
    mut visit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let mut spill = Vec::new();
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stopped::Io(error)),
        };
        if buffer.is_empty() {
            let whole = spill.is_empty();
            return if whole { Ok(()) } else { Err(Stopped::At(Reason::NoLineFeed.into())) };
        }
        let mut rest = buffer;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let visited = if spill.is_empty() {
                visit(&rest[..end])
            } else {
                spill.extend_from_slice(&rest[..end]);
                let visited = visit(&spill);
                spill.clear();
                visited
            };
            visited.map_err(Stopped::At)?;
            rest = &rest[end + 1..];
        }
        if spill.len() + rest.len() > limit {
            return Err(Stopped::At(Reason::LineTooLong { limit }.into()));
        }
        spill.extend_from_slice(rest);
        let read = buffer.len();
        reader.consume(read);
    }
}
