//! The store in a folder, and live logs, with the bytes on the disk looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt as _;
use stella_artifacts::{ArtifactError, ArtifactStore, ArtifactUri, Checked, LiveLogs, LogError};
use stella_domain::{
    artifact::{Artifact, ArtifactDigest},
    ids::{FencingToken, LedgerId, RunId},
    limits::LOG_BYTES,
};
use tempfile::TempDir;
use tokio::fs::File;

const RUN: &str = "0RQ9CWTXP9BPJR3KTYEG0MB9FF";
const OTHER: &str = "0RQ9CWTXP9BPJR3KTYEG0MB9FG";

struct Place {
    dir: TempDir,
    store: ArtifactStore,
    ledger: LedgerId,
    run: RunId,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&ArtifactUri::Folder(dir.path().join("a"))).unwrap();
    let ledger = "stella.test/main".parse().unwrap();
    Place { dir, store, ledger, run: RUN.parse().unwrap() }
}

fn artifact(bytes: &[u8]) -> Artifact {
    let digest = ArtifactDigest::of(bytes);
    Artifact { digest, media_type: "text/plain".into(), name: None, size: bytes.len() as u64 }
}

impl Place {
    fn file(&self, artifact: &Artifact) -> std::path::PathBuf {
        let name = artifact.digest.to_string();
        let name = name.strip_prefix("b3:").unwrap();
        self.dir.path().join("a/stella.test/main").join(RUN).join(name)
    }

    async fn put(&self, bytes: &'static [u8]) -> Artifact {
        let artifact = artifact(bytes);
        self.store.put(&self.ledger, &self.run, &artifact, Bytes::from(bytes)).await.unwrap();
        artifact
    }
}

#[tokio::test]
async fn what_is_put_is_where_the_format_says_and_comes_back() {
    let place = place();
    let Place { store, ledger, run, .. } = &place;
    let one = place.put(b"one").await;
    assert_eq!(fs::read(place.file(&one)).unwrap(), b"one");
    assert_eq!(&*store.read(ledger, run, &one).await.unwrap(), b"one");
    let got = store.get(ledger, run, &one.digest).await.unwrap();
    assert_eq!(got.size, 3);
    let pieces: Vec<Bytes> = got.bytes.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"one");
    assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Whole);
    // A file is kept likewise, and once more changes nothing.
    let file = place.dir.path().join("file");
    fs::write(&file, b"one").unwrap();
    store.put_file(ledger, run, &one, File::open(&file).await.unwrap()).await.unwrap();
    fs::write(&file, b"two").unwrap();
    let two = artifact(b"two");
    store.put_file(ledger, run, &two, File::open(&file).await.unwrap()).await.unwrap();
    assert_eq!(&*store.read(ledger, run, &two).await.unwrap(), b"two");
    // One that is not what it is said to be is not kept: cut off, or changed since its digest was taken.
    let three = artifact(b"three");
    for bytes in [&b"thre"[..], b"Three", b""] {
        fs::write(&file, bytes).unwrap();
        let put = store.put_file(ledger, run, &three, File::open(&file).await.unwrap()).await;
        assert!(matches!(put, Err(ArtifactError::File(_))), "{put:?}");
        assert!(!store.has(ledger, run, &three).await.unwrap());
    }
    let other: RunId = OTHER.parse().unwrap();
    assert!(!store.has(ledger, &other, &one).await.unwrap(), "each run has its own");
    store.copy(ledger, run, &other, &one).await.unwrap();
    assert_eq!(store.erase(ledger, run).await.unwrap(), 2);
    assert_eq!(store.erase(ledger, run).await.unwrap(), 0);
    assert!(!place.file(&one).exists());
    assert!(store.has(ledger, &other, &one).await.unwrap());
}

#[tokio::test]
async fn what_was_changed_or_removed_is_never_handed_out_as_if_it_were_whole() {
    let place = place();
    let Place { store, ledger, run, .. } = &place;
    let one = place.put(b"one").await;
    for changed in [&b"One"[..], b"one ", b""] {
        fs::write(place.file(&one), changed).unwrap();
        let read = store.read(ledger, run, &one).await;
        assert!(matches!(read, Err(ArtifactError::Corrupt { .. })), "{read:?}");
        let got = store.get(ledger, run, &one.digest).await.unwrap();
        let pieces: Result<Vec<Bytes>, _> = got.bytes.try_collect().await;
        assert!(pieces.is_err(), "{pieces:?}");
        let checked = store.check(ledger, run, &one).await.unwrap();
        assert!(matches!(checked, Checked::Corrupt(_)), "{checked:?}");
    }
    fs::remove_file(place.file(&one)).unwrap();
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
    assert!(matches!(opened, Err(ArtifactError::Unavailable { .. })), "{opened:?}");
    assert!(!folder.exists());
}

fn token(n: u64) -> FencingToken {
    format!("{RUN}.{n}").parse().unwrap()
}

fn open(dir: &Path) -> Arc<LiveLogs> {
    Arc::new(LiveLogs::open(&dir.join("logs")).unwrap())
}

#[tokio::test]
async fn a_log_grows_is_read_meanwhile_and_becomes_an_artifact() {
    let place = place();
    let live = open(place.dir.path());
    assert_eq!(live.close(&token(3)), None, "nothing was written");
    assert_eq!(live.append(&token(3), 0, b"one\n").unwrap(), 4);
    // Said again, and once more with a little that is new.
    assert_eq!(live.append(&token(3), 0, b"one\n").unwrap(), 4);
    assert_eq!(live.append(&token(3), 2, b"e\ntwo\n").unwrap(), 8);
    let gap = live.append(&token(3), 9, b"x");
    assert!(matches!(gap, Err(LogError::Gap { expected: 8 })), "{gap:?}");
    assert!(matches!(live.append(&token(4), 1, b"x"), Err(LogError::Gap { expected: 0 })));
    let part = live.read(&token(3), 4, 3).unwrap().unwrap();
    assert_eq!((&*part.bytes, part.size), (&b"two"[..], 8));
    assert_eq!(live.read(&token(3), 100, 3).unwrap().unwrap().bytes, b"");
    assert_eq!(live.read(&token(9), 0, 3).unwrap(), None);
    let closed = live.close(&token(3)).unwrap();
    assert_eq!(closed, artifact(b"one\ntwo\n"));
    assert!(matches!(live.append(&token(3), 8, b"x"), Err(LogError::Closed)));
    let settled = live.settle(&token(3), &place.store, &place.ledger).await.unwrap();
    assert_eq!(settled.as_ref(), Some(&closed));
    live.forget(&token(3));
    assert_eq!(live.close(&token(3)), Some(closed.clone()), "its end may be decided again");
    let kept = place.store.read(&place.ledger, &place.run, &closed).await.unwrap();
    assert_eq!(&*kept, b"one\ntwo\n");
    assert_eq!(fs::read_dir(live.folder()).unwrap().count(), 0);
}

#[tokio::test]
async fn logs_of_an_earlier_process_are_taken_up_and_swept_once_their_attempts_are_over() {
    let place = place();
    let live = open(place.dir.path());
    live.append(&token(3), 0, b"running").unwrap();
    live.append(&token(7), 0, b"over").unwrap();
    drop(live);
    // What a write left half done is not there for the next process to know: it begins after it.
    let live = open(place.dir.path());
    assert_eq!(live.append(&token(3), 0, b"running on").unwrap(), 10);
    live.sweep(&place.store, &place.ledger, |at| *at == token(3)).await.unwrap();
    assert_eq!(live.size(&token(3)), Some(10));
    assert_eq!(live.size(&token(7)), None);
    let kept = place.store.read(&place.ledger, &place.run, &artifact(b"over")).await.unwrap();
    assert_eq!(&*kept, b"over");
    live.erase(&place.run).unwrap();
    assert_eq!(live.close(&token(3)), None);
    assert_eq!(live.close(&token(7)), None);
    assert_eq!(fs::read_dir(live.folder()).unwrap().count(), 0);
}

#[test]
fn a_log_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let live = open(dir.path());
    let megabyte = vec![b'x'; 1024 * 1024];
    for i in 0..LOG_BYTES / megabyte.len() {
        live.append(&token(3), (i * megabyte.len()) as u64, &megabyte).unwrap();
    }
    let over = live.append(&token(3), LOG_BYTES as u64, b"x");
    assert!(matches!(over, Err(LogError::TooLarge)), "{over:?}");
    assert_eq!(live.close(&token(3)).unwrap().size, LOG_BYTES as u64);
}

#[tokio::test]
async fn a_store_that_is_gone_does_not_answer() {
    let place = place();
    place.store.answers().await.unwrap();
    let one = place.put(b"one").await;
    place.store.answers().await.unwrap();
    fs::rename(place.dir.path().join("a"), place.dir.path().join("b")).unwrap();
    let Place { store, ledger, run, .. } = &place;
    let unavailable = |error| matches!(error, Some(ArtifactError::Unavailable { .. }));
    assert!(unavailable(store.answers().await.err()));
    assert!(unavailable(store.get(ledger, run, &one.digest).await.err()), "it is not missing");
    let two = artifact(b"two");
    assert!(unavailable(store.put(ledger, run, &two, Bytes::from_static(b"two")).await.err()));
    assert!(unavailable(store.erase(ledger, run).await.err()), "nothing is erased");
    assert!(!place.dir.path().join("a").exists(), "it is not made anew");
}
