//! `erasures.ndjson`: what explains erased payloads, step 8.

use std::io::{BufReader, Read};

use serde::Deserialize;
use stella_domain::{
    hash::Hash32,
    ids::{RunId, StreamId},
    merkle::verify_inclusion,
};

use super::{
    events::{Stopped, Wrong},
    seqs::Seqs,
};
use crate::{
    digest::Digesting,
    line::{self, Line, hash_of},
    lines::{self, for_each_line},
    manifest::{FileDigest, Manifest},
    reason::Reason,
    scan::Scanner,
    verdict::{Fault, Verdict},
};

/// Bytes that a line may have: an event's line and its proof.
const LINE_BYTES: usize = line::LINE_BYTES + 8_192;
/// Hashes that a proof may have: those of the largest tree there can be.
const PROOF: usize = 64;

/// Data of `DataErased`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataErased {
    #[expect(dead_code, reason = "has to be there, and to be a run's id")]
    run_id: RunId,
    seqs: Vec<u64>,
}

struct Erasures<'a> {
    manifest: &'a Manifest,
    root: &'a Hash32,
    stream: String,
    ledger: String,
    unexplained: &'a mut Seqs,
    lines: u64,
    last_seq: Option<u64>,
}

/// Check every line, and take the seqs that they name out of `erased`.
pub(super) fn check(
    reader: &mut dyn Read,
    manifest: &Manifest,
    root: &Hash32,
    erased: &mut Seqs,
) -> Result<FileDigest, Stopped> {
    let mut erasures = Erasures {
        manifest,
        root,
        stream: StreamId::Ledger(manifest.ledger.tenant.clone()).to_string(),
        ledger: manifest.ledger.to_string(),
        unexplained: erased,
        lines: 0,
        last_seq: None,
    };
    let mut reader = BufReader::with_capacity(LINE_BYTES, Digesting::new(reader));
    let read = for_each_line(&mut reader, LINE_BYTES, |bytes| {
        erasures.lines += 1;
        erasures.line(bytes)
    });
    read.map_err(|stopped| match stopped {
        lines::Stopped::Io(error) => Stopped::Io(error),
        lines::Stopped::At(mut wrong) => {
            // A line that never ended was not counted.
            if let Fault::ErasureLine { line, .. } = &mut wrong.fault
                && *line == 0
            {
                *line = erasures.lines + 1;
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

impl Erasures<'_> {
    fn line(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let line = self.lines;
        let fault = |reason| Fault::ErasureLine { line, reason: Box::new(reason) };
        let wrong = |seq, fault| Wrong { verdict: Verdict::Tampered, seq, fault };
        let (event, proof) = cut(bytes).map_err(|reason| wrong(None, fault(reason)))?;
        let wrong = |fault| wrong(Some(event.seq), fault);
        let rule = |rule| wrong(Fault::Erasure { line, rule });
        event.check_names().map_err(|reason| wrong(fault(reason)))?;
        let hash = event.check().map_err(|reason| wrong(fault(reason)))?;
        if event.ledger != self.ledger || event.stream != self.stream {
            return Err(rule("it is not of this ledger's own stream"));
        }
        if event.event_type != "DataErased" || event.schema != 1 {
            return Err(rule("it is not a DataErased of schema 1"));
        }
        if event.is_erased() {
            return Err(rule("the reason of an erasure was itself erased"));
        }
        if self.last_seq.is_some_and(|last| last >= event.seq) {
            return Err(rule("the events do not stand in the order of their seq"));
        }
        self.last_seq = Some(event.seq);
        let data: DataErased = serde_json::from_str(event.data)
            .map_err(|_| rule("its data is not {\"runId\":…,\"seqs\":[…]}"))?;
        let ascending = data.seqs.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || data.seqs.last().is_none_or(|last| *last >= event.seq) {
            return Err(rule(
                "it names no seqs, or not in ascending order, or none before its own",
            ));
        }
        verify_inclusion(&hash, event.seq, self.manifest.tree_size, self.root, &proof)
            .map_err(|error| wrong(Fault::ErasureProof { line, error }))?;
        data.seqs.iter().for_each(|seq| self.unexplained.remove(*seq));
        Ok(())
    }
}

fn cut(bytes: &[u8]) -> Result<(Line<'_>, Vec<Hash32>), Reason> {
    if bytes.len() > LINE_BYTES {
        return Err(Reason::LineTooLong { limit: LINE_BYTES });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Reason::NotUtf8 { offset: error.valid_up_to() })?;
    let mut scan = Scanner::new(text);
    scan.expect("{\"event\":", "a line begins with {\"event\":")?;
    let start = scan.at();
    let event = Line::cut_at(&mut scan)?;
    if scan.since(start).len() > line::LINE_BYTES {
        return Err(Reason::LineTooLong { limit: line::LINE_BYTES });
    }
    scan.expect(",\"proof\":[", "the member `proof` follows the event")?;
    let mut proof = vec![];
    if !scan.eat("]") {
        while proof.len() < PROOF {
            scan.expect("\"", "a hash stands here")?;
            proof.push(hash_of("proof", scan.digits_of()?)?);
            scan.expect("\"", "a hash has 64 digits")?;
            if scan.eat("]") {
                break;
            }
            scan.expect(",", "a comma or the proof's end stands here")?;
        }
    }
    scan.expect("}", "the line ends with }")?;
    scan.end("nothing follows the closing brace but a line feed")?;
    Ok((event, proof))
}
