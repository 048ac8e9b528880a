//! What an auditor brings along: everything that a verdict rests on beside the bundle.

use stella_domain::checkpoint::{PinnedKey, WitnessKey};

/// Pinned keys, and what else is asked of a bundle.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<PinnedKey>,
    since: Option<String>,
    witnesses: Vec<WitnessKey>,
    witnesses_needed: usize,
}

impl Trust {
    /// Trust what these keys sign, each within its range.
    pub fn new(keys: Vec<PinnedKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Ask that the bundle's checkpoint extends this older one, which the auditor holds: the text of
    /// the signed note.
    pub fn since(mut self, note: impl Into<String>) -> Self {
        self.since = Some(note.into());
        self
    }

    /// Ask that at least `needed` of these witnesses cosigned the checkpoint. Each counts once.
    pub fn witnesses(mut self, witnesses: Vec<WitnessKey>, needed: usize) -> Self {
        self.witnesses.clear();
        for witness in witnesses {
            if !self.witnesses.contains(&witness) {
                self.witnesses.push(witness);
            }
        }
        self.witnesses_needed = needed;
        self
    }

    pub(crate) fn keys(&self) -> &[PinnedKey] {
        &self.keys
    }

    pub(crate) fn since_note(&self) -> Option<&str> {
        self.since.as_deref()
    }

    pub(crate) fn witness_keys(&self) -> (&[WitnessKey], usize) {
        (&self.witnesses, self.witnesses_needed)
    }
}
