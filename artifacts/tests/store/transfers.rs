//! A bucket that breaks off, or refuses.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use hyper::StatusCode;
use rstest::rstest;
use stella_artifacts::{ArtifactError, Checked};

use crate::{
    bucket::Op,
    place::{OTHER, On, Place, artifact, is_unavailable, large},
};

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_where_it_was_or_ends_in_an_error() {
    let Some(place) = Place::on(On::Bucket) else { return };
    let Place { store, ledger, run, .. } = &place;
    let bytes = large();
    let one = artifact(&bytes);
    place.put_file(&one, &bytes).await.unwrap();
    place.bucket().break_off(&[Op::Get]);
    assert_eq!(store.read(ledger, run, &one).await.unwrap(), bytes);
    assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Whole);
    assert_eq!((place.bucket().seen(Op::Get), place.bucket().seen(Op::Range)), (2, 2));
    place.bucket().break_off(&[Op::Get, Op::Range]);
    let (read, checked, got) = tokio::join!(
        store.read(ledger, run, &one),
        store.check(ledger, run, &one),
        store.get(ledger, run, &one.digest)
    );
    assert!(is_unavailable(&read), "{read:?}");
    assert!(is_unavailable(&checked), "{checked:?}");
    let pieces: Vec<_> = got.unwrap().bytes.collect().await;
    assert!(pieces.last().unwrap().is_err());
    let had: usize = pieces.iter().flatten().map(Bytes::len).sum();
    assert!((1..bytes.len()).contains(&had), "{had}");
}

/// How an artifact gets into the store.
#[derive(Debug, Clone, Copy)]
enum Put {
    Bytes,
    File,
    LargeFile,
}

impl Put {
    /// Try it while `op` breaks off: nothing is there then, and later it succeeds.
    async fn broken_off(self, place: &Place, op: Op) -> Result<(), ArtifactError> {
        let Place { store, ledger, run, .. } = place;
        let bytes = if matches!(self, Self::LargeFile) { large() } else { b"one".to_vec() };
        let one = artifact(&bytes);
        let put = async || match self {
            Self::Bytes => store.put(ledger, run, &one, bytes.clone().into()).await,
            Self::File | Self::LargeFile => place.put_file(&one, &bytes).await,
        };
        place.bucket().break_off(&[op]);
        let broken_off = put().await;
        assert!(place.bucket().seen(op) > 1, "it is tried again by itself");
        assert_eq!(place.kept(&one), None);
        assert!(!store.has(ledger, run, &one).await.unwrap());
        assert_eq!(store.check(ledger, run, &one).await.unwrap(), Checked::Missing);
        place.bucket().break_off(&[]);
        put().await.unwrap();
        assert_eq!(store.read(ledger, run, &one).await.unwrap(), bytes);
        broken_off
    }
}

#[rstest]
#[case::bytes(Put::Bytes, Op::Put)]
#[case::a_file(Put::File, Op::Put)]
#[case::the_begin_of_an_upload(Put::LargeFile, Op::Create)]
#[case::its_last_part(Put::LargeFile, Op::Part(3))]
#[case::its_end(Put::LargeFile, Op::Complete)]
#[tokio::test]
async fn a_transfer_that_breaks_off_leaves_nothing_under_the_artifacts_name(
    #[case] put: Put,
    #[case] op: Op,
) {
    let Some(place) = Place::on(On::Bucket) else { return };
    let broken_off = put.broken_off(&place, op).await;
    assert!(is_unavailable(&broken_off), "{broken_off:?}");
    assert_eq!(place.bucket().uploads(), 0, "nor are there parts of it");
}

#[rstest]
#[case::forbidden(StatusCode::FORBIDDEN)]
#[case::failing(StatusCode::INTERNAL_SERVER_ERROR)]
#[case::no_such_bucket(StatusCode::NOT_FOUND)]
#[tokio::test]
async fn a_bucket_that_refuses_is_not_one_that_lacks_the_artifact(#[case] status: StatusCode) {
    let Some(place) = Place::on(On::Bucket) else { return };
    let Place { store, ledger, run, .. } = &place;
    let (one, two, other) = (place.put(b"one").await, artifact(b"two"), OTHER.parse().unwrap());
    place.bucket().refuse(status);
    let (answers, got, checked, has, put, copied, erased) = tokio::join!(
        store.answers(),
        store.get(ledger, run, &one.digest).map(|got| got.map(drop)),
        store.check(ledger, run, &one),
        store.has(ledger, run, &one),
        store.put(ledger, run, &two, Bytes::from_static(b"two")),
        store.copy(ledger, run, &other, &one),
        store.erase(ledger, run),
    );
    assert!(is_unavailable(&answers), "{answers:?}");
    assert!(is_unavailable(&put), "{put:?}");
    assert!(is_unavailable(&erased), "{erased:?}");
    assert!(is_unavailable(&got), "{got:?}");
    assert!(is_unavailable(&checked), "{checked:?}");
    assert!(is_unavailable(&has), "{has:?}");
    assert!(is_unavailable(&copied), "{copied:?}");
    assert!(place.kept(&one).is_some(), "nothing is erased");
}
