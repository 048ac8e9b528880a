//! Live logs, with their files looked at.

use std::{fs, path::Path, sync::Arc};

use rstest::rstest;
use stella_artifacts::{LiveLogs, LogError};
use stella_domain::{ids::FencingToken, limits::LOG_BYTES};

use crate::place::{On, Place, RUN, artifact};

fn token(n: u64) -> FencingToken {
    format!("{RUN}.{n}").parse().unwrap()
}

fn open(dir: &Path) -> Arc<LiveLogs> {
    Arc::new(LiveLogs::open(&dir.join("logs")).unwrap())
}

#[rstest]
#[tokio::test]
async fn a_log_grows_is_read_meanwhile_and_becomes_an_artifact(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
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

#[rstest]
#[tokio::test]
async fn logs_of_an_earlier_process_are_taken_up_and_swept_once_their_attempts_are_over(
    #[values(On::Folder, On::Bucket)] on: On,
) {
    let Some(place) = Place::on(on) else { return };
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
