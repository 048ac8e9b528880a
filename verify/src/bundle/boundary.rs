//! `boundary.ndjson`: both neighbours of the window, step 6.

use stella_domain::hash::Hash32;

use super::events::Wrong;
use crate::{
    line::Line,
    manifest::Manifest,
    reason::Reason,
    scan::Scanner,
    verdict::{Fault, Verdict},
};

/// Bytes that a line may have; no header needs more than 4,096.
const LINE_BYTES: usize = 8_192;
/// Bytes that the file may have.
pub(super) const BOUNDARY_BYTES: usize = 2 * (LINE_BYTES + 1);

const LEFT: &str = "left";
const RIGHT: &str = "right";

/// A neighbour's header, and what it hashes to.
struct Neighbour<'a> {
    header: Line<'a>,
    hash: Hash32,
}

/// Check both neighbours; the answer is the hash of the right one.
pub(super) fn check(bytes: &[u8], manifest: &Manifest) -> Result<Hash32, Wrong> {
    let (left, right) = read(bytes)?;
    let (first, end) = (manifest.first_seq, manifest.end_seq());
    let missing = |side, seq| Wrong {
        verdict: Verdict::Incomplete,
        seq: Some(seq),
        fault: Fault::NoNeighbour { side },
    };
    let misfit = |side, seq, member| Wrong {
        verdict: Verdict::Tampered,
        seq: Some(seq),
        fault: Fault::Neighbour { side, member },
    };
    let before = first.checked_sub(1);
    match (before, &left) {
        (Some(before), None) => return Err(missing(LEFT, before)),
        (None, Some(_)) => return Err(tampered(Fault::Boundary)),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let right = right.ok_or_else(|| missing(RIGHT, end))?;
    let ledger = manifest.ledger.to_string();
    let left = before.zip(left);
    if let Some((before, left)) = &left {
        let rules = [
            (left.header.seq == *before, "seq"),
            (left.hash == manifest.prev, "hash"),
            (left.header.ledger == ledger, "ledger"),
        ];
        if let Some((_, member)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(misfit(LEFT, *before, member));
        }
    }
    let rules = [
        (right.header.seq == end, "seq"),
        (right.header.prev[..] == *manifest.last_hash.to_string().as_bytes(), "prev"),
        (right.header.ledger == ledger, "ledger"),
    ];
    if let Some((_, member)) = rules.iter().find(|(holds, _)| !holds) {
        return Err(misfit(RIGHT, end, member));
    }
    let inside = |side, seq, found: &str| Wrong {
        verdict: Verdict::Incomplete,
        seq: Some(seq),
        fault: Fault::NeighbourInside { side, found: found.to_owned() },
    };
    // Of one form, so that the order of the texts is that of the times.
    let (from, to) = (manifest.window.from.to_string(), manifest.window.to.to_string());
    if let Some((before, left)) = left.filter(|(_, left)| left.header.recorded_at >= &*from) {
        return Err(inside(LEFT, before, left.header.recorded_at));
    }
    if right.header.recorded_at < &*to {
        return Err(inside(RIGHT, end, right.header.recorded_at));
    }
    if right.header.commit_seq != end {
        return Err(misfit(RIGHT, end, "commitSeq"));
    }
    Ok(right.hash)
}

fn read(bytes: &[u8]) -> Result<(Option<Neighbour<'_>>, Option<Neighbour<'_>>), Wrong> {
    let (mut left, mut right) = (None, None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n").filter(|text| text.len() <= LINE_BYTES) else {
            return Err(tampered(Fault::Boundary));
        };
        let (side, neighbour) =
            read_line(text).map_err(|reason| tampered(Fault::BoundaryLine(Box::new(reason))))?;
        let out_of_order = right.is_some();
        let place = if side == LEFT { &mut left } else { &mut right };
        if place.is_some() || out_of_order {
            return Err(tampered(Fault::Boundary));
        }
        *place = Some(neighbour);
    }
    Ok((left, right))
}

fn read_line(bytes: &[u8]) -> Result<(&'static str, Neighbour<'_>), Reason> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Reason::NotUtf8 { offset: error.valid_up_to() })?;
    let mut scan = Scanner::new(text);
    scan.expect("{\"hash\":\"", "a line begins with {\"hash\":")?;
    let hash = scan.digits_of()?;
    scan.expect("\",\"header\":", "the member `header` follows the hash")?;
    let start = scan.at();
    let mut header = Line::cut_header(&mut scan)?;
    (header.header, header.hash) = (scan.since(start), hash);
    let side = if scan.eat(",\"side\":\"left\"}") {
        LEFT
    } else {
        scan.expect(",\"side\":\"right\"}", "`side` follows the header: left or right")?;
        RIGHT
    };
    scan.end("nothing follows the closing brace but a line feed")?;
    header.check_names()?;
    Ok((side, Neighbour { hash: header.check_own_hash()?, header }))
}

fn tampered(fault: Fault) -> Wrong {
    Wrong { verdict: Verdict::Tampered, seq: None, fault }
}
