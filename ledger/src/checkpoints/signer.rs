//! The signer of one tenant's ledger: follows the events, keeps the tree's edge, stores tiles,
//! signs, keeps the newest note outside the database, and checks what it finds on the way.
//!
//! What it does costs as much as there are new events; a start reads at most 256 of those that
//! were signed before. The first checkpoint of a ledger is always that of its first event: nodes
//! with different keys that start at the same time race for that one place, and the key that got
//! it is the ledger's.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stella_domain::{
    chain::{Commit, Head},
    checkpoint::{Checkpoint, Keyring, SigningKeyRotated, VerifierKey},
    event::{Event, LedgerEvent},
    ids::{LedgerId, StreamId},
    merkle::{Edge, Tile},
};
use tokio::sync::{Mutex, RwLock};

use super::{
    ProofError, SignerError,
    cosigners::Cosigners,
    gate::Gate,
    kept::Kept,
    keys::{self, KeyHistory, NodeKeys},
    observer::{Observer, Seen, every_so_often},
    proofs::{Noted, Proofs},
    store::StoredNote,
};
use crate::{
    port::{LedgerError, READ_LIMIT},
    recorded::UndecodableEvent,
    snapshots::Snapshots,
    uri::Storage,
};

/// Events after which a checkpoint is signed on the way, where a long ledger has none yet: what an
/// interrupted first pass does not have to do again.
const SIGNED_ON_THE_WAY: u64 = 1 << 20;

/// What a signer needs to know.
pub struct SignerConfig {
    /// The ledger's name, which is also the key's.
    pub ledger: LedgerId,
    /// The keys that it may sign with.
    pub keys: NodeKeys,
    /// Whether the key was drawn for this node and not given to it: then another key that is the
    /// ledger's is no mistake of anybody, and this node leaves the signing to its holder.
    pub key_is_drawn: bool,
    /// Where the newest note is kept outside the database.
    pub kept: Kept,
    /// Where a node with a drawn key remembers the newest note that it saw, while another signs.
    pub seen: PathBuf,
    /// Who cosigns, if somebody does.
    pub cosigners: Option<Arc<dyn Cosigners>>,
    /// Where the fold of the ledger's own stream is kept.
    pub snapshots: Arc<dyn Snapshots>,
}

/// What this node is to the ledger.
pub enum Opened {
    /// It signs.
    Signing(Arc<Signer>),
    /// Another node's key signs.
    Observing(Arc<Observer>),
}

/// Signs one tenant's ledger.
pub struct Signer {
    config: SignerConfig,
    own: VerifierKey,
    storage: Storage,
    proofs: Arc<Proofs>,
    gate: Arc<Gate>,
    state: Mutex<State>,
    shown: RwLock<Shown>,
}

/// What others may ask for while signing is under way.
#[derive(Default)]
struct Shown {
    pinned: Keyring,
    signed: Option<Noted>,
}

/// What was read and signed so far. It changes when what it says is durable.
#[derive(Clone, Default)]
struct State {
    edge: Edge,
    /// The event that the edge ends with.
    head: Option<Head>,
    history: KeyHistory,
    signed: Option<Noted>,
}

impl Signer {
    /// Check that the ledger extends what was signed, and go on from there.
    ///
    /// # Errors
    /// [`SignerError`]; nothing must be written to the ledger then.
    pub async fn open(
        config: SignerConfig,
        storage: Storage,
        proofs: Arc<Proofs>,
        gate: Arc<Gate>,
    ) -> Result<Opened, SignerError> {
        let own = VerifierKey::new(config.ledger.clone(), &config.keys.given);
        let (state, shown) = (Mutex::default(), RwLock::default());
        let signer = Self { config, own, storage, proofs, gate, state, shown };
        let seen = Seen {
            ledger: signer.config.ledger.clone(),
            storage: signer.storage.clone(),
            proofs: Arc::clone(&signer.proofs),
            path: signer.config.seen.clone(),
        };
        match signer.checked().await {
            Ok(state) => {
                // It may have been another's to sign until now.
                seen.compare().await?;
                signer.show(&state).await;
                *signer.state.lock().await = state;
                Ok(Opened::Signing(Arc::new(signer)))
            }
            // One that has kept a checkpoint has signed: then it is a mistake, or worse.
            Err(error @ (SignerError::Foreign { .. } | SignerError::KeyMissing { .. }))
                if signer.config.key_is_drawn && signer.config.kept.is_empty() =>
            {
                let observer = Observer { seen, gate: signer.gate, why: error.to_string() };
                observer.look().await?;
                Ok(Opened::Observing(Arc::new(observer)))
            }
            Err(error) => Err(error),
        }
    }

    /// What auditors pin: each key with the sizes of tree that it may sign.
    pub async fn pinned(&self) -> Keyring {
        self.shown.read().await.pinned.clone()
    }

    /// The newest checkpoint that this node has signed or found.
    pub async fn signed(&self) -> Option<Noted> {
        self.shown.read().await.signed.clone()
    }

    async fn show(&self, state: &State) {
        let (pinned, signed) = (state.history.keyring(&self.own), state.signed.clone());
        *self.shown.write().await = Shown { pinned, signed };
    }

    /// Sign what is new, until told to stop.
    pub async fn run(&self, every: Duration, stop: impl Future<Output = ()> + Send) {
        // What went wrong was told to the gate, and is tried again.
        every_so_often(every, stop, || async { drop(self.sign_new().await) }).await;
    }

    /// Sign what was recorded since the newest checkpoint; `None` while the ledger is empty.
    ///
    /// # Errors
    /// [`SignerError`]; the gate has learned of it.
    pub async fn sign_new(&self) -> Result<Option<Noted>, SignerError> {
        let mut state = self.state.lock().await;
        let outcome = self.advance(&mut state).await;
        self.show(&state).await;
        self.gate.learn(outcome.as_ref().map(drop));
        outcome.map(|()| state.signed.clone())
    }

    /// The rotation to the key in the file for the next one, signed by both; to be recorded.
    ///
    /// # Errors
    /// [`SignerError::KeyMissing`] when there is another key than `wanted` in it.
    pub async fn rotation_to(
        &self,
        wanted: &VerifierKey,
    ) -> Result<SigningKeyRotated, SignerError> {
        let state = self.state.lock().await;
        let current = state.history.newest().map_or(&self.own, |(key, _)| key);
        let missing = |key: &VerifierKey| SignerError::KeyMissing {
            wanted: Box::new(key.clone()),
            seq: state.edge.size(),
        };
        let old = self.config.keys.find(current)?.ok_or_else(|| missing(current))?;
        let new = keys::read(&self.config.keys.next)?;
        let rotation = SigningKeyRotated::sign(&self.config.ledger, &old, &new);
        if rotation.new_key != *wanted {
            return Err(missing(wanted));
        }
        Ok(rotation)
    }

    /// The state to go on from, once everything that was signed is found to be as it was.
    async fn checked(&self) -> Result<State, SignerError> {
        let SignerConfig { ledger: id, keys, kept, snapshots, .. } = &self.config;
        let history = KeyHistory::read(&*self.storage.ledger, &**snapshots, id).await?;
        if let Some((wanted, seq)) = history.newest()
            && keys.find(wanted)?.is_none()
        {
            return Err(SignerError::KeyMissing { wanted: Box::new(wanted.clone()), seq });
        }
        let keyring = history.keyring(&self.own);
        let kept = kept.load(&keyring)?;
        let stored = self.storage.checkpoints.newest_note(&id.tenant).await?;
        let stored = stored.map(|note| self.verified(note, &keyring)).transpose()?;
        let events = self.storage.ledger.head(&id.tenant).await?.next_seq;
        for Noted { checkpoint, .. } in [&kept, &stored].into_iter().flatten() {
            if checkpoint.size > events {
                let (ledger, size) = (id.clone(), checkpoint.size);
                return Err(SignerError::Shorter { ledger, events, size });
            }
        }
        let mut state = State { history, ..State::default() };
        if let Some(stored) = stored {
            state.edge = (*self.proofs.edge(&stored.checkpoint).await?).clone();
            state.head = self.head_at(stored.checkpoint.size).await?;
            state.signed = Some(stored);
        }
        if let Some(kept) = kept {
            self.check_kept(&mut state, kept).await?;
        }
        Ok(state)
    }

    /// Check that the ledger extends what was kept, and that what is stored does.
    async fn check_kept(&self, state: &mut State, kept: Noted) -> Result<(), SignerError> {
        let Checkpoint { ledger, size, root } = &kept.checkpoint;
        let forked = || SignerError::Forked {
            ledger: ledger.clone(),
            size: *size,
            place: "that is kept outside the database".to_owned(),
        };
        let found = match &state.signed {
            Some(stored) if stored.checkpoint.size >= *size => {
                self.proofs.consistency(&stored.checkpoint, *size).await?.0
            }
            // It was kept, and then the node stopped; or the database lost it.
            Some(_) | None => {
                self.extend(state, *size).await?;
                let found = state.edge.root();
                if found == *root {
                    let store = &self.storage.checkpoints;
                    store.insert_note(&ledger.tenant, *size, &kept.note).await?;
                    state.signed = Some(kept.clone());
                }
                found
            }
        };
        if found == *root { Ok(()) } else { Err(forked()) }
    }

    fn verified(&self, note: StoredNote, keyring: &Keyring) -> Result<Noted, SignerError> {
        let StoredNote { size, note } = note;
        match keyring.verify(&note) {
            Ok(checkpoint) if checkpoint.size == size => Ok(Noted { checkpoint, note }),
            Ok(_) => {
                let (ledger, place) = (self.config.ledger.clone(), "under another size".to_owned());
                Err(SignerError::Forked { ledger, size, place })
            }
            Err(reason) => {
                Err(SignerError::Foreign { size, own: Box::new(self.own.clone()), reason })
            }
        }
    }

    async fn head_at(&self, size: u64) -> Result<Option<Head>, LedgerError> {
        let Some(last) = size.checked_sub(1) else { return Ok(None) };
        let commits = self.storage.ledger.read(&self.config.ledger.tenant, last, 1).await?;
        Ok(commits.first().and_then(|commit| {
            let event = commit.events.get(usize::try_from(last.checked_sub(commit.seq)?).ok()?)?;
            Some(Head { next_seq: size, hash: event.hash, recorded_at: commit.recorded_at })
        }))
    }

    async fn advance(&self, state: &mut State) -> Result<(), SignerError> {
        let id = &self.config.ledger;
        let head = self.storage.ledger.head(&id.tenant).await?;
        self.check_head(state, &head)?;
        if state.signed.is_none() && head.next_seq > 0 && state.edge.size() == 0 {
            self.extend(state, 1).await?;
            self.sign(state, head.next_seq).await?;
        }
        while state.edge.size() < head.next_seq {
            let before = state.edge.size();
            self.extend(state, head.next_seq.min(before + SIGNED_ON_THE_WAY)).await?;
            if state.edge.size() == before {
                return Err(self.contradiction(head.next_seq).into());
            }
            self.sign(state, head.next_seq).await?;
        }
        let signed = state.signed.as_ref().map(|signed| signed.checkpoint.size);
        if head.next_seq > 0 && signed != Some(state.edge.size()) {
            self.sign(state, head.next_seq).await?;
        }
        Ok(())
    }

    /// Also where nothing is new: a ledger at rest can be written anew.
    fn check_head(&self, state: &State, head: &Head) -> Result<(), SignerError> {
        let size = state.edge.size();
        if head.next_seq < size {
            let (ledger, events) = (self.config.ledger.clone(), head.next_seq);
            return Err(SignerError::Shorter { ledger, events, size });
        }
        match &state.head {
            Some(last) if head.next_seq == size && head.hash != last.hash => {
                Err(self.contradiction(size).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn contradiction(&self, size: u64) -> ProofError {
        ProofError::Contradiction { ledger: self.config.ledger.clone(), size }
    }

    /// Read on until the tree has `to` events, or the ledger ends.
    async fn extend(&self, state: &mut State, to: u64) -> Result<(), SignerError> {
        let Storage { ledger, checkpoints } = &self.storage;
        let tenant = &self.config.ledger.tenant;
        while state.edge.size() < to {
            let at = state.edge.size();
            // A commit has at least one event.
            let limit = usize::try_from(to - at).unwrap_or(READ_LIMIT).min(READ_LIMIT);
            let commits = ledger.read(tenant, at, limit).await?;
            let (mut next, mut whole) = (state.clone(), vec![]);
            for commit in &commits {
                // `to` may lie within a commit.
                if next.edge.size() == to {
                    break;
                }
                self.take(&mut next, commit, to, &mut whole)?;
            }
            if next.edge.size() == at {
                return Ok(());
            }
            checkpoints.insert_tiles(tenant, &whole).await?;
            *state = next;
        }
        Ok(())
    }

    /// The events of `commit` that come next, before `to`.
    fn take(
        &self,
        state: &mut State,
        commit: &Commit,
        to: u64,
        whole: &mut Vec<Tile>,
    ) -> Result<(), SignerError> {
        let id = &self.config.ledger;
        if *commit.ledger != *id {
            let (found, expected) = ((*commit.ledger).clone(), id.clone());
            return Err(SignerError::OtherLedger { seq: commit.seq, found, expected });
        }
        let at = state.edge.size();
        // One that begins before was followed to its place when that part was taken.
        if commit.seq >= at {
            commit
                .verify_follows(&state.head.unwrap_or(Head::EMPTY))
                .map_err(|source| LedgerError::Damaged { tenant: id.tenant.clone(), source })?;
        }
        for (seq, event) in (commit.seq..to).zip(&commit.events).skip_while(|(seq, _)| *seq < at) {
            if matches!(commit.stream, StreamId::Ledger(_)) {
                let decoded = Event::decode(&commit.stream, event)
                    .map_err(|reason| LedgerError::from(UndecodableEvent { seq, reason }))?;
                if let Event::Ledger(LedgerEvent::SigningKeyRotated(rotation)) = decoded {
                    state.history.push(id, seq, *rotation)?;
                }
            }
            state.edge.append(&event.hash, whole);
            let (next_seq, recorded_at) = (seq + 1, commit.recorded_at);
            state.head = Some(Head { next_seq, hash: event.hash, recorded_at });
        }
        Ok(())
    }

    /// Sign the tree as it stands, in a ledger of `events`.
    async fn sign(&self, state: &mut State, events: u64) -> Result<(), SignerError> {
        let (ledger, size) = (self.config.ledger.clone(), state.edge.size());
        let checkpoint = Checkpoint { ledger, size, root: state.edge.root() };
        let (wanted, since) = state.history.signer_of(size).unwrap_or((&self.own, 0));
        let Some(key) = self.config.keys.find(wanted)? else {
            // An old ledger whose first checkpoints are to be made again, by a key that has gone.
            if size < events {
                return Ok(());
            }
            let wanted = Box::new(wanted.clone());
            return Err(SignerError::KeyMissing { wanted, seq: since });
        };
        let note = checkpoint.sign(&key);
        let mut signed = Noted { checkpoint, note };
        if let Some(cosigners) = &self.config.cosigners {
            let cosigned = cosigners.cosign(&signed, &self.proofs).await;
            self.gate.learn_of_witnesses(cosigned.findings);
            signed.note = cosigned.note;
        }
        let (store, tenant) = (&self.storage.checkpoints, &self.config.ledger.tenant);
        // The first one claims the ledger for its key: kept only once it is known to have won.
        if state.signed.is_some() {
            self.config.kept.store(&signed.note).await?;
        }
        if !store.insert_note(tenant, size, &signed.note).await? {
            signed = self.agreeing(&signed, &state.history).await?;
        }
        self.config.kept.store(&signed.note).await?;
        state.signed = Some(signed);
        Ok(())
    }

    /// The note that another node stored, which has to say the same.
    async fn agreeing(&self, signed: &Noted, history: &KeyHistory) -> Result<Noted, SignerError> {
        let Checkpoint { ledger, size, root } = &signed.checkpoint;
        let found = self.storage.checkpoints.note_of(&ledger.tenant, *size).await?;
        let Some(found) = found else {
            let reason = "it takes no checkpoint, and has none".to_owned();
            return Err(LedgerError::Unavailable(reason).into());
        };
        let found = self.verified(found, &history.keyring(&self.own))?;
        if found.checkpoint.root == *root {
            return Ok(found);
        }
        let place = format!("that another node signed ({:?})", found.note);
        Err(SignerError::Forked { ledger: ledger.clone(), size: *size, place })
    }
}
