//! A ledger as a whole, where it is stored, against the newest checkpoint that is stored beside it:
//! `docs/ledger-format.md`, section 10.8.

use std::time::{Duration, Instant};

use serde::Serialize;
use stella_domain::{
    checkpoint::Checkpoint, hash::Hash32, ids::StreamId, merkle::Frontier, seqs::Seqs,
};

use crate::{
    erasure,
    line::{Line, hash_of},
    ndjson::{self, Broken, Progress, Verifier, VerifyError},
    reason::Reason,
    signed,
    trust::Trust,
    verdict::{Fault, Signed, Verdict, as_ms},
};

/// What a verifier says about a whole ledger. Serialises to the JSON that the command line prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerReport {
    /// What the ledger is worth, as far as the checkpoint reaches.
    pub verdict: Verdict,
    /// The first seq concerned, where there is one.
    pub seq: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// The checkpoint, if it was signed by a pinned key.
    pub checkpoint: Option<Signed>,
    /// Events after those that the checkpoint holds. The chain links them, and nothing else speaks for
    /// them yet.
    pub unsigned: u64,
    /// What was read, which holds by itself.
    pub read: ndjson::Report,
    /// How long verifying took; in milliseconds when serialised.
    #[serde(rename = "elapsedMs", serialize_with = "as_ms")]
    pub elapsed: Duration,
}

/// What is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields hold")]
pub enum LedgerFault {
    #[error("no checkpoint is stored beside the ledger: nothing but its chain speaks for it")]
    NoCheckpoint,
    #[error(transparent)]
    Checkpoint(#[from] Fault),
    #[error(
        "the older checkpoint has {since} events, the newest one that is stored {size}: checkpoints \
         were removed, or the ledger was cut"
    )]
    OlderThanSince { since: u64, size: u64 },
    #[error("{0}")]
    Events(String),
    #[error("the checkpoint is of ledger {checkpoint}, the events are of {events}")]
    OtherLedger { checkpoint: String, events: String },
    #[error(
        "the checkpoint has {size} events, and the ledger ends after {events}: its end was cut off, \
         or an older backup was restored"
    )]
    Shorter { size: u64, events: u64 },
    #[error(
        "the first {size} events lead to the root {computed}, and {signed} was signed: they are not \
         what they were"
    )]
    Root { size: u64, signed: Hash32, computed: Hash32 },
    #[error(
        "the first {size} events lead to the root {computed}, and the older checkpoint has {since}: \
         they are not what they were then"
    )]
    RootSince { size: u64, since: Hash32, computed: Hash32 },
    #[error("the `DataErased` at seq {seq}: {rule}")]
    Erasure { seq: u64, rule: &'static str },
    #[error("the payload was erased, and no `DataErased` names it")]
    Unexplained,
    #[error(
        "the payload was erased, and the `DataErased` that names it stands after what the checkpoint \
         holds: verify again once it is signed"
    )]
    ExplainedUnsigned,
}

/// Why nothing further is looked at.
#[derive(Debug)]
struct Stop {
    verdict: Verdict,
    seq: Option<u64>,
    fault: LedgerFault,
}

fn stop(verdict: Verdict, seq: Option<u64>, fault: impl Into<LedgerFault>) -> Stop {
    Stop { verdict, seq, fault: fault.into() }
}

/// Judges a ledger of which it is shown all lines from the first on.
///
/// Memory does not grow with the ledger, but for one bit an event where payloads were erased.
#[derive(Debug)]
pub struct LedgerJudge {
    verifier: Verifier,
    tree: Frontier,
    checkpoint: Option<(Checkpoint, Signed)>,
    /// The older checkpoint that the verifier brought along.
    since: Option<Checkpoint>,
    own_stream: String,
    /// Erased payloads that no event names yet.
    unexplained: Seqs,
    /// Those that are named beyond the checkpoint.
    explained_unsigned: Seqs,
    stopped: Option<Stop>,
    started: Instant,
}

impl LedgerJudge {
    /// Judge by the newest checkpoint that is stored, the text of its note, and by what the verifier
    /// brings along.
    pub fn new(newest: Option<&str>, trust: &Trust) -> Self {
        let mut judge = Self {
            verifier: Verifier::new(),
            tree: Frontier::default(),
            checkpoint: None,
            since: None,
            own_stream: String::new(),
            unexplained: Seqs::default(),
            explained_unsigned: Seqs::default(),
            stopped: None,
            started: Instant::now(),
        };
        judge.stopped = judge.take_up(newest, trust).err();
        judge
    }

    fn take_up(&mut self, newest: Option<&str>, trust: &Trust) -> Result<(), Stop> {
        let none = || stop(Verdict::Incomplete, None, LedgerFault::NoCheckpoint);
        let signed = signed::check(newest.ok_or_else(none)?.as_bytes(), trust);
        let signed = signed.map_err(|unsigned| stop(unsigned.verdict, None, unsigned.fault))?;
        let (newest, _) = self.checkpoint.insert(signed);
        self.own_stream = StreamId::Ledger(newest.ledger.tenant.clone()).to_string();
        let since = signed::since(trust, &newest.ledger)
            .map_err(|unsigned| stop(unsigned.verdict, None, unsigned.fault))?;
        let Some(since) = since else { return Ok(()) };
        if since.size > newest.size {
            let fault = LedgerFault::OlderThanSince { since: since.size, size: newest.size };
            return Err(stop(Verdict::Incomplete, Some(newest.size), fault));
        }
        if since.size == newest.size && since.root != newest.root {
            return Err(stop(Verdict::Tampered, None, Fault::Fork));
        }
        self.since = Some(since).filter(|since| since.size > 0);
        Ok(())
    }

    /// Whether more lines would change the verdict.
    pub fn wants_more(&self) -> bool {
        self.stopped.is_none()
    }

    /// The lines that come next.
    pub fn read(&mut self, lines: &[u8]) {
        if self.stopped.is_some() {
            return;
        }
        let Self { verifier, tree, checkpoint, since, own_stream, .. } = self;
        let (unexplained, explained_unsigned) =
            (&mut self.unexplained, &mut self.explained_unsigned);
        let Some((checkpoint, _)) = checkpoint else { return };
        let mut stopped = None;
        let mut visit = |line: &Line<'_>| {
            let hash = hash_of("hash", line.hash).map_err(|reason| of_events(line.seq, &reason))?;
            if line.seq != tree.size() {
                let reason = Reason::Seq { expected: tree.size(), found: line.seq };
                let seq = Some(tree.size());
                return Err(stop(Verdict::Incomplete, seq, events(&reason)));
            }
            if line.seq == 0 && line.ledger != checkpoint.ledger.to_string() {
                let (checkpoint, events) = (checkpoint.ledger.to_string(), line.ledger.to_owned());
                let fault = LedgerFault::OtherLedger { checkpoint, events };
                return Err(stop(Verdict::Tampered, Some(0), fault));
            }
            tree.append(&hash);
            let size = tree.size();
            if let Some(since) = since.as_ref().filter(|since| since.size == size)
                && tree.root() != since.root
            {
                let (since, computed) = (since.root, tree.root());
                let fault = LedgerFault::RootSince { size, since, computed };
                return Err(stop(Verdict::Tampered, None, fault));
            }
            if size == checkpoint.size && tree.root() != checkpoint.root {
                let (signed, computed) = (checkpoint.root, tree.root());
                let fault = LedgerFault::Root { size, signed, computed };
                return Err(stop(Verdict::Tampered, None, fault));
            }
            if line.is_erased() {
                unexplained.insert(line.seq);
            }
            if line.stream == *own_stream && erasure::is_erasure(line) {
                let seq = line.seq;
                let unsound = |rule| LedgerFault::Erasure { seq, rule };
                let named = erasure::named(line)
                    .map_err(|rule| stop(Verdict::Tampered, Some(seq), unsound(rule)))?;
                for named in named.into_iter().filter(|seq| unexplained.remove(*seq)) {
                    if seq >= checkpoint.size {
                        explained_unsigned.insert(named);
                    }
                }
            }
            Ok(())
        };
        let read = verifier.read_with(lines, None, |_, line| {
            if stopped.is_none() {
                stopped = visit(line).err();
            }
        });
        let broken = read.err().map(|error| match error {
            VerifyError::Broken(broken) => {
                let Broken { seq, reason, .. } = *broken;
                stop(Verdict::Tampered, seq.or(Some(0)), events(&reason))
            }
            error @ VerifyError::Io { .. } => stop(Verdict::Tampered, None, events(&error)),
        });
        self.stopped = stopped.or(broken);
    }

    /// What the storage cannot hand out, because it is damaged.
    pub fn damaged(&mut self, seq: Option<u64>, reason: String) {
        let damaged = stop(Verdict::Tampered, seq, LedgerFault::Events(reason));
        self.stopped.get_or_insert(damaged);
    }

    /// The seq that comes next.
    pub fn next_seq(&self) -> u64 {
        self.tree.size()
    }

    /// How far it came.
    pub fn progress(&self) -> Progress {
        self.verifier.progress()
    }

    /// The verdict, once the ledger's end is reached or nothing more is wanted.
    pub fn report(mut self) -> LedgerReport {
        let read = self.verifier.report();
        let outcome = match self.stopped.take() {
            Some(stopped) => Err(stopped),
            None => self.end(),
        };
        let (verdict, seq, reason) = match outcome {
            Ok(()) if read.erased > 0 => (Verdict::VerifiedWithErasures, None, None),
            Ok(()) => (Verdict::Verified, None, None),
            Err(Stop { verdict, seq, fault }) => (verdict, seq, Some(fault.to_string())),
        };
        let checkpoint = self.checkpoint.map(|(_, signed)| signed);
        let signed = checkpoint.as_ref().map_or(0, |signed| signed.tree_size);
        let (unsigned, elapsed) = (read.events.saturating_sub(signed), self.started.elapsed());
        LedgerReport { verdict, seq, reason, checkpoint, unsigned, read, elapsed }
    }

    fn end(&self) -> Result<(), Stop> {
        let Some((checkpoint, _)) = &self.checkpoint else { return Ok(()) };
        let (size, events) = (checkpoint.size, self.tree.size());
        if events < size {
            let fault = LedgerFault::Shorter { size, events };
            return Err(stop(Verdict::Incomplete, Some(events), fault));
        }
        if let Some(seq) = self.unexplained.iter().next() {
            return Err(stop(Verdict::Tampered, Some(seq), LedgerFault::Unexplained));
        }
        if let Some(seq) = self.explained_unsigned.iter().next() {
            return Err(stop(Verdict::Incomplete, Some(seq), LedgerFault::ExplainedUnsigned));
        }
        Ok(())
    }
}

fn events(reason: &impl ToString) -> LedgerFault {
    LedgerFault::Events(reason.to_string())
}

fn of_events(seq: u64, reason: &Reason) -> Stop {
    stop(Verdict::Tampered, Some(seq), events(reason))
}
