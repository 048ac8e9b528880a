//! Key files, and the rotation of a key.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use stella_domain::{
    chain::{Commit, Draft, Head},
    checkpoint::{Checkpoint, Keyring, PinnedKey, SigningKey, SigningKeyRotated, VerifierKey},
    event::{Event, LedgerEvent},
    hash::{Hash32, Salt},
    time::Timestamp,
};
use stella_ledger::{
    checkpoints::{SignerError, kept::Kept, keys},
    conformance::Samples,
};
use tempfile::TempDir;

use crate::{
    histories::{commits, config, id, key, open},
    storage,
};

/// The commit that records a rotation after `head`.
fn rotated(head: Head, version: u64, old: &SigningKey, new: &SigningKey) -> Arc<Commit> {
    let rotation = SigningKeyRotated::sign(&id(), old, new);
    recorded(head, version, rotation)
}

fn recorded(head: Head, version: u64, rotation: SigningKeyRotated) -> Arc<Commit> {
    let event = Event::Ledger(LedgerEvent::SigningKeyRotated(Box::new(rotation))).encode();
    let draft = Draft {
        stream: "ledger/acme".parse().unwrap(),
        stream_version: version,
        actor: "user:admin".parse().unwrap(),
        events: vec![(event, Salt::ZERO)],
    };
    let at = Timestamp::from_micros(head.recorded_at.as_micros() + 1);
    Arc::new(Commit::seal(&Arc::new(id()), &head, at, draft).unwrap())
}

fn write_key(path: &std::path::Path, key: &SigningKey) {
    fs::write(path, hex::encode(key.to_bytes())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_key_file_is_its_owners_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    let drawn = keys::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(keys::read(&path).unwrap().to_bytes(), drawn.to_bytes());
    let again = keys::create(&path).unwrap_err().to_string();
    assert!(again.contains("exists"), "{again}");
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = keys::read(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }
    let secret = "ab".repeat(31);
    let refused = keys::parse(&secret).unwrap_err().to_string();
    assert!(!refused.contains(&secret), "a key is not repeated in an error");
}

#[tokio::test]
async fn a_rotation_takes_effect_at_its_seq() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    storage.ledger.append(&commits(&mut samples, 10)).await.unwrap();
    let (signer, gate) = open(config(dir.path(), 1), &storage).await.unwrap();
    let before = signer.sign_new().await.unwrap().unwrap();

    let [old, new] = [1, 2].map(|seed| VerifierKey::new(id(), &key(seed)));
    // No file yet, then another key than was asked for.
    assert!(matches!(signer.rotation_to(&new).await, Err(SignerError::Key(_))));
    write_key(&dir.path().join("next-key"), &key(3));
    assert!(matches!(signer.rotation_to(&new).await, Err(SignerError::KeyMissing { .. })));
    write_key(&dir.path().join("next-key"), &key(2));
    let rotation = signer.rotation_to(&new).await.unwrap();
    assert_eq!(rotation, SigningKeyRotated::sign(&id(), &key(1), &key(2)));

    let head = samples.head();
    storage.ledger.append(&[recorded(head, 1, rotation)]).await.unwrap();
    let after = signer.sign_new().await.unwrap().unwrap();
    assert_eq!(after.checkpoint.size, head.next_seq + 1);
    let pins: Vec<String> = signer.pinned().await.0.iter().map(ToString::to_string).collect();
    let r = head.next_seq;
    assert_eq!(pins, [format!("{old}@0-{r}"), format!("{new}@{}-", r + 1)]);
    let pinned = |n: usize| stella_domain::checkpoint::Keyring(vec![pins[n].parse().unwrap()]);
    assert_eq!(pinned(0).verify(&before.note).unwrap(), before.checkpoint);
    assert_eq!(pinned(1).verify(&after.note).unwrap(), after.checkpoint);
    assert!(pinned(0).verify(&after.note).is_err());
    assert_eq!(gate.findings(), []);

    // The next start: with both files as they are, or with the new key alone; not with the old.
    open(config(dir.path(), 1), &storage).await.unwrap();
    open(config(dir.path(), 2), &storage).await.unwrap();
    fs::remove_file(dir.path().join("next-key")).unwrap();
    let (again, _) = open(config(dir.path(), 2), &storage).await.unwrap();
    again.sign_new().await.unwrap().unwrap();
    let refused = open(config(dir.path(), 1), &storage).await.err();
    assert!(matches!(refused, Some(SignerError::KeyMissing { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_node_without_the_new_key_stops_signing_and_goes_on_writing() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    storage.ledger.append(&commits(&mut samples, 3)).await.unwrap();
    let (signer, gate) = open(config(dir.path(), 1), &storage).await.unwrap();
    signer.sign_new().await.unwrap();
    let rotation = rotated(samples.head(), 1, &key(1), &key(2));
    storage.ledger.append(&[rotation]).await.unwrap();
    assert!(matches!(signer.sign_new().await, Err(SignerError::KeyMissing { .. })));
    assert_eq!(gate.closed(), None);
    assert_eq!(gate.findings()[0].code, "NOT_SIGNED");
    write_key(&dir.path().join("next-key"), &key(2));
    signer.sign_new().await.unwrap();
    assert_eq!(gate.findings(), []);
}

#[tokio::test]
async fn a_forged_rotation_closes_the_gate() {
    let dir = TempDir::new().unwrap();
    let storage = storage(dir.path()).await;
    let mut samples = Samples::new("acme");
    storage.ledger.append(&commits(&mut samples, 3)).await.unwrap();
    let (signer, gate) = open(config(dir.path(), 1), &storage).await.unwrap();
    signer.sign_new().await.unwrap();
    let forged = SigningKeyRotated {
        old_key: VerifierKey::new(id(), &key(1)),
        ..SigningKeyRotated::sign(&id(), &key(3), &key(2))
    };
    storage.ledger.append(&[recorded(samples.head(), 1, forged)]).await.unwrap();
    assert!(matches!(signer.sign_new().await, Err(SignerError::Rotation { .. })));
    assert_eq!(gate.closed().unwrap().code, "KEY_ROTATION_UNSOUND");
}

#[test]
fn of_what_is_kept_in_several_files_the_newest_counts_and_two_histories_stop_the_node() {
    let dir = TempDir::new().unwrap();
    let paths = ["one", "two"].map(|name| dir.path().join(name));
    let kept = Kept::new(paths.to_vec());
    let keyring = Keyring(vec![PinnedKey::always(VerifierKey::new(id(), &key(1)))]);
    let note = |size: u64, root: u8| {
        Checkpoint { ledger: id(), size, root: Hash32::from([root; 32]) }.sign(&key(1))
    };
    assert!(kept.is_empty() && kept.load(&keyring).unwrap().is_none());
    for (one, two, newest) in [(note(5, 1), note(7, 2), 7), (note(9, 1), note(7, 2), 9)] {
        fs::write(&paths[0], one).unwrap();
        fs::write(&paths[1], two).unwrap();
        assert_eq!(kept.load(&keyring).unwrap().unwrap().checkpoint.size, newest);
    }
    fs::write(&paths[1], note(9, 1)).unwrap();
    assert_eq!(kept.load(&keyring).unwrap().unwrap().checkpoint.size, 9);
    fs::write(&paths[1], note(9, 2)).unwrap();
    match kept.load(&keyring) {
        Err(SignerError::Forked { size, place, .. }) => {
            assert!(size == 9 && place.contains("two"), "{place}");
        }
        other => panic!("{other:?}"),
    }
}
