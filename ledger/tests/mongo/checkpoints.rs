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

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_extend_is_refused() {
    let places = Mutex::new(vec![]);
    histories::what_does_not_extend_is_refused(async || {
        let place = Place::new().await;
        let ledger = place.ledger(MongoOptions::default()).await;
        ledger.setup().await.unwrap();
        places.lock().unwrap().push(place);
        Storage::of(ledger)
    })
    .await;
    for place in places.into_inner().unwrap() {
        place.leave().await;
    }
}
