//! `erasures.ndjson`: what explains erased payloads, step 8.

use std::io::{BufReader, Read};

use stella_domain::{checkpoint::Checkpoint, seqs::Seqs};

use super::events::{Stopped, Wrong};
use crate::{
    digest::Digesting,
    erasure::{Erasures, PROVEN_BYTES, Proven, Unexplaining},
    lines::{self, for_each_line},
    manifest::FileDigest,
    reason::Reason,
    scan::Scanner,
    verdict::{Fault, Verdict},
};

/// Check every line, and take the seqs that they name out of `erased`.
pub(super) fn check(
    reader: &mut dyn Read,
    checkpoint: &Checkpoint,
    erased: &mut Seqs,
) -> Result<FileDigest, Stopped> {
    let (mut erasures, mut lines) = (Erasures::new(checkpoint, erased), 0);
    let mut reader = BufReader::with_capacity(PROVEN_BYTES, Digesting::new(reader));
    let read = for_each_line(&mut reader, PROVEN_BYTES, |bytes| {
        lines += 1;
        check_line(&mut erasures, bytes, lines)
    });
    read.map_err(|stopped| match stopped {
        lines::Stopped::Io(error) => Stopped::Io(error),
        lines::Stopped::At(mut wrong) => {
            // A line that never ended was not counted.
            if let Fault::ErasureLine { line, .. } = &mut wrong.fault
                && *line == 0
            {
                *line = lines + 1;
            }
            Stopped::Wrong(wrong)
        }
    })?;
    Ok(reader.into_inner().finish().1)
}

impl From<Reason> for Wrong {
    fn from(reason: Reason) -> Self {
        let fault = Fault::ErasureLine { line: 0, reason: Box::new(reason) };
        Self { verdict: Verdict::Tampered, seq: None, fault }
    }
}

fn check_line(erasures: &mut Erasures<'_>, bytes: &[u8], line: u64) -> Result<(), Wrong> {
    let fault = |reason| Fault::ErasureLine { line, reason: Box::new(reason) };
    let wrong = |seq, fault| Wrong { verdict: Verdict::Tampered, seq, fault };
    let proven = cut(bytes).map_err(|reason| wrong(None, fault(reason)))?;
    erasures.check(&proven.event, &proven.proof).map_err(|unexplaining| {
        let fault = match unexplaining {
            Unexplaining::Line(reason) => fault(reason),
            Unexplaining::Rule(rule) => Fault::Erasure { line, rule },
            Unexplaining::Proof(error) => Fault::ErasureProof { line, error },
        };
        wrong(Some(proven.event.seq), fault)
    })
}

fn cut(bytes: &[u8]) -> Result<Proven<'_>, Reason> {
    if bytes.len() > PROVEN_BYTES {
        return Err(Reason::LineTooLong { limit: PROVEN_BYTES });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Reason::NotUtf8 { offset: error.valid_up_to() })?;
    let mut scan = Scanner::new(text);
    let proven = Proven::cut_at(&mut scan)?;
    scan.end("nothing follows the closing brace but a line feed")?;
    Ok(proven)
}
