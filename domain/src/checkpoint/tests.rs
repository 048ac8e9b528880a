//! What is accepted as a signed checkpoint, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn checkpoint() -> Checkpoint {
    let ledger = "stella.example/acme".parse().unwrap();
    Checkpoint { ledger, size: 10, root: Hash32::from([0xa5; 32]) }
}

fn signed() -> (String, VerifierKey) {
    let (checkpoint, key) = (checkpoint(), signing_key(1));
    (checkpoint.sign(&key), VerifierKey::new(checkpoint.ledger, &key))
}

/// A note that really is signed, over a body that is not a checkpoint.
fn signed_body(body: &str) -> String {
    let (key, verifier) = (signing_key(1), signed().1);
    let mut bytes = verifier.id().to_vec();
    bytes.extend(key.sign(body.as_bytes()).to_bytes());
    format!("{body}\n— {} {}\n", verifier.ledger, STANDARD.encode(bytes))
}

#[test]
fn a_body_that_is_not_exactly_a_checkpoint_is_refused_although_signed() {
    let key = signed().1;
    let (good, root) = (checkpoint().body(), STANDARD.encode([0xa5; 32]));
    assert_eq!(verify(&signed_body(&good), &key), Ok(checkpoint()));
    let unpadded = root.trim_end_matches('=');
    for bad in [
        format!("stella.example/acme\n10\n{root}\nextension\n"),
        "stella.example/acme\n10\n".into(),
        format!("stella.example/acme\n010\n{root}\n"),
        format!("stella.example/acme\n+10\n{root}\n"),
        format!("stella.example/acme\n\n{root}\n"),
        format!("stella.example/acme\n1e1\n{root}\n"),
        format!("stella.example/acme\n18446744073709551616\n{root}\n"),
        format!("stella.example/acme\n10\n{unpadded}\n"),
        format!("stella.example/acme\n10\n{root}=\n"),
        // The same 32 bytes, but with bits set beyond them.
        format!("stella.example/acme\n10\n{}\n", root.replace("U=", "V=").replace("Q=", "R=")),
        format!("stella.example/acme\n10\n{}\n", STANDARD.encode([0; 31])),
        format!("stella.example/acme\r\n10\r\n{root}\r\n"),
        format!("\u{feff}{good}"),
        format!(" {good}"),
        format!("{good}\n"),
    ] {
        let verdict = verify(&signed_body(&bad), &key);
        assert!(
            matches!(verdict, Err(CheckpointError::Malformed { .. } | CheckpointError::Ledger(_))),
            "{bad:?}: {verdict:?}"
        );
    }
    let other = good.replace("acme", "other");
    let verdict = verify(&signed_body(&other), &key);
    assert!(matches!(verdict, Err(CheckpointError::OtherLedger { .. })), "{verdict:?}");
}

#[test]
fn signatures_are_found_among_others() {
    let (note, key) = signed();
    let other = checkpoint().sign(&signing_key(2));
    let other = &other[other.find('—').unwrap()..];
    let own = &note[note.find('—').unwrap()..];
    let body = format!("{}\n", checkpoint().body());
    let witness = "— witness.example/w1 AAAAAAE=\n";

    let note = format!("{body}{witness}{other}{own}");
    assert_eq!(verify(&note, &key), Ok(checkpoint()));
    assert_eq!(
        verify(&format!("{body}{witness}{other}"), &key),
        Err(CheckpointError::NotSigned { keys: key.to_string(), size: 10 })
    );
    // Own name and key id, and bytes that are no signature by the key.
    for bytes in [vec![1], vec![0; 64], vec![0; 72]] {
        let forged = STANDARD.encode([&key.id()[..], &bytes].concat());
        let forged = format!("— stella.example/acme {forged}\n");
        for note in [format!("{body}{forged}"), format!("{body}{own}{forged}")] {
            let verdict = verify(&note, &key);
            assert!(matches!(verdict, Err(CheckpointError::WrongSignature { .. })), "{verdict:?}");
        }
    }
    for malformed in [
        format!("{body}{}", own.trim_end()),
        format!("{body}{own}\n"),
        format!("{body}{own}trailing\n"),
        format!("{body}{own}{}", own.replace('—', "-")),
        format!("{body}{own}— two words AAAAAAE=\n"),
        format!("{body}{own}— name AAAAAAE\n"),
        format!("{body}{own}— name AAAAAA==\n"),
        format!("{body}{own}— a+b AAAAAAE=\n"),
        format!("{body}{own}— \tname AAAAAAE=\n"),
        format!("{body}{}{own}", witness.repeat(NOTE_SIGNATURES)),
        body.clone(),
        checkpoint().body(),
        note.replace('\n', "\r\n"),
        String::new(),
    ] {
        let verdict = verify(&malformed, &key);
        assert!(
            matches!(verdict, Err(CheckpointError::Malformed { .. })),
            "{malformed:?}: {verdict:?}"
        );
    }
    let long = format!("{body}{own}{}", " ".repeat(NOTE_BYTES));
    assert!(matches!(verify(&long, &key), Err(CheckpointError::TooLong(_))));
}

#[test]
fn verifier_keys_that_lie_are_refused() {
    let text = signed().1.to_string();
    assert_eq!(text.parse(), Ok(signed().1));
    let (head, base64) = text.rsplit_once('+').unwrap();
    let (name, id) = head.split_once('+').unwrap();
    let mut weak = vec![ED25519, 1];
    weak.resize(33, 0);
    let of = |key: &[u8]| format!("{head}+{}", STANDARD.encode(key));
    for (bad, rule) in [
        (format!("other.example/acme+{id}+{base64}"), "id does not belong"),
        (format!("{name}+00000000+{base64}"), "id does not belong"),
        (format!("{name}+{}+{base64}", id.to_uppercase()), "id does not belong"),
        (format!("Acme+{id}+{base64}"), "name is that of a ledger"),
        (format!("{name}+{base64}"), "three parts"),
        (format!("{text}="), "not base64"),
        (format!("{text}\n"), "not base64"),
        (of(&[ED25519; 32]), "32 bytes"),
        (of(&[4; 33]), "the byte 1"),
        (of(&weak), "no sound Ed25519 key"),
        (String::new(), "three parts"),
    ] {
        let error = bad.parse::<VerifierKey>().expect_err(&bad).to_string();
        assert!(error.contains(rule), "{bad:?}: {error}");
    }
}

#[test]
fn a_pinned_key_signs_within_its_range_only() {
    let (text, key) = signed();
    let note = Note::parse(&text).unwrap();
    for (range, holds) in [
        ("", true),
        ("@0-10", true),
        ("@10-10", true),
        ("@10-", true),
        ("@0-9", false),
        ("@11-", false),
    ] {
        let pinned: PinnedKey = format!("{key}{range}").parse().unwrap();
        assert_eq!(note.signed_by(std::slice::from_ref(&pinned)).is_ok(), holds, "{range}");
        assert_eq!(pinned.to_string().parse(), Ok(pinned));
    }
    for wrong in
        ["@", "@-", "@5", "@9-5", "@-5", "@a-", "@+1-", "@1-2-3", "@0-18446744073709551616"]
    {
        let error = format!("{key}{wrong}").parse::<PinnedKey>().expect_err(wrong).to_string();
        assert!(error.contains("FROM-TO"), "{wrong}: {error}");
    }
}

#[test]
fn after_a_rotation_either_key_speaks_for_its_sizes() {
    let (note, old) = signed();
    let new = VerifierKey::new(checkpoint().ledger, &signing_key(2));
    let own = checkpoint().sign(&signing_key(2));
    let both = format!("{note}{}", &own[own.find('—').unwrap()..]);
    let keys: Vec<PinnedKey> =
        [format!("{old}@0-9"), format!("{new}@10-")].iter().map(|k| k.parse().unwrap()).collect();
    assert_eq!(Note::parse(&both).unwrap().signed_by(&keys).unwrap().key, new);
    let beyond = Note::parse(&note).unwrap().signed_by(&keys).unwrap_err();
    assert!(matches!(beyond, CheckpointError::NotSigned { size: 10, .. }), "{beyond}");
    // A wrong line refuses the note, though the key need not have signed it.
    let zeros = STANDARD.encode([&old.id()[..], &[0; 64]].concat());
    let forged = both.replacen(note[note.rfind(' ').unwrap() + 1..].trim_end(), &zeros, 1);
    let wrong = Note::parse(&forged).unwrap().signed_by(&keys).unwrap_err();
    assert!(matches!(wrong, CheckpointError::WrongSignature { .. }), "{wrong}");
}

#[test]
fn witnesses_cosign_the_text_and_their_time() {
    let (note, key) = signed();
    let cosign = |name: &str, seed| checkpoint().cosign(name, 1_795_424_400, &signing_key(seed));
    let keys = [("w.example/a", 7), ("w.example/b", 8)]
        .map(|(name, seed)| WitnessKey::new(name, &signing_key(seed)).unwrap());
    let (a, b) = (cosign("w.example/a", 7).unwrap(), cosign("w.example/b", 8).unwrap());
    let names = |text: &str| {
        let found = Note::parse(text).unwrap().cosigned_by(&keys)?;
        Ok::<_, CheckpointError>(found.into_iter().map(|c| c.witness).collect::<Vec<_>>())
    };
    assert_eq!(names(&note), Ok(vec![]));
    assert_eq!(
        names(&format!("{note}{b}{a}{a}")),
        Ok(vec!["w.example/a".into(), "w.example/b".into()])
    );
    // The ledger's own key still holds beside them.
    assert_eq!(verify(&format!("{note}{b}{a}"), &key), Ok(checkpoint()));
    // Another time than the one that was signed.
    let (head, base64) = b.trim_end().rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(base64).unwrap();
    bytes[11] ^= 1;
    let forged = format!("{note}{a}{head} {}\n", STANDARD.encode(&bytes));
    assert!(matches!(names(&forged), Err(CheckpointError::WrongCosignature { line: 7, .. })));
    for witness in keys {
        assert_eq!(witness.to_string().parse(), Ok(witness.clone()));
        assert!(witness.to_string().parse::<VerifierKey>().is_err());
    }
    assert!(key.to_string().parse::<WitnessKey>().is_err());
    assert!(cosign("two words", 7).is_err() && cosign("", 7).is_err());
}

proptest! {
    #[test]
    fn sign_then_verify(
        origin in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?",
        tenant in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        size: u64,
        root: [u8; 32],
        seed: u8,
    ) {
        let ledger: LedgerId = format!("{origin}/{tenant}").parse().unwrap();
        let checkpoint = Checkpoint { ledger: ledger.clone(), size, root: root.into() };
        let verifier = VerifierKey::new(ledger, &signing_key(seed));
        let pinned: VerifierKey = verifier.to_string().parse().unwrap();
        prop_assert_eq!(verify(&checkpoint.sign(&signing_key(seed)), &pinned), Ok(checkpoint));
    }

    #[test]
    fn any_changed_byte_is_noticed(at: prop::sample::Index, byte in 0_u8..128) {
        let (note, key) = signed();
        let mut bytes = note.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(changed) = String::from_utf8(bytes) && changed != note {
            prop_assert!(verify(&changed, &key).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(
        text: String,
        lines in prop::collection::vec("(stella.example/acme|[0-9]{1,21}|— |[A-Za-z0-9+/=]{0,90}|.{0,9}| ){0,4}", 0..9),
    ) {
        let (note, key) = signed();
        for text in [&text, &lines.join("\n"), &format!("{note}{text}"), &format!("{text}{note}")] {
            let _ = verify(text, &key);
            let _ = text.parse::<PinnedKey>();
            let _ = text.parse::<WitnessKey>();
        }
    }
}

fn tree(size: u64) -> Checkpoint {
    Checkpoint { ledger: "stella.test/acme".parse().unwrap(), size, root: Hash32::ZERO }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

#[test]
fn a_rotation_holds_only_with_both_signatures_over_both_keys() {
    let ledger = tree(0).ledger;
    let rotation = SigningKeyRotated::sign(&ledger, &key(1), &key(2));
    assert_eq!(rotation.verify(), Ok(()));
    let other = SigningKeyRotated::sign(&ledger, &key(1), &key(3));
    let swapped = [
        SigningKeyRotated { old_signature: other.old_signature.clone(), ..rotation.clone() },
        SigningKeyRotated { new_signature: other.new_signature.clone(), ..rotation.clone() },
        SigningKeyRotated { new_key: other.new_key.clone(), ..rotation.clone() },
        SigningKeyRotated { old_signature: String::new(), ..rotation.clone() },
    ];
    for rotation in swapped {
        assert!(matches!(rotation.verify(), Err(CheckpointError::RotationSignature { .. })));
    }
    let same = SigningKeyRotated::sign(&ledger, &key(1), &key(1));
    assert_eq!(same.verify(), Err(CheckpointError::RotationKeys));
}
