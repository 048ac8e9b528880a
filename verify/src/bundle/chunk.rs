//! A piece of `events.ndjson`, checked on any thread as far as that needs no earlier piece.

use std::{
    io::{self, Read},
    sync::Arc,
};

use stella_domain::merkle::TileFold;

use crate::{
    chain::Chain,
    line::{LINE_BYTES, Line},
    manifest::WindowTimes,
    reason::Reason,
};

/// Bytes of a piece: more than a line may have, and few enough to stay in a core's cache.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Cuts a file into pieces that end with a line, the last one and lines too long excepted.
pub(super) struct Chunks<R> {
    reader: R,
    carried: Vec<u8>,
    ended: bool,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, carried: vec![], ended: false }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        chunk.append(&mut self.carried);
        let wanted = (CHUNK_BYTES - chunk.len()) as u64;
        self.reader.by_ref().take(wanted).read_to_end(&mut chunk)?;
        self.ended = chunk.len() < CHUNK_BYTES;
        if !self.ended
            && let Some(last) = memchr::memrchr(b'\n', &chunk)
        {
            self.carried = chunk.split_off(last + 1);
        }
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

/// What was found in a piece.
pub(super) struct Checked {
    pub(super) chunk: Arc<Vec<u8>>,
    /// Lines that hold, before the first that does not.
    pub(super) lines: u64,
    /// What is wrong with the one after them.
    pub(super) failure: Option<Reason>,
    /// The first line (from 0) that begins a commit; lines before continue an earlier one.
    pub(super) own: Option<u64>,
    /// The chain from there on.
    pub(super) chain: Chain,
    /// Roots of the tiles over these lines, as far as their seqs are what they should be.
    pub(super) tiles: Vec<(u32, stella_domain::hash::Hash32)>,
    /// Seqs whose payload was erased.
    pub(super) erased: Vec<u64>,
}

impl Checked {
    pub(super) fn of(chunk: Arc<Vec<u8>>, window: WindowTimes) -> Self {
        let mut checked = Self {
            chunk: Arc::clone(&chunk),
            lines: 0,
            failure: None,
            own: None,
            chain: Chain::within(window.from, window.to),
            tiles: vec![],
            erased: vec![],
        };
        let mut tiles = None;
        let mut rest = chunk.as_slice();
        while !rest.is_empty() && checked.failure.is_none() {
            match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    match checked.line(&rest[..end], &mut tiles) {
                        Ok(()) => checked.lines += 1,
                        Err(reason) => checked.failure = Some(reason),
                    }
                    rest = &rest[end + 1..];
                }
                None if rest.len() > LINE_BYTES => {
                    checked.failure = Some(Reason::LineTooLong { limit: LINE_BYTES });
                }
                None => checked.failure = Some(Reason::NoLineFeed),
            }
        }
        checked.tiles = tiles.map(|fold| fold.tiles().to_vec()).unwrap_or_default();
        checked
    }

    fn line(&mut self, bytes: &[u8], tiles: &mut Option<TileFold>) -> Result<(), Reason> {
        let line = Line::read(bytes)?;
        let hash = line.check()?;
        if self.own.is_none() && line.commit_seq == line.seq {
            self.own = Some(self.lines);
        }
        if self.own.is_some() {
            self.chain.follow(&line)?;
        }
        if line.is_erased() {
            self.erased.push(line.seq);
        }
        tiles.get_or_insert_with(|| TileFold::from(line.seq)).append(&hash);
        Ok(())
    }
}
