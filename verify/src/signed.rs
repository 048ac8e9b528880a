//! A checkpoint, and who speaks for it: section 10.5, step 3.

use stella_domain::{
    checkpoint::{Checkpoint, Note},
    ids::LedgerId,
    time::Timestamp,
};

use crate::{
    trust::Trust,
    verdict::{Fault, Signed, Verdict, Witness},
};

/// Why nobody who is trusted speaks for it.
pub(crate) struct Unsigned {
    pub(crate) verdict: Verdict,
    pub(crate) fault: Fault,
}

fn unsigned(verdict: Verdict) -> impl Fn(Fault) -> Unsigned {
    move |fault| Unsigned { verdict, fault }
}

/// The checkpoint of a note that a pinned key signed, and enough witnesses.
pub(crate) fn check(note: &[u8], trust: &Trust) -> Result<(Checkpoint, Signed), Unsigned> {
    let (tampered, untrusted) = (unsigned(Verdict::Tampered), unsigned(Verdict::Untrusted));
    let text = std::str::from_utf8(note).map_err(|_| tampered(Fault::CheckpointText))?;
    let note = Note::parse(text).map_err(|error| tampered(error.into()))?;
    let key = note.signed_by(trust.keys()).map_err(|error| untrusted(error.into()))?;
    let (witnesses, needed) = trust.witness_keys();
    let cosigned = note.cosigned_by(witnesses).map_err(|error| untrusted(error.into()))?;
    if cosigned.len() < needed {
        return Err(untrusted(Fault::Witnesses { found: cosigned.len(), needed }));
    }
    let checkpoint = note.checkpoint().clone();
    let time = |seconds: u64| {
        let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Timestamp::from_micros(micros)
    };
    let signed = Signed {
        tree_size: checkpoint.size,
        root: checkpoint.root,
        signed_by: key.to_string(),
        witnesses: cosigned
            .into_iter()
            .map(|found| Witness { name: found.witness, time: time(found.unix_seconds) })
            .collect(),
    };
    Ok((checkpoint, signed))
}

/// The older checkpoint that the verifier brought along: it has to be of this ledger, and signed by a
/// pinned key.
pub(crate) fn since(trust: &Trust, ledger: &LedgerId) -> Result<Option<Checkpoint>, Unsigned> {
    let Some(text) = trust.since_note() else { return Ok(None) };
    let untrusted = unsigned(Verdict::Untrusted);
    let note = Note::parse(text).map_err(|error| untrusted(Fault::Since(error)))?;
    note.signed_by(trust.keys()).map_err(|error| untrusted(Fault::Since(error)))?;
    let older = note.checkpoint().clone();
    if older.ledger != *ledger {
        return Err(untrusted(Fault::SinceLedger { found: older.ledger.to_string() }));
    }
    Ok(Some(older))
}

/// In which member a checkpoint is another one than is claimed.
pub(crate) fn differs(
    checkpoint: &Checkpoint,
    ledger: &LedgerId,
    tree_size: u64,
) -> Option<&'static str> {
    let same =
        [(checkpoint.ledger == *ledger, "ledger"), (checkpoint.size == tree_size, "treeSize")];
    same.iter().find(|(same, _)| !same).map(|(_, member)| *member)
}
