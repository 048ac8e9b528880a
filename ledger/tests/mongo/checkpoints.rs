//! Checkpoints and tiles in MongoDB.

use std::sync::Mutex;

use stella_ledger::{checkpoints::conformance, mongo::MongoOptions, uri::Storage};

use crate::{Place, histories};

#[tokio::test(flavor = "multi_thread")]
async fn the_store_conforms() {
    let place = Place::new().await;
    conformance::suite(Storage::of(place.set_up().await).checkpoints).await;
    place.leave().await;
}

/// Databases of a test, which go with it.
#[derive(Default)]
struct Databases(Mutex<Vec<Place>>);

impl Databases {
    async fn fresh(&self) -> Storage {
        let place = Place::new().await;
        let ledger = place.ledger(MongoOptions::default()).await;
        ledger.setup().await.unwrap();
        self.0.lock().unwrap().push(place);
        Storage::of(ledger)
    }

    async fn leave(self) {
        for place in self.0.into_inner().unwrap() {
            place.leave().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_extend_is_refused() {
    let databases = Databases::default();
    histories::what_does_not_extend_is_refused(async || databases.fresh().await).await;
    databases.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_extend_what_was_seen_is_refused() {
    let databases = Databases::default();
    let fresh = async || databases.fresh().await;
    histories::what_does_not_extend_what_was_seen_is_refused(fresh).await;
    databases.leave().await;
}
