//! A bundle in memory: made as an export makes it, then tampered with.

use std::collections::BTreeMap;

use stella_domain::{
    checkpoint::{Checkpoint, SigningKey},
    hash::{self, Hash32},
    merkle::{consistency_proof, inclusion_proof, range_proof, root},
    time::Timestamp,
};
use stella_verify::manifest::{
    BUNDLE_FORMAT, Consistency, FileDigest, Files, Manifest, WindowTimes, names,
};

use super::{case::Contents, ledger::Ledger};
use crate::Failure;

/// The files of a bundle, each as what it is made of.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    pub(crate) checkpoint: String,
    pub(crate) boundary: Vec<String>,
    pub(crate) erasures: Vec<String>,
    /// Lines without their line feeds.
    pub(crate) events: Vec<Vec<u8>>,
    /// What stands after the last line of events.
    pub(crate) tail: Vec<u8>,
}

/// The signing key made of this byte.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The checkpoint of the first `size` events.
pub(crate) fn checkpoint(ledger: &Ledger, size: usize) -> Checkpoint {
    let root = root(&ledger.hashes[..size]);
    Checkpoint { ledger: ledger.id.clone(), size: size as u64, root }
}

impl Bundle {
    /// The window [from, to) under the checkpoint of `size` events, signed by the key of seed 1.
    pub(crate) fn of(
        ledger: &Ledger,
        (from, to): (Timestamp, Timestamp),
        size: usize,
    ) -> Result<Self, Failure> {
        let first = ledger.times.partition_point(|at| *at < from);
        let end = ledger.times.partition_point(|at| *at < to);
        Self::range(ledger, (from, to), first, end, size)
    }

    /// As [`of`](Self::of), with the events [first, end), whatever lies in the window.
    pub(crate) fn range(
        ledger: &Ledger,
        (from, to): (Timestamp, Timestamp),
        first: usize,
        end: usize,
        size: usize,
    ) -> Result<Self, Failure> {
        let tree = &ledger.hashes[..size];
        let proven = first.saturating_sub(1) as u64..(end as u64 + 1).min(size as u64);
        let range = range_proof(tree, proven, size as u64)?;
        let prev = first.checked_sub(1).map_or(Hash32::ZERO, |seq| ledger.hashes[seq]);
        let neighbour = |seq: usize, side: &str| {
            let (hash, header) = (ledger.hashes[seq], &ledger.headers[seq]);
            format!(r#"{{"hash":"{hash}","header":{header},"side":"{side}"}}"#)
        };
        let left = first.checked_sub(1).map(|seq| neighbour(seq, "left"));
        let erased = ledger.lines[first..end].iter().filter(|line| is_erased(line)).count() as u64;
        let mut erasures = vec![];
        for seq in ledger.erasures.iter().filter(|_| erased > 0) {
            let proof = inclusion_proof(tree, *seq as u64, size as u64)?;
            let event = &ledger.lines[*seq];
            let proof = serde_json::to_string(&proof)?;
            erasures.push(format!(r#"{{"event":{event},"proof":{proof}}}"#));
        }
        let none = FileDigest::of(b"");
        let manifest = Manifest {
            consistency: None,
            erased,
            events: (end - first) as u64,
            files: Files { boundary: none, checkpoint: none, erasures: none, events: none },
            first_seq: first as u64,
            format: BUNDLE_FORMAT,
            last_hash: if end > first { ledger.hashes[end - 1] } else { prev },
            last_seq: (end > first).then(|| end as u64 - 1),
            ledger: ledger.id.clone(),
            left: range.left,
            prev,
            right: range.right,
            tree_size: size as u64,
            window: WindowTimes { from, to },
        };
        let mut bundle = Self {
            manifest,
            checkpoint: checkpoint(ledger, size).sign(&key(1)),
            boundary: left.into_iter().chain([neighbour(end, "right")]).collect(),
            erasures,
            events: ledger.lines[first..end].iter().map(|line| line.clone().into_bytes()).collect(),
            tail: vec![],
        };
        bundle.digest();
        Ok(bundle)
    }

    /// Prove that the checkpoint extends that of `size` events.
    pub(crate) fn consistent_with(mut self, ledger: &Ledger, size: usize) -> Result<Self, Failure> {
        let tree = usize::try_from(self.manifest.tree_size)?;
        let proof = consistency_proof(&ledger.hashes[..tree], size as u64, tree as u64)?;
        self.manifest.consistency = Some(Consistency { proof, size: size as u64 });
        Ok(self)
    }

    /// The line of events at this place, as text.
    pub(crate) fn line(&self, at: usize) -> String {
        String::from_utf8_lossy(&self.events[at]).into_owned()
    }

    /// Change a line of events.
    pub(crate) fn edit(&mut self, at: usize, from: &str, to: &str) {
        let line = self.line(at);
        assert!(line.contains(from), "nothing to edit: {from} in {line}");
        self.events[at] = line.replacen(from, to, 1).into_bytes();
    }

    /// Make a line's hashes those of what stands in it, as a forger would.
    pub(crate) fn rehash(&mut self, at: usize) {
        self.events[at] = rehashed(&self.line(at)).into_bytes();
    }

    /// Describe the files as they are now, as a forger would.
    pub(crate) fn digest(&mut self) {
        let files = self.contents();
        let of = |name: &str| FileDigest::of(&files[name]);
        self.manifest.files = Files {
            boundary: of(names::BOUNDARY),
            checkpoint: of(names::CHECKPOINT),
            erasures: of(names::ERASURES),
            events: of(names::EVENTS),
        };
    }

    /// Every file's bytes.
    pub(crate) fn contents(&self) -> Contents {
        let lines = |lines: &[String]| -> Vec<u8> {
            lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
        };
        let mut events: Vec<u8> =
            self.events.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
        events.extend(&self.tail);
        BTreeMap::from([
            (names::MANIFEST, self.manifest.to_text().into_bytes()),
            (names::CHECKPOINT, self.checkpoint.clone().into_bytes()),
            (names::BOUNDARY, lines(&self.boundary)),
            (names::ERASURES, lines(&self.erasures)),
            (names::EVENTS, events),
        ])
    }
}

fn is_erased(line: &str) -> bool {
    line.ends_with(r#""payload":null,"salt":null}"#)
        && !line.contains(&format!(r#""payloadHash":"{}""#, Hash32::ZERO))
}

/// The line with `dataHash`, `payloadHash` and `hash` recomputed from what stands in it.
pub(crate) fn rehashed(line: &str) -> String {
    let between = |text: &str, from: &str, to: &str| -> String {
        let start = text.find(from).map_or(0, |at| at + from.len());
        let end = text.rfind(to).unwrap_or(text.len());
        text[start..end].to_owned()
    };
    let data = between(line, "{\"data\":", ",\"hash\":\"");
    let header = between(line, "\"header\":", ",\"payload\":");
    let payload = between(line, ",\"payload\":", ",\"salt\":");
    let salt = between(line, ",\"salt\":\"", "\"}");
    let mut forged = set(&header, "dataHash", &hash::data_hash(&data));
    if let Ok(salt) = salt.parse() {
        forged = set(&forged, "payloadHash", &hash::payload_hash(&salt, &payload));
    }
    let line = line.replacen(&header, &forged, 1);
    set(&line, "hash", &hash::event_hash(&forged))
}

/// `text` with another hash as this member.
pub(crate) fn set(text: &str, member: &str, hash: &Hash32) -> String {
    let name = format!("\"{member}\":\"");
    let Some(at) = text.find(&name).map(|at| at + name.len()) else { return text.to_owned() };
    format!("{}{hash}{}", &text[..at], &text[at + 64..])
}
