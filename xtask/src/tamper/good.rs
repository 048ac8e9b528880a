//! Bundles that hold, and the auditor's ways of asking for more.

use stella_domain::{
    checkpoint::{VerifierKey, WitnessKey},
    time::Timestamp,
};

use super::{
    bundle::{Bundle, checkpoint, key},
    case::{Case, pinned},
    ledger::{Ledger, time},
};
use crate::Failure;

pub(super) const ACME: &str = "stella.example/acme";
/// Events 8 to 17: the second and the third run.
pub(super) const FIRST: u64 = 8;
pub(super) const END: u64 = 18;
/// Tree size of the checkpoint, and of an older one.
pub(super) const SIZE: usize = 24;
pub(super) const OLDER: usize = 11;
/// Payloads in the window that are erased where any are.
pub(super) const ERASED: [u64; 2] = [8, 11];

pub(super) type Expected = (&'static str, Option<u64>);
pub(super) const VERIFIED: Expected = ("VERIFIED", None);
pub(super) const UNTRUSTED: Expected = ("UNTRUSTED", None);

pub(super) fn tampered(seq: u64) -> Expected {
    ("TAMPERED", Some(seq))
}

pub(super) fn incomplete(seq: u64) -> Expected {
    ("INCOMPLETE", Some(seq))
}

pub(super) const TAMPERED: Expected = ("TAMPERED", None);
pub(super) const INCOMPLETE: Expected = ("INCOMPLETE", None);

pub(super) fn window() -> (Timestamp, Timestamp) {
    (time(5), time(11))
}

pub(super) fn ledger() -> Result<Ledger, Failure> {
    Ledger::of(ACME, "as told", &[], &ERASED)
}

pub(super) fn good() -> Result<Bundle, Failure> {
    Bundle::of(&ledger()?, window(), SIZE)
}

/// The window with erased payloads, which a `DataErased` names.
pub(super) fn erased() -> Result<Bundle, Failure> {
    Bundle::of(&Ledger::of(ACME, "as told", &ERASED, &ERASED)?, window(), SIZE)
}

/// Three witnesses' keys, and the bundle's checkpoint cosigned by the first two.
pub(super) fn witnessed() -> Result<(Bundle, Vec<WitnessKey>), Failure> {
    let mut bundle = good()?;
    let mut keys = vec![];
    let checkpoint = checkpoint(&ledger()?, SIZE);
    for (seed, name) in [(7, "w1.example"), (8, "w2.example"), (9, "w3.example")] {
        keys.push(WitnessKey::new(name, &key(seed))?);
        if seed < 9 {
            bundle.checkpoint += &checkpoint.cosign(name, 1_795_424_500, &key(seed))?;
        }
    }
    bundle.digest();
    Ok((bundle, keys))
}

/// A case whose files are described as they are after the edit.
pub(super) fn case(
    name: &'static str,
    expected: Expected,
    edit: impl FnOnce(&mut Bundle),
) -> Result<Case, Failure> {
    let mut bundle = good()?;
    edit(&mut bundle);
    bundle.digest();
    Case::new(name, expected, &bundle)
}

pub(super) fn cases() -> Result<Vec<Case>, Failure> {
    let ledger = ledger()?;
    let (witnessed, witnesses) = witnessed()?;
    let of = |from, to| Bundle::of(&ledger, (time(from), time(to)), SIZE);
    let older = checkpoint(&ledger, OLDER).sign(&key(1));
    let nothing = checkpoint(&ledger, 0).sign(&key(1));
    let whole = checkpoint(&ledger, SIZE).sign(&key(1));
    // A newer key signed as well; the old one may sign up to here.
    let newer = checkpoint(&ledger, SIZE).sign(&key(2));
    let mut rotated = good()?;
    rotated.checkpoint += &newer[newer.find('—').unwrap_or(0)..];
    rotated.digest();
    let new_key = VerifierKey::new(ledger.id.clone(), &key(2));
    let between = Timestamp::from_micros(time(10).as_micros() + 1);
    Ok(vec![
        Case::new("good", VERIFIED, &good()?)?,
        Case::new("good_from_the_start", VERIFIED, &of(0, 5)?)?,
        Case::new("good_empty", VERIFIED, &Bundle::of(&ledger, (between, time(11)), SIZE)?)?,
        Case::new(
            "good_empty_without_duration",
            VERIFIED,
            &Bundle::of(&ledger, (between, between), SIZE)?,
        )?,
        Case::new("good_erased", ("VERIFIED_WITH_ERASURES", None), &erased()?)?,
        Case::new("good_since", VERIFIED, &good()?.consistent_with(&ledger, OLDER)?)?.since(older),
        Case::new("good_since_the_same", VERIFIED, &good()?)?.since(whole),
        Case::new("good_since_nothing", VERIFIED, &good()?)?.since(nothing),
        Case::new("good_unasked_consistency", VERIFIED, &good()?.consistent_with(&ledger, OLDER)?)?,
        Case::new("good_witnessed", VERIFIED, &witnessed)?.witnesses(&witnesses, 2),
        Case::new("good_witnesses_unasked", VERIFIED, &witnessed)?,
        Case::new("good_key_in_range", VERIFIED, &good()?)?
            .keys(&[format!("{}@{SIZE}-{SIZE}", pinned()?)]),
        Case::new("good_rotated_key", VERIFIED, &rotated)?
            .keys(&[format!("{}@0-{}", pinned()?, SIZE - 1), format!("{new_key}@{SIZE}-")]),
        Case::new("good_several", VERIFIED, &of(0, 5)?)?.and(&good()?).and(&of(11, 12)?),
    ])
}
