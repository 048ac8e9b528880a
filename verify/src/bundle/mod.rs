//! Bundles: whether a window is complete and unchanged, by the steps of `docs/ledger-format.md`,
//! section 10.5, in their order. The first that fails gives the verdict.

mod boundary;
mod chunk;
mod crew;
mod erasures;
mod events;

use std::{
    io::Read,
    time::{Duration, Instant},
};

use stella_domain::{
    checkpoint::{Checkpoint, NOTE_BYTES},
    merkle::{MerkleError, RangeFold, RangeProof, verify_consistency},
};

use self::events::{Events, Stopped, Wrong};
use crate::{
    manifest::{FileDigest, MANIFEST_BYTES, Manifest, ManifestError, names},
    ndjson::{LISTED_ERASURES, Progress},
    signed,
    source::{Bundle, BundleError, Unread},
    trust::Trust,
    verdict::{Claim, Fault, Report, Reports, Verdict},
};

/// Verify one bundle.
///
/// Memory does not grow with the window, but for one bit an event where payloads were erased.
///
/// # Errors
/// [`BundleError`] when the bundle could not be read: that is no verdict on it.
pub fn verify_bundle(
    bundle: &Bundle,
    trust: &Trust,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BundleError> {
    let started = Instant::now();
    let mut report = Report {
        verdict: Verdict::Verified,
        seq: None,
        step: None,
        reason: None,
        claim: None,
        checkpoint: None,
        erased_seqs: vec![],
        elapsed: Duration::ZERO,
    };
    match steps(bundle, trust, &mut report, progress) {
        Ok(verdict) => report.verdict = verdict,
        Err(Stop::Io(error)) => return Err(error),
        Err(Stop::Wrong { step, wrong }) => {
            (report.verdict, report.seq) = (wrong.verdict, wrong.seq);
            (report.step, report.reason) = (Some(step), Some(wrong.fault.to_string()));
        }
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

/// Verify bundles that continue each other, in this order.
///
/// # Errors
/// [`BundleError`] when one of them could not be read.
pub fn verify_bundles(
    bundles: &[Bundle],
    trust: &Trust,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reports, BundleError> {
    let mut reports: Vec<Report> = vec![];
    let mut before = Progress { events: 0, bytes: 0 };
    for bundle in bundles {
        let mut last = Progress { events: 0, bytes: 0 };
        let report = verify_bundle(bundle, trust, &mut |at| {
            last = at;
            progress(Progress {
                events: before.events + at.events,
                bytes: before.bytes + at.bytes,
            });
        })?;
        before = Progress { events: before.events + last.events, bytes: before.bytes + last.bytes };
        reports.push(report);
    }
    let own = reports.iter().map(|report| (report.verdict, report.seq, report.reason.clone()));
    let links = reports.windows(2).filter_map(|pair| check_link(&pair[0], &pair[1]));
    let links = links.map(|wrong| (wrong.verdict, wrong.seq, Some(wrong.fault.to_string())));
    let mut worst = (Verdict::Verified, None, None);
    for found in own.chain(links) {
        if found.0 > worst.0 {
            worst = found;
        }
    }
    let (verdict, seq, reason) = worst;
    Ok(Reports { verdict, seq, reason, bundles: reports })
}

/// How `next` does not continue `before`; nothing is said where one of them does not hold itself.
fn check_link(before: &Report, next: &Report) -> Option<Wrong> {
    if !before.verdict.is_good() || !next.verdict.is_good() {
        return None;
    }
    let (before, next) = (before.claim.as_ref()?, next.claim.as_ref()?);
    if before.ledger != next.ledger || before.window.to != next.window.from {
        let rule = "it is of another ledger, or does not begin where that one ends";
        return Some(Wrong {
            verdict: Verdict::Incomplete,
            seq: None,
            fault: Fault::NotNext(rule),
        });
    }
    let continues =
        next.first_seq == before.first_seq + before.events && next.prev == before.last_hash;
    (!continues).then_some(Wrong {
        verdict: Verdict::Tampered,
        seq: Some(next.first_seq),
        fault: Fault::NotNext("its first event does not follow the last of that one"),
    })
}

/// Why there are no further steps.
enum Stop {
    Wrong { step: u8, wrong: Wrong },
    Io(BundleError),
}

impl From<Unread> for Stop {
    /// Of a file that was there in step 1; an archive can turn out damaged later.
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Io(error) => Self::Io(error),
            Unread::Fault(fault) => {
                let verdict = match fault {
                    Fault::NoFile { .. } | Fault::ArchiveEnds => Verdict::Incomplete,
                    _ => Verdict::Tampered,
                };
                Self::Wrong { step: 1, wrong: Wrong { verdict, seq: None, fault } }
            }
        }
    }
}

fn stop(step: u8, verdict: Verdict, fault: impl Into<Fault>) -> Stop {
    Stop::Wrong { step, wrong: Wrong { verdict, seq: None, fault: fault.into() } }
}

fn steps(
    bundle: &Bundle,
    trust: &Trust,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verdict, Stop> {
    bundle.check_files()?;
    let manifest = Manifest::parse(&bundle.read(names::MANIFEST, MANIFEST_BYTES + 1)?);
    let manifest = manifest.map_err(|error| match error {
        ManifestError::Newer(_) => stop(2, Verdict::Untrusted, error),
        _ => stop(2, Verdict::Tampered, error),
    })?;
    report.claim = Some(Claim::from(&manifest));

    let note = bundle.read(names::CHECKPOINT, NOTE_BYTES + 1)?;
    let checkpoint = check_checkpoint(&note, trust, &manifest, report)?;
    check_since(trust, &manifest, &checkpoint)?;

    let range = RangeProof { left: manifest.left.clone(), right: manifest.right.clone() };
    let mut events = Events::new(&manifest, begin_range(&manifest, &range));
    let found = |step| {
        move |stopped| match stopped {
            Stopped::Wrong(wrong) => Stop::Wrong { step, wrong },
            Stopped::Io(error) => Stop::from(bundle.unread(error)),
        }
    };
    bundle.with_file(names::EVENTS, |file: &mut dyn Read| {
        events.read(file, progress).map_err(found(5))
    })?;
    report.erased_seqs = events.erased.iter().take(LISTED_ERASURES).collect();

    let boundary = bundle.read(names::BOUNDARY, boundary::BOUNDARY_BYTES + 1)?;
    let right =
        boundary::check(&boundary, &manifest).map_err(|wrong| Stop::Wrong { step: 6, wrong })?;

    let Events { fold, mut erased, digest: events_digest, .. } = events;
    if manifest.end_seq() >= manifest.tree_size {
        let fault = Fault::TreeTooSmall { size: manifest.tree_size };
        let (verdict, seq) = (Verdict::Incomplete, Some(manifest.end_seq()));
        return Err(Stop::Wrong { step: 7, wrong: Wrong { verdict, seq, fault } });
    }
    end_range(fold, &right, &checkpoint).map_err(|error| {
        let (verdict, seq) = (Verdict::Tampered, Some(manifest.first_seq));
        Stop::Wrong { step: 7, wrong: Wrong { verdict, seq, fault: Fault::Range(error) } }
    })?;

    let erasures_digest = bundle.with_file(names::ERASURES, |file: &mut dyn Read| {
        erasures::check(file, &checkpoint, &mut erased).map_err(found(8))
    })?;
    if let Some(seq) = erased.iter().next() {
        let (verdict, fault) = (Verdict::Tampered, Fault::Unexplained);
        return Err(Stop::Wrong { step: 8, wrong: Wrong { verdict, seq: Some(seq), fault } });
    }

    let files = &manifest.files;
    let digests = [
        (names::BOUNDARY, Some(FileDigest::of(&boundary)), files.boundary),
        (names::CHECKPOINT, Some(FileDigest::of(&note)), files.checkpoint),
        (names::ERASURES, Some(erasures_digest), files.erasures),
        (names::EVENTS, events_digest, files.events),
    ];
    match digests.iter().find(|(_, found, expected)| *found != Some(*expected)) {
        Some((name, ..)) => Err(stop(9, Verdict::Tampered, Fault::Digest { name })),
        None if manifest.erased > 0 => Ok(Verdict::VerifiedWithErasures),
        None => Ok(Verdict::Verified),
    }
}

/// Step 3.
fn check_checkpoint(
    note: &[u8],
    trust: &Trust,
    manifest: &Manifest,
    report: &mut Report,
) -> Result<Checkpoint, Stop> {
    let signed = signed::check(note, trust);
    let (checkpoint, signed) =
        signed.map_err(|unsigned| stop(3, unsigned.verdict, unsigned.fault))?;
    report.checkpoint = Some(signed);
    match signed::differs(&checkpoint, &manifest.ledger, manifest.tree_size) {
        Some(member) => Err(stop(3, Verdict::Tampered, Fault::OtherCheckpoint { member })),
        None => Ok(checkpoint),
    }
}

/// Step 4.
fn check_since(trust: &Trust, manifest: &Manifest, newer: &Checkpoint) -> Result<(), Stop> {
    let older = signed::since(trust, &newer.ledger)
        .map_err(|unsigned| stop(4, unsigned.verdict, unsigned.fault))?;
    let Some(older) = older else { return Ok(()) };
    let since = older.size;
    if since > newer.size {
        let fault = Fault::OlderThanSince { since, size: newer.size };
        return Err(stop(4, Verdict::Incomplete, fault));
    }
    if since == newer.size {
        return match older.root == newer.root {
            true => Ok(()),
            false => Err(stop(4, Verdict::Tampered, Fault::Fork)),
        };
    }
    let proof = match &manifest.consistency {
        _ if since == 0 => &[][..],
        Some(consistency) if consistency.size == since => &consistency.proof,
        Some(_) | None => {
            return Err(stop(4, Verdict::Incomplete, Fault::NoConsistency { since }));
        }
    };
    verify_consistency((since, &older.root), (newer.size, &newer.root), proof)
        .map_err(|error| stop(4, Verdict::Tampered, Fault::Inconsistent(error)))
}

/// Step 7, as far as it can be begun before the events are read. Why it cannot is said in its turn.
fn begin_range<'p>(
    manifest: &Manifest,
    proof: &'p RangeProof,
) -> Result<RangeFold<'p>, MerkleError> {
    let first = manifest.first_seq.saturating_sub(1);
    let end = manifest.end_seq().saturating_add(1);
    let mut fold = RangeFold::new(first..end, manifest.tree_size, proof)?;
    if manifest.first_seq > 0 {
        fold.push(&manifest.prev)?;
    }
    Ok(fold)
}

fn end_range(
    fold: Result<RangeFold<'_>, MerkleError>,
    right: &stella_domain::hash::Hash32,
    checkpoint: &Checkpoint,
) -> Result<(), MerkleError> {
    let mut fold = fold?;
    fold.push(right)?;
    let (computed, expected) = (fold.root()?, checkpoint.root);
    if computed == expected {
        return Ok(());
    }
    Err(MerkleError::RootMismatch { expected, computed })
}
