//! `events.ndjson`: step 5, and the leaves for step 7.
//!
//! The work on pieces is done on all cores (`crew`); here they are put in order.

use std::io::{self, Read};

use stella_domain::{
    merkle::{MerkleError, RangeFold},
    seqs::Seqs,
};

use super::{chunk::Checked, crew};
use crate::{
    chain::Chain,
    line::Line,
    manifest::{FileDigest, Manifest},
    ndjson::Progress,
    reason::Reason,
    verdict::{Fault, Verdict},
};

/// Why step 5 does not hold.
pub(super) struct Wrong {
    pub(super) verdict: Verdict,
    pub(super) seq: Option<u64>,
    pub(super) fault: Fault,
}

/// Why the events were not read to their end.
pub(super) enum Stopped {
    Wrong(Wrong),
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What later steps need of the events.
pub(super) struct Events<'m> {
    manifest: &'m Manifest,
    chain: Chain,
    count: u64,
    bytes: u64,
    /// Folds the range, or says why it cannot.
    pub(super) fold: Result<RangeFold<'m>, MerkleError>,
    pub(super) erased: Seqs,
    pub(super) digest: Option<FileDigest>,
}

impl<'m> Events<'m> {
    /// Before the first line; `fold` has its left part.
    pub(super) fn new(manifest: &'m Manifest, fold: Result<RangeFold<'m>, MerkleError>) -> Self {
        let window = manifest.window;
        let chain = Chain::within(window.from, window.to);
        let chain = chain.expecting(&manifest.ledger, manifest.first_seq, &manifest.prev);
        Self { manifest, chain, count: 0, bytes: 0, fold, erased: Seqs::default(), digest: None }
    }

    /// Read and check the whole file.
    pub(super) fn read(
        &mut self,
        reader: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Stopped> {
        let digest = crew::check(reader, self.manifest.window, |checked| {
            self.absorb(checked).map_err(Stopped::Wrong)?;
            progress(Progress { events: self.count, bytes: self.bytes });
            Ok::<_, Stopped>(())
        })?;
        self.digest = Some(digest);
        self.finish().map_err(Stopped::Wrong)
    }

    /// Put a piece behind those before it.
    fn absorb(&mut self, checked: &mut Checked) -> Result<(), Wrong> {
        let allowed = self.manifest.events - self.count;
        // Lines of a commit that began earlier, and the first of one that begins here; the chain of
        // the piece knows the others. That first one may hold for it and not after those before, or
        // for another reason not, so it is looked at here even if it was refused there.
        let refused = u64::from(checked.failure.is_some() && checked.own == Some(checked.lines));
        let known = (checked.lines + refused).min(allowed);
        let known = checked.own.map_or(known, |own| known.min(own + 1));
        let lines = checked.chunk.split(|byte| *byte == b'\n');
        for (index, bytes) in (0..known).zip(lines) {
            let followed = Line::read(bytes).and_then(|line| {
                if self.count + index == 0 {
                    line.check_names()?;
                }
                self.chain.follow(&line)
            });
            followed.map_err(|reason| self.wrong(index, reason))?;
        }
        let beyond = checked.lines + u64::from(checked.failure.is_some());
        if beyond > allowed {
            return Err(Wrong {
                verdict: Verdict::Tampered,
                seq: Some(self.manifest.end_seq()),
                fault: Fault::EventsTooMany { expected: self.manifest.events },
            });
        }
        if let Some(reason) = checked.failure.take() {
            return Err(self.wrong(checked.lines, reason));
        }
        if checked.own.is_some() {
            std::mem::swap(&mut self.chain, &mut checked.chain);
        }
        self.count += checked.lines;
        self.bytes += checked.chunk.len() as u64;
        checked.erased.iter().for_each(|seq| self.erased.insert(*seq));
        for (level, root) in &checked.tiles {
            if let Ok(fold) = &mut self.fold
                && let Err(error) = fold.push_subtree(*level, *root)
            {
                self.fold = Err(error);
            }
        }
        Ok(())
    }

    /// The line `index` lines after those that were counted does not hold.
    fn wrong(&self, index: u64, reason: Reason) -> Wrong {
        let line = self.count + index;
        let seq = self.manifest.first_seq + line;
        let incomplete = |fault| Wrong { verdict: Verdict::Incomplete, seq: Some(seq), fault };
        match reason {
            Reason::NoLineFeed => incomplete(self.missing(line)),
            Reason::Seq { expected, found } if line == 0 && found > expected => {
                incomplete(Fault::BeginsLate { found })
            }
            reason => Wrong {
                verdict: Verdict::Tampered,
                seq: Some(seq),
                fault: Fault::Line { line: line + 1, reason: Box::new(reason) },
            },
        }
    }

    fn missing(&self, found: u64) -> Fault {
        Fault::EventsMissing { found, expected: self.manifest.events }
    }

    /// After the last line.
    fn finish(&self) -> Result<(), Wrong> {
        let Self { manifest, count, .. } = self;
        if *count < manifest.events {
            let seq = Some(manifest.first_seq + count);
            let fault = self.missing(*count);
            return Err(Wrong { verdict: Verdict::Incomplete, seq, fault });
        }
        let tampered = |seq, fault| Err(Wrong { verdict: Verdict::Tampered, seq, fault });
        let (found, expected) = (self.chain.head(), manifest.last_hash);
        if found != expected {
            return tampered(manifest.last_seq, Fault::LastHash { expected, found });
        }
        let (found, expected) = (self.erased.len(), manifest.erased);
        if found != expected {
            return tampered(None, Fault::ErasedCount { expected, found });
        }
        Ok(())
    }
}
