//! A file of lines in pieces that fit a core's cache: what a line costs is mostly its hashes, and those
//! of a whole piece are computed side by side.

use std::io::{self, Read};

use crate::{
    line::{Computed, LINE_BYTES, Line},
    reason::Reason,
    scan::Scanner,
};

/// Bytes of a piece: more than a line may have, and few enough to stay in a core's cache.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// Cuts a file into pieces that end with a line, the last one and lines too long excepted.
pub(crate) struct Pieces<R> {
    reader: R,
    carried: Vec<u8>,
    ended: bool,
    /// Memory of pieces that nobody needs any more: fresh memory costs as much as what is read into it.
    spare: Vec<Vec<u8>>,
}

impl<R: Read> Pieces<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, carried: vec![], ended: false, spare: vec![] }
    }

    /// Take back a piece.
    pub(crate) fn reuse(&mut self, mut piece: Vec<u8>) {
        piece.clear();
        self.spare.push(piece);
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES));
        piece.extend_from_slice(&self.carried);
        self.carried.clear();
        let wanted = (PIECE_BYTES - piece.len()) as u64;
        self.reader.by_ref().take(wanted).read_to_end(&mut piece)?;
        self.ended = piece.len() < PIECE_BYTES;
        if !self.ended
            && let Some(last) = memchr::memrchr(b'\n', &piece)
        {
            self.carried.extend_from_slice(&piece[last + 1..]);
            piece.truncate(last + 1);
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// Hand each line of `piece` to `visit` with the hashes of its content and its bytes, line feed
/// included, until one does not hold.
///
/// # Errors
/// What `visit` answers, or why the line after those that it saw is none.
pub(crate) fn each_line<'a>(
    piece: &'a [u8],
    mut visit: impl FnMut(&Line<'a>, &Computed, usize) -> Result<(), Reason>,
) -> Result<(), Reason> {
    const LINES: usize = PIECE_BYTES / 512;
    let (mut lines, mut ends, mut failure) = (Vec::with_capacity(LINES), vec![0], None);
    // All lines at once, which is cheaper; where that fails, the line at fault is to be named.
    if let Ok(text) = simdutf8::basic::from_utf8(piece) {
        let mut scan = Scanner::new(text);
        while let Some(line) = Line::next(&mut scan) {
            lines.push(line);
            ends.push(scan.at());
        }
    }
    let mut rest = &piece[ends[lines.len()]..];
    while !rest.is_empty() && failure.is_none() {
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                match Line::read(&rest[..end]) {
                    Ok(line) => lines.push(line),
                    Err(reason) => failure = Some(reason),
                }
                rest = &rest[end + 1..];
                ends.push(piece.len() - rest.len());
            }
            None if rest.len() > LINE_BYTES => {
                failure = Some(Reason::LineTooLong { limit: LINE_BYTES });
            }
            None => failure = Some(Reason::NoLineFeed),
        }
    }
    let bytes = ends.windows(2).map(|ends| ends[1] - ends[0]);
    for ((line, computed), bytes) in lines.iter().zip(Computed::of_each(&lines)).zip(bytes) {
        visit(line, &computed, bytes)?;
    }
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_that_ends_within_a_hash_is_told_as_one_by_itself_is() {
        let hex = "a".repeat(64);
        let line = format!(
            "{{\"data\":{{}},\"hash\":\"{hex}\",\"header\":{{\"actor\":\"user:a\",\"commitSeq\":0,\
             \"dataHash\":\"{hex}\",\"ledger\":\"o/t\",\"payloadHash\":\"{hex}\",\"prev\":\"{hex}\",\
             \"recordedAt\":\"2026-11-23T09:00:00.000000Z\",\"schema\":1,\"seq\":0,\
             \"stream\":\"dag/x\",\"streamVersion\":1,\"type\":\"X\",\"v\":1}},\"payload\":null,\"salt\":null}}\n"
        );
        assert!(Line::read(line.trim_end().as_bytes()).is_ok());
        let mut lines = 0;
        let mut count = |_: &Line<'_>, _: &Computed, _: usize| {
            lines += 1;
            Ok(())
        };
        assert_eq!(each_line([&line[..], &line].concat().as_bytes(), &mut count), Ok(()));
        // In place of a digit, so that all else stays where it is.
        let at = line.find(&hex).unwrap() + 10;
        let broken = [&line[..at], "\n", &line[at + 1..]].concat();
        let alone = Line::read(&broken.as_bytes()[..at]).unwrap_err();
        let whole = [line.as_bytes(), broken.as_bytes()].concat();
        assert_eq!(each_line(&whole, &mut count), Err(alone));
        assert_eq!(lines, 3);
    }
}
