//! The store, in a folder and in a bucket, with the bytes in it looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bucket;
mod logs;
mod place;
mod transfers;

use bytes::Bytes;
use futures::TryStreamExt as _;
use rstest::rstest;
use stella_artifacts::{ArtifactError, ArtifactStore, ArtifactUri, Checked};
use stella_domain::ids::{LedgerId, RunId};

use crate::{
    bucket::Op,
    place::{OTHER, On, Place, RUN, artifact, is_unavailable, large},
};

#[rstest]
#[tokio::test]
async fn what_is_put_is_where_the_format_says_and_comes_back(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    store.answers().await.unwrap();
    let one = place.put(b"one").await;
    assert_eq!(place.kept(&one).unwrap(), &b"one"[..]);
    assert_eq!(&*store.read(ledger, run, &one).await.unwrap(), b"one");
    let got = store.get(ledger, run, &one.digest).await.unwrap();
    assert_eq!(got.size, 3);
    let pieces: Vec<Bytes> = got.bytes.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"one");
    assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Whole);
    store.answers().await.unwrap();
    // A file is kept likewise, and once more changes nothing.
    place.put_file(&one, b"one").await.unwrap();
    let two = artifact(b"two");
    place.put_file(&two, b"two").await.unwrap();
    assert_eq!(&*store.read(ledger, run, &two).await.unwrap(), b"two");
    let other: RunId = OTHER.parse().unwrap();
    assert!(!store.has(ledger, &other, &one).await.unwrap(), "each run has its own");
    store.copy(ledger, run, &other, &one).await.unwrap();
    assert_eq!(&*store.read(ledger, &other, &one).await.unwrap(), b"one");
}

#[rstest]
#[tokio::test]
async fn a_large_file_comes_back_whole_and_leaves_nothing_half_done(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    let bytes = large();
    let one = artifact(&bytes);
    place.put_file(&one, &bytes).await.unwrap();
    assert_eq!(place.kept(&one).unwrap(), bytes);
    assert_eq!(store.read(ledger, run, &one).await.unwrap(), bytes);
    assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Whole);
    if let On::Bucket = on {
        let parts = [1, 2, 3, 4].map(|n| place.bucket().seen(Op::Part(n)));
        assert_eq!((parts, place.bucket().seen(Op::Put)), ([1, 1, 1, 0], 0));
        assert_eq!(place.bucket().uploads(), 0);
    }
}

/// Cut off, or changed since its digest was taken.
#[rstest]
#[tokio::test]
async fn a_file_that_is_not_what_it_is_said_to_be_is_not_kept(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    let (three, bytes) = (artifact(b"three"), large());
    for other in [&b"thre"[..], b"Three", b"", &bytes] {
        let put = place.put_file(&three, other).await;
        assert!(matches!(put, Err(ArtifactError::File(_))), "{put:?}");
        assert_eq!(place.kept(&three), None);
        assert!(!store.has(ledger, run, &three).await.unwrap());
    }
    if let On::Bucket = on {
        assert_eq!((place.bucket().seen(Op::Create), place.bucket().uploads()), (1, 0));
    }
}

#[rstest]
#[tokio::test]
async fn erasing_a_run_removes_all_that_it_has_and_nothing_else(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    let mut erased = vec![];
    for bytes in [&b"one"[..], b"two", b"three", b"four", b"five"] {
        erased.push(place.put(bytes).await);
    }
    let one = &erased[0];
    let other: RunId = OTHER.parse().unwrap();
    let tenant: LedgerId = "stella.test/main-2".parse().unwrap();
    store.copy(ledger, run, &other, one).await.unwrap();
    store.put(&tenant, run, one, Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(store.erase(ledger, run).await.unwrap(), 5);
    assert_eq!(store.erase(ledger, run).await.unwrap(), 0);
    for artifact in &erased {
        assert_eq!(place.kept(artifact), None);
        assert_eq!(store.check(ledger, run, artifact).await.unwrap(), Checked::Missing);
    }
    assert_eq!(store.check(ledger, &other, one).await.unwrap(), Checked::Whole);
    assert_eq!(store.check(&tenant, run, one).await.unwrap(), Checked::Whole);
}

#[rstest]
#[tokio::test]
async fn what_was_changed_or_removed_is_never_handed_out_as_if_it_were_whole(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    let one = place.put(b"one").await;
    for changed in [&b"One"[..], b"one ", b""] {
        place.change(&one, Some(changed));
        let read = store.read(ledger, run, &one).await;
        assert!(matches!(read, Err(ArtifactError::Corrupt { .. })), "{read:?}");
        let got = store.get(ledger, run, &one.digest).await.unwrap();
        let pieces: Result<Vec<Bytes>, _> = got.bytes.try_collect().await;
        assert!(pieces.is_err(), "{pieces:?}");
        let checked = store.check(ledger, run, &one).await.unwrap();
        assert!(matches!(checked, Checked::Corrupt(_)), "{checked:?}");
    }
    place.change(&one, None);
    let read = store.read(ledger, run, &one).await;
    assert!(matches!(read, Err(ArtifactError::Missing { .. })), "{read:?}");
    assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Missing);
    let copied = store.copy(ledger, run, &OTHER.parse().unwrap(), &one).await;
    assert!(matches!(copied, Err(ArtifactError::Missing { .. })), "{copied:?}");
}

#[test]
fn a_place_that_has_to_be_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("none");
    let opened = ArtifactStore::existing(&ArtifactUri::Folder(folder.clone()));
    assert!(is_unavailable(&opened), "{opened:?}");
    assert!(!folder.exists());
}

#[rstest]
#[tokio::test]
async fn a_store_that_is_gone_does_not_answer(#[values(On::Folder, On::Bucket)] on: On) {
    let Some(place) = Place::on(on) else { return };
    let Place { store, ledger, run, .. } = &place;
    let (one, two) = (place.put(b"one").await, artifact(b"two"));
    place.vanish();
    let (answers, got, checked, put, erased) = tokio::join!(
        store.answers(),
        store.get(ledger, run, &one.digest),
        store.check(ledger, run, &one),
        store.put(ledger, run, &two, Bytes::from_static(b"two")),
        store.erase(ledger, run),
    );
    assert!(is_unavailable(&answers));
    assert!(is_unavailable(&got), "it is not missing");
    assert!(is_unavailable(&checked), "{checked:?}");
    assert!(is_unavailable(&put));
    assert!(is_unavailable(&erased), "nothing is erased");
    assert!(!place.dir.path().join("a").exists(), "it is not made anew");
}

/// A kill in the middle of a write leaves one, which no list names.
#[tokio::test]
async fn a_file_that_was_being_written_is_erased_with_its_run() {
    let place = Place::on(On::Folder).unwrap();
    let one = place.put(b"one").await;
    let staged = place.dir.path().join("a/stella.test/main").join(RUN).join("ab#1");
    std::fs::write(&staged, "half of it").unwrap();
    assert_eq!(place.store.erase(&place.ledger, &place.run).await.unwrap(), 1);
    assert!(!staged.exists() && place.kept(&one).is_none());
}
