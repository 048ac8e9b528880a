//! A piece of `events.ndjson`, checked on any thread as far as that needs no earlier piece.

use stella_domain::merkle::TileFold;

use crate::{
    chain::Chain,
    line::{Computed, Line},
    manifest::WindowTimes,
    piece::each_line,
    reason::Reason,
};

/// What was found in a piece.
pub(super) struct Checked {
    pub(super) chunk: Vec<u8>,
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
    pub(super) fn of(chunk: Vec<u8>, window: WindowTimes) -> Self {
        let mut checked = Self {
            chunk: vec![],
            lines: 0,
            failure: None,
            own: None,
            chain: Chain::within(window.from, window.to),
            tiles: vec![],
            erased: vec![],
        };
        let mut tiles = None;
        let read = each_line(&chunk, |line, computed, _| {
            checked.line(line, computed, &mut tiles)?;
            checked.lines += 1;
            Ok(())
        });
        checked.failure = read.err();
        checked.chunk = chunk;
        checked.tiles = tiles.map(|fold: TileFold| fold.tiles().to_vec()).unwrap_or_default();
        checked
    }

    fn line(
        &mut self,
        line: &Line<'_>,
        computed: &Computed,
        tiles: &mut Option<TileFold>,
    ) -> Result<(), Reason> {
        let hash = line.check_against(computed)?;
        if self.own.is_none() && line.commit_seq == line.seq {
            self.own = Some(self.lines);
        }
        if self.own.is_some() {
            self.chain.follow(line)?;
        }
        if line.is_erased() {
            self.erased.push(line.seq);
        }
        tiles.get_or_insert_with(|| TileFold::from(line.seq)).append(&hash);
        Ok(())
    }
}
