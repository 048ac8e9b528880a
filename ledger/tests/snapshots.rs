//! Snapshots as files: what was kept comes back, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::PathBuf};

use stella_domain::{
    hash::Hash32,
    ids::{StreamId, Tenant},
};
use stella_ledger::snapshots::{Snapshot, SnapshotFiles, Snapshots};
use tempfile::TempDir;

fn acme() -> Tenant {
    "acme".parse().unwrap()
}

fn stream() -> StreamId {
    "schedule/nightly".parse().unwrap()
}

fn snapshot(version: u64) -> Snapshot {
    let state = format!(r#"{{"seen":{version}}}"#);
    Snapshot { version, hash: Hash32::ZERO, state }
}

/// Keep one, and wait until it is there.
async fn kept(dir: &TempDir, version: u64) -> (SnapshotFiles, PathBuf) {
    let files = SnapshotFiles::new(dir.path().join("snapshots"));
    files.keep(&acme(), &stream(), snapshot(version));
    let kept = async {
        while files.newest(&acme(), &stream()).await != Some(snapshot(version)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), kept).await.expect("it is kept");
    (files, dir.path().join("snapshots/acme/schedule/nightly.json"))
}

#[tokio::test]
async fn the_newest_takes_the_place_of_the_one_before() {
    let dir = TempDir::new().unwrap();
    kept(&dir, 256).await;
    let (files, _) = kept(&dir, 512).await;
    let others = ["schedule/weekly", "dag/nightly"];
    for other in others {
        assert_eq!(files.newest(&acme(), &other.parse().unwrap()).await, None);
    }
    assert_eq!(files.newest(&"other".parse().unwrap(), &stream()).await, None);
}

#[tokio::test]
async fn what_is_spoilt_or_was_folded_by_other_code_is_not_taken() {
    let dir = TempDir::new().unwrap();
    let (files, path) = kept(&dir, 256).await;
    let whole = fs::read_to_string(&path).unwrap();
    let spoilt = [
        whole.replace(r#"{"seen":256}"#, r#"{"seen":257}"#),
        whole.replace(r#""foldVersion":"#, r#""foldVersion":9"#),
        whole.replace(env!("CARGO_PKG_VERSION"), "99.0.0"),
        whole[..whole.len() - 1].to_owned(),
        whole.lines().next().unwrap().to_owned(),
        String::new(),
    ];
    for text in spoilt {
        assert_ne!(text, whole);
        fs::write(&path, &text).unwrap();
        assert_eq!(files.newest(&acme(), &stream()).await, None, "{text}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(files.newest(&acme(), &stream()).await, Some(snapshot(256)));
}
