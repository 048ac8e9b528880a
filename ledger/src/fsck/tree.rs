//! The Merkle tree that the events lead to, and what is stored of it.

use std::sync::Arc;

use stella_domain::{
    chain::Commit,
    checkpoint::{Checkpoint, Keyring, Note},
    ids::Tenant,
    merkle::{Edge, Tile},
};

use super::Report;
use crate::{
    checkpoints::store::{CheckpointStore, StoredNote},
    port::LedgerError,
};

/// Follows the tree; compares tiles and checkpoints when it has grown to them.
pub(super) struct TreeCheck<'a> {
    store: &'a Arc<dyn CheckpointStore>,
    tenant: &'a Tenant,
    keys: Option<&'a Keyring>,
    /// `None` once events are missing: no root can be computed from there on.
    edge: Option<Edge>,
    /// The next checkpoint.
    note: Option<StoredNote>,
    /// Events in the newest one: tiles up to there are stored.
    signed: u64,
}

impl<'a> TreeCheck<'a> {
    pub(super) async fn begin(
        store: &'a Arc<dyn CheckpointStore>,
        tenant: &'a Tenant,
        keys: Option<&'a Keyring>,
        report: &mut Report,
    ) -> Result<Self, LedgerError> {
        let edge = Some(Edge::default());
        let mut check = Self { store, tenant, keys, edge, note: None, signed: 0 };
        let newest = noted(store.newest_note(tenant).await, report)?;
        check.signed = newest.map_or(0, |note| note.size);
        check.note = noted(store.note_from(tenant, 0).await, report)?;
        Ok(check)
    }

    /// The events of the next commit that can be read.
    pub(super) async fn take(
        &mut self,
        commit: &Commit,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        let mut whole = vec![];
        for (seq, event) in (commit.seq..).zip(&commit.events) {
            let Some(edge) = self.edge.as_mut().filter(|edge| edge.size() == seq) else {
                self.interrupted(report);
                break;
            };
            edge.append(&event.hash, &mut whole);
            let size = edge.size();
            while let Some(note) = self.note.take_if(|note| note.size <= size) {
                self.compare(&note, report);
                let next = self.store.note_from(self.tenant, note.size.saturating_add(1)).await;
                self.note = noted(next, report)?;
            }
        }
        for tile in whole {
            self.tile(&tile, report).await?;
        }
        Ok(())
    }

    /// There are events here that cannot be read, or none at all.
    pub(super) fn interrupted(&mut self, report: &mut Report) {
        let Some(edge) = self.edge.take() else { return };
        let is_compared = self.note.is_some() || self.signed > edge.size();
        if is_compared {
            let message = "from here on no tiles and checkpoints can be compared with the events";
            report.add("TREE_INTERRUPTED", Some(edge.size()), message);
        }
    }

    /// The ledger ends here.
    pub(super) async fn end(mut self, report: &mut Report) -> Result<(), LedgerError> {
        let Some(edge) = self.edge.take() else { return Ok(()) };
        while let Some(note) = self.note.take() {
            let message = format!(
                "a checkpoint of {} events is stored, and the ledger ends after {}: its end was \
                 cut off, or an older backup was restored",
                note.size,
                edge.size()
            );
            report.add("CHECKPOINT_BEYOND_END", Some(edge.size()), message);
            let next = self.store.note_from(self.tenant, note.size.saturating_add(1)).await;
            self.note = noted(next, report)?;
        }
        Ok(())
    }

    /// A checkpoint of as many events as the tree has.
    fn compare(&self, note: &StoredNote, report: &mut Report) {
        report.checkpoints += 1;
        let (seq, size) = (note.size.checked_sub(1), note.size);
        let checkpoint = match Note::parse(&note.note) {
            Ok(parsed) => parsed.checkpoint().clone(),
            Err(error) => {
                let message = format!("the checkpoint stored of {size} events: {error}");
                return report.add("CHECKPOINT_UNREADABLE", seq, message);
            }
        };
        if let Some(Err(error)) = self.keys.map(|keys| keys.verify(&note.note)) {
            let message = format!("the checkpoint stored of {size} events: {error}");
            report.add("CHECKPOINT_NOT_SIGNED", seq, message);
        }
        let Checkpoint { ledger, size: stated, root } = checkpoint;
        let computed = self.edge.as_ref().map(Edge::root);
        let is_own = report.ledger.as_ref().is_none_or(|name| *name == ledger.to_string());
        if stated != size || computed != Some(root) || !is_own || ledger.tenant != *self.tenant {
            let message = format!(
                "the checkpoint stored of {size} events states {stated} of {ledger} with the root \
                 {root}, to which these events do not lead: they, or it, are not what was signed"
            );
            report.add("CHECKPOINT_CONTRADICTS", seq, message);
        }
    }

    async fn tile(&self, tile: &Tile, report: &mut Report) -> Result<(), LedgerError> {
        let (first, count) = tile.id.leaves();
        if first.saturating_add(count) > self.signed {
            return Ok(());
        }
        report.tiles += 1;
        let (level, index) = (tile.id.level, tile.id.index);
        let stored = self.store.tile_roots(self.tenant, level, index..index + 1).await?;
        let (code, what) = match stored.first() {
            Some(root) if *root == tile.root => return Ok(()),
            Some(_) => ("TILE_WRONG", "is not the one that these events lead to"),
            None => ("TILE_MISSING", "is missing, or is no hash"),
        };
        let message = format!("the stored tile {level}/{index} {what}; it is computed when needed");
        report.add(code, Some(first), message);
        Ok(())
    }
}

/// A note that was read; one that is none ends the row of them.
fn noted(
    read: Result<Option<StoredNote>, LedgerError>,
    report: &mut Report,
) -> Result<Option<StoredNote>, LedgerError> {
    match read {
        Err(error @ LedgerError::Malformed { .. }) => {
            report.add("CHECKPOINT_UNREADABLE", None, error.to_string());
            Ok(None)
        }
        read => read,
    }
}
