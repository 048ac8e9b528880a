//! A node that leaves the signing to another. It knows no key that speaks for the ledger, so it cannot
//! tell whether a note is genuine; but it remembers the newest that it saw, outside the database, and
//! nothing is written on a ledger that does not extend it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stella_domain::{
    checkpoint::{CheckpointError, Note},
    ids::LedgerId,
};

use super::{
    ProofError, SignerError,
    gate::Gate,
    kept::{self, Kept},
    proofs::{Noted, Proofs},
};
use crate::uri::Storage;

/// Watches one tenant's ledger, which another node signs.
pub struct Observer {
    pub(super) seen: Seen,
    pub(super) gate: Arc<Gate>,
    /// Why this node does not sign.
    pub(super) why: String,
}

/// Do `work` now and every so often, until told to stop.
pub(super) async fn every_so_often<W: Future<Output = ()>>(
    every: Duration,
    stop: impl Future<Output = ()>,
    work: impl Fn() -> W,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => work().await,
        }
    }
}

impl Observer {
    /// Why this node does not sign.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Look what is signed, until told to stop.
    pub async fn run(&self, every: Duration, stop: impl Future<Output = ()> + Send) {
        // What went wrong was told to the gate, and is tried again.
        every_so_often(every, stop, || async { drop(self.look().await) }).await;
    }

    /// Check that the ledger extends what was signed when this node last looked, and remember what is
    /// signed now.
    ///
    /// # Errors
    /// [`SignerError`]; the gate has learned of it.
    pub async fn look(&self) -> Result<(), SignerError> {
        let outcome = self.seen.compare_and_remember().await;
        match &outcome {
            // It is looked at again; whoever needs the ledger meanwhile says what is wrong.
            Err(error) if error.closes_the_ledger().is_none() => {
                tracing::debug!("what is signed could not be looked at: {error}");
            }
            outcome => self.gate.learn(outcome.as_ref().copied()),
        }
        outcome
    }
}

/// The newest note that a node saw in the ledger's storage.
pub(super) struct Seen {
    pub(super) ledger: LedgerId,
    pub(super) storage: Storage,
    pub(super) proofs: Arc<Proofs>,
    /// Where it is remembered.
    pub(super) path: PathBuf,
}

impl Seen {
    /// Check that the ledger extends what this node saw.
    pub(super) async fn compare(&self) -> Result<(), SignerError> {
        // Nearly every node has signed from its beginning.
        if self.path.exists() { self.compared().await.map(drop) } else { Ok(()) }
    }

    async fn compare_and_remember(&self) -> Result<(), SignerError> {
        match self.compared().await? {
            Some(newer) => Kept::new(vec![self.path.clone()]).store(&newer.note).await,
            None => Ok(()),
        }
    }

    /// Compare what was seen with what is stored; answers a note that is newer than what was seen.
    async fn compared(&self) -> Result<Option<Noted>, SignerError> {
        let Self { ledger, storage, proofs, path } = self;
        let unreadable = |reason: CheckpointError| SignerError::Kept {
            path: path.clone(),
            reason: reason.to_string(),
        };
        let seen =
            kept::read_note(path)?.map(|note| noted(note).map_err(unreadable)).transpose()?;
        let stored = match storage.checkpoints.newest_note(&ledger.tenant).await? {
            Some(found) => {
                let wrong = |reason| ProofError::Note { size: found.size, reason };
                Some(noted(found.note).map_err(wrong)?)
            }
            None => None,
        };
        let events = storage.ledger.head(&ledger.tenant).await?.next_seq;
        for Noted { checkpoint, .. } in [&seen, &stored].into_iter().flatten() {
            if checkpoint.size > events {
                let (ledger, size) = (ledger.clone(), checkpoint.size);
                return Err(SignerError::Shorter { ledger, events, size });
            }
        }
        let Some(seen) = seen else { return Ok(stored) };
        let stored = stored.map(|stored| (stored.checkpoint.size >= seen.checkpoint.size, stored));
        let (newest, older) = match &stored {
            Some((true, stored)) => (&stored.checkpoint, &seen.checkpoint),
            Some((false, stored)) => (&seen.checkpoint, &stored.checkpoint),
            None => (&seen.checkpoint, &seen.checkpoint),
        };
        if proofs.consistency(newest, older.size).await?.0 != older.root {
            let place = "that this node saw".to_owned();
            return Err(SignerError::Forked { ledger: ledger.clone(), size: older.size, place });
        }
        let newer = stored.map(|(_, stored)| stored);
        Ok(newer.filter(|newer| newer.checkpoint.size > seen.checkpoint.size))
    }
}

fn noted(note: String) -> Result<Noted, CheckpointError> {
    let checkpoint = Note::parse(&note)?.checkpoint().clone();
    Ok(Noted { checkpoint, note })
}
