//! What a witness cosigns, and what not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::Checkpoint,
    merkle::{Frontier, NodeSource, Subtree, consistency_proof},
};

const ORIGIN: &str = "stella.example/acme";

/// A tree from its leaves: slow, and obviously right.
struct Naive(Vec<Hash32>);

impl Naive {
    /// `size` events; from event `fork` on they are another history's.
    fn new(size: u64, fork: u64, history: u8) -> Self {
        let event = |n: u64| {
            let which = if n < fork { 0 } else { history };
            let mut bytes = [which; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Hash32::from(bytes)
        };
        Self((0..size).map(event).collect())
    }

    fn root(&self) -> Hash32 {
        merkle::root(&self.0)
    }

    fn note(&self, key: &SigningKey) -> String {
        let ledger = ORIGIN.parse().unwrap();
        Checkpoint { ledger, size: self.0.len() as u64, root: self.root() }.sign(key)
    }

    fn seen(&self) -> Seen {
        Seen { size: self.0.len() as u64, root: self.root() }
    }

    /// Put before a witness by whoever believes that it saw `old` events of this history.
    fn submission(&self, old: u64) -> Submission {
        let proof = consistency_proof(self, old, self.0.len() as u64).unwrap();
        Submission { old_size: old, proof, note: self.note(&signing_key(1)) }
    }
}

impl NodeSource for Naive {
    fn root_of(&self, subtree: Subtree) -> Option<Hash32> {
        let leaves = subtree.leaves();
        let mut frontier = Frontier::default();
        self.0
            .get(leaves.start as usize..leaves.end as usize)?
            .iter()
            .for_each(|hash| frontier.append(hash));
        Some(frontier.root())
    }
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn log_key(seed: u8) -> LogKey {
    crate::checkpoint::VerifierKey::new(ORIGIN.parse().unwrap(), &signing_key(seed))
        .to_string()
        .parse()
        .unwrap()
}

proptest! {
    /// Whatever extends what was cosigned is cosigned; whatever does not is not, and a fork that
    /// shows itself is called one.
    #[test]
    fn exactly_what_extends_is_cosigned(
        seen in 0_u64..70, more in 0_u64..70, fork in 0_u64..140, history in 0_u8..2,
    ) {
        let (cosigned, next) = (Naive::new(seen, fork, 0), Naive::new(seen + more, fork, history));
        let extends = history == 0 || fork >= seen;
        let verdict = next.submission(seen).judge(&[log_key(1)], cosigned.seen());
        match verdict {
            Ok(approved) => {
                prop_assert!(extends);
                prop_assert_eq!(approved.seen, next.seen());
                prop_assert_eq!(approved.note, next.note(&signing_key(1)));
            }
            Err(WitnessRefusal::Fork { .. }) => prop_assert!(!extends),
            // From a power of two the proof alone does not tell which side is another one.
            Err(WitnessRefusal::NotConsistent { .. }) => {
                prop_assert!(!extends && seen.is_power_of_two());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    /// Its text is read back as it was, and nothing panics on any other.
    #[test]
    fn a_submission_survives_its_text(old in 0_u64..300, more in 1_u64..40, at in 0_usize..400) {
        let submission = Naive::new(old + more, 0, 0).submission(old);
        let text = submission.to_text();
        prop_assert_eq!(&Submission::parse(&text).unwrap(), &submission);
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 0x10;
        if let Ok(Ok(damaged)) = String::from_utf8(bytes).map(|text| Submission::parse(&text)) {
            let verdict = damaged.judge(&[log_key(1)], Naive::new(old, 0, 0).seen());
            prop_assert!(verdict.is_err() || damaged == submission);
        }
    }
}

#[test]
fn what_is_submitted_wrongly_is_refused_in_the_protocols_order() {
    let (five, nine) = (Naive::new(5, 0, 0), Naive::new(9, 0, 0));
    let good = nine.submission(5);
    let judge = |submission: &Submission, seen| submission.judge(&[log_key(1)], seen);
    judge(&good, five.seen()).unwrap();
    // Again, and at the same size, it is cosigned again.
    judge(&nine.submission(9), nine.seen()).unwrap();

    let elsewhere = Submission { note: good.note.replace("acme", "other"), ..good.clone() };
    let refused = judge(&elsewhere, five.seen());
    assert_eq!(refused, Err(WitnessRefusal::UnknownLog("stella.example/other".into())));

    let forged = Submission { note: nine.note(&signing_key(2)), old_size: 10, ..good.clone() };
    assert!(matches!(judge(&forged, five.seen()), Err(WitnessRefusal::NotSigned(_))));
    let restated = good.note.replacen("\n9\n", "\n8\n", 1);
    let restated = Submission { note: restated, ..good.clone() };
    assert!(matches!(judge(&restated, five.seen()), Err(WitnessRefusal::NotSigned(_))));

    let late = Submission { old_size: 10, ..good.clone() };
    let refused = judge(&late, five.seen());
    assert_eq!(refused, Err(WitnessRefusal::OldBeyondNew { old: 10, size: 9 }));
    let stale = judge(&good, nine.seen());
    assert_eq!(stale, Err(WitnessRefusal::OtherSize { size: 9 }));
    let first = judge(&good, Seen::default());
    assert_eq!(first, Err(WitnessRefusal::OtherSize { size: 0 }));

    let other = Naive::new(9, 3, 1);
    let refused = judge(&other.submission(9), nine.seen());
    let (seen, found) = (nine.seen(), other.root());
    assert_eq!(refused, Err(WitnessRefusal::Fork { seen, found, size: 9 }));
    let refused = judge(&other.submission(5), five.seen());
    let (seen, found) = (five.seen(), Naive::new(5, 3, 1).root());
    assert_eq!(refused, Err(WitnessRefusal::Fork { seen, found, size: 9 }));

    for proof in [vec![], vec![Hash32::from([7; 32]); good.proof.len()]] {
        let unproven = Submission { proof, ..good.clone() };
        let refused = judge(&unproven, five.seen());
        assert!(matches!(refused, Err(WitnessRefusal::NotConsistent { .. })), "{refused:?}");
    }
    // From nothing there is nothing to prove, and the empty tree has one root.
    let proof = vec![Hash32::from([7; 32])];
    let padded = Submission { proof, ..nine.submission(0) };
    let refused = judge(&padded, Seen::default());
    assert!(matches!(refused, Err(WitnessRefusal::NotConsistent { .. })), "{refused:?}");
    let ledger = ORIGIN.parse().unwrap();
    let nothing = Checkpoint { ledger, size: 0, root: Hash32::from([7; 32]) };
    let note = nothing.sign(&signing_key(1));
    let refused = judge(&Submission { old_size: 0, proof: vec![], note }, Seen::default());
    assert!(matches!(refused, Err(WitnessRefusal::Fork { .. })), "{refused:?}");
}

#[test]
fn a_text_that_is_no_submission_is_refused() {
    let note = Naive::new(9, 0, 0).note(&signing_key(1));
    let hash = STANDARD.encode([7; 32]);
    for (bad, line) in [
        (String::new(), 1),
        (note.clone(), 1),
        (format!("old 5\n{hash}\n{note}"), 3),
        (format!("old 05\n\n{note}"), 1),
        (format!("old +5\n\n{note}"), 1),
        (format!("old \n\n{note}"), 1),
        (format!("OLD 5\n\n{note}"), 1),
        (format!("old 5 \n\n{note}"), 1),
        (format!("old 18446744073709551616\n\n{note}"), 1),
        (format!("old 5\r\n\n{note}"), 1),
        (format!("old 5\n{hash}=\n\n{note}"), 2),
        (format!("old 5\n{hash}\n{}\n\n{note}", STANDARD.encode([7; 31])), 3),
        (format!("old 5\n{}\n{note}", format!("{hash}\n").repeat(64)), 65),
        (format!("old 5\n\n{}", " ".repeat(SUBMISSION_BYTES)), 1),
    ] {
        match Submission::parse(&bad) {
            Err(WitnessRefusal::Malformed { line: found, .. }) => assert_eq!(found, line, "{bad}"),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
    let most = format!("old 5\n{}\n{note}", format!("{hash}\n").repeat(63));
    assert_eq!(Submission::parse(&most).unwrap().proof.len(), 63);
    let empty = Submission::parse("old 5\n\n\n\n").unwrap();
    assert!(matches!(empty.origin(), Err(WitnessRefusal::Note(_))));
}

/// The example of C2SP tlog-checkpoint and one with a line of the log's own, under names that no
/// ledger of ours could have: anybody's log is witnessed.
#[test]
fn logs_that_are_not_ours_are_cosigned_whole() {
    let key = signing_key(3);
    let origin = "Log.example.com/2026/h1@x";
    let public = [&[1][..], key.verifying_key().as_bytes()].concat();
    let id: [u8; 4] = Sha256::new()
        .chain_update(origin)
        .chain_update([b'\n', 1])
        .chain_update(key.verifying_key().as_bytes())
        .finalize()[..4]
        .try_into()
        .unwrap();
    let vkey = format!("{origin}+{}+{}", const_hex::encode(id), STANDARD.encode(public));
    let known: LogKey = vkey.parse().unwrap();
    assert_eq!((known.name(), known.to_string()), (origin, vkey.clone()));
    let root = STANDARD.encode(merkle::root(&[]).as_bytes());
    let body = format!("{origin}\n0\n{root}\na line of its own\n");
    use ed25519_dalek::Signer as _;
    let signature = [&id[..], &key.sign(body.as_bytes()).to_bytes()].concat();
    let stranger = "— stranger AAAAAAE=\n";
    let own = format!("— {origin} {}\n", STANDARD.encode(signature));
    let note = format!("{body}\n{stranger}{own}");
    let submission = Submission { old_size: 0, proof: vec![], note };
    let approved = submission.judge(&[log_key(1), known.clone()], Seen::default()).unwrap();
    // Whoever else signed it is none of the witness's business.
    assert_eq!(approved.note, format!("{body}\n{own}"));

    let witness = WitnessKey::new("witness.example/w1", &signing_key(9)).unwrap();
    let line = approved.cosign("witness.example/w1", 1_700_000_000, &signing_key(9)).unwrap();
    let cosigned = format!("{}{line}", approved.note);
    let found =
        LogNote::parse(&cosigned).unwrap().cosigned_by(std::slice::from_ref(&witness)).unwrap();
    assert_eq!(found[0].unix_seconds, 1_700_000_000);
    let kept =
        |note: &str, origin, witness, keys: &[LogKey]| Seen::of_kept(note, origin, witness, keys);
    assert_eq!(kept(&cosigned, origin, &witness, &[]), Ok(Seen::default()));
    let renamed = WitnessKey::new("other", &signing_key(9)).unwrap();
    assert_eq!(
        kept(&cosigned, origin, &renamed, std::slice::from_ref(&known)),
        Ok(Seen::default())
    );
    kept(&cosigned, origin, &renamed, &[]).unwrap_err();
    kept(&cosigned, ORIGIN, &witness, std::slice::from_ref(&known)).unwrap_err();
    kept(&cosigned.replacen("\n0\n", "\n1\n", 1), origin, &witness, &[known]).unwrap_err();

    // A key for some sizes only.
    let bounded: LogKey = format!("{vkey}@1-8").parse().unwrap();
    assert_eq!(bounded.to_string(), format!("{vkey}@1-8"));
    let refused = submission.judge(&[bounded], Seen::default());
    assert!(matches!(refused, Err(WitnessRefusal::NotSigned(_))), "{refused:?}");
    for bad in [format!("{vkey}@8-1"), format!("x{vkey}"), format!("{vkey}@"), "x".to_owned()] {
        assert!(bad.parse::<LogKey>().is_err(), "{bad}");
    }
}

#[test]
fn a_nodes_own_checkpoint_takes_the_cosignature_and_nothing_else() {
    let (key, other) = (signing_key(8), signing_key(9));
    let witness = WitnessKey::new("w1", &key).unwrap();
    let approved = Naive::new(9, 0, 0).submission(0).judge(&[log_key(1)], Seen::default()).unwrap();
    let line = approved.cosign("w1", 5, &key).unwrap();
    let of_other = approved.cosign("w2", 5, &other).unwrap();
    let note = &approved.note;
    for answer in [line.clone(), format!("{of_other}{line}"), format!("junk\n{line}{of_other}")] {
        assert_eq!(cosignature_in(&answer, note, &witness), Ok(line.clone()));
    }
    // A line under its name and key id that does not hold, and none at all.
    let elsewhere = Naive::new(8, 0, 0).submission(0).judge(&[log_key(1)], Seen::default());
    let wrong = elsewhere.unwrap().cosign("w1", 5, &key).unwrap();
    for answer in [wrong, of_other, String::new(), "junk".into()] {
        assert!(cosignature_in(&answer, note, &witness).is_err(), "{answer}");
    }
    for (answer, size) in
        [("0\n", Some(0)), ("52\n", Some(52)), ("52", None), ("052\n", None), ("\n", None)]
    {
        assert_eq!(size_in(answer), size, "{answer:?}");
    }
}
